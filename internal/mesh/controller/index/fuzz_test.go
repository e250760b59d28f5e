package index

import (
	"math/rand/v2"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// drawn takes choices off bytes; used up, it takes the first of everything.
type drawn []byte

func (d *drawn) below(n int) int {
	if len(*d) == 0 {
		return 0
	}
	c := (*d)[0]
	*d = (*d)[1:]
	return int(c) % n
}

func draw[T any](d *drawn, from ...T) T { return from[d.below(len(from))] }

// The few keys and values, so that selectors and labels meet often.
func (d *drawn) key() string { return draw(d, "app", "tier", "example.org/app", "App") }

func (d *drawn) value() string { return draw(d, "web", "", "WEB", "web-1") }

func (d *drawn) values() []string {
	values := [][]string{nil, {}}[d.below(2)]
	for range d.below(4) {
		values = append(values, d.value())
	}
	return values
}

func (d *drawn) labels() map[string]string {
	var made map[string]string
	for range d.below(4) {
		if made == nil {
			made = map[string]string{}
		}
		made[d.key()] = d.value()
	}
	return made
}

// FuzzSelector: a selector that Kubernetes has a meaning for selects the same sets
// of labels here, and one that it refuses selects nothing. Here a list of values
// that is there and empty is not the same as none (C-08).
func FuzzSelector(f *testing.F) {
	for operator := range byte(7) {
		// One requirement: without a list, with an empty one, with a value.
		f.Add([]byte{0, 1, 0, 0, 0, operator, 1, 0, 0, 0, 1, 0, 1})
		f.Add([]byte{0, 1, 0, 1, 0, operator, 1, 0, 0, 0, 1, 0, 1})
		f.Add([]byte{0, 1, 0, 0, 1, 0, operator, 1, 0, 0, 0, 1, 0, 1})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		seed := make([]byte, 32)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		d := drawn(bytes)
		ours := &api.LabelSelector{MatchLabels: d.labels()}
		theirs := &metav1.LabelSelector{MatchLabels: ours.MatchLabels}
		refused := false
		for range d.below(4) {
			key, values := d.key(), d.values()
			operator := draw(&d, api.In, api.NotIn, api.Exists, api.DoesNotExist, "Gt", "in", "")
			ours.MatchExpressions = append(ours.MatchExpressions, api.SelectorRequirement{Key: key, Operator: operator, Values: values})
			if empty := values != nil && len(values) == 0; empty && operator == api.NotIn {
				continue // every label is none of these
			} else if empty && (operator == api.Exists || operator == api.DoesNotExist) {
				refused = true // Kubernetes does not tell it from no list
			}
			theirs.MatchExpressions = append(theirs.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: values})
		}
		selector, err := metav1.LabelSelectorAsSelector(theirs)
		refused = refused || err != nil
		for range 4 {
			of := d.labels()
			want := !refused && selector.Matches(labels.Set(of))
			if got := matches(ours, of); got != want {
				t.Errorf("%+v matches %v: %v, want %v", ours, of, got, want)
			}
		}
	})
}
