package revision

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string) Revision {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAPolicyIsOlderWhenItLacksAChangeOfAnyKind(t *testing.T) {
	for _, row := range []struct{ name, held, comes, behind string }{
		{"the same", "a=100,b=90", "a=100,b=90", ""},
		{"newer in one", "a=100,b=90", "a=110,b=90", ""},
		{"newer in one and older in another", "a=100,b=90", "a=110,b=50", "b"},
		{"and the other way round", "a=110,b=50", "a=100,b=90", "a"},
		{"older in all", "a=100,b=90", "a=99,b=89", "a b"},
		{"complete to where it need be", "a=100,b=90", "a=20-100,b=20-95", ""},
		{"complete to just before", "a=100,b=90", "a=20-99,b=20-95", "a"},
		{"only complete up to less, and no change was lacking", "a=10-500,b=90", "a=10-20,b=90", ""},
		{"without a kind", "a=100,b=90", "b=200", "a"},
		{"with a kind more", "b=90", "a=1,b=90", ""},
		{"after nothing", "", "a=1", ""},
		{"with nothing", "a=1", "", "a"},
		{"highest", "a=18446744073709551615", "a=18446744073709551614", "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			behind := parse(t, row.comes).Behind(parse(t, row.held).Least())
			if got := strings.Join(behind, " "); got != row.behind {
				t.Errorf("%q after %q is behind in %q, want %q", row.comes, row.held, got, row.behind)
			}
		})
	}
}

// The relation that Behind is for, against a cluster of which everything is known:
// what is let through never shows less of any kind than what was in force.
func TestNothingThatIsLetThroughIsOlder(t *testing.T) {
	// Of a kind that changed at 2 and at 5, a cache complete up to v has the state
	// of the last change at or before v.
	state := func(v uint64) int {
		switch {
		case v < 2:
			return 0
		case v < 5:
			return 1
		}
		return 2
	}
	span := func(v uint64) Span { return Span{[]uint64{0, 2, 5}[state(v)], v} }
	const last = 7
	for a := range uint64(last) {
		for b := range uint64(last) {
			held, comes := New(map[string]Span{"k": span(a)}), New(map[string]Span{"k": span(b)})
			let := len(comes.Behind(held.Least())) == 0
			if older := state(b) < state(a); let == older {
				t.Errorf("complete up to %d after %d: let through %v, and it is older %v", b, a, let, older)
			}
		}
	}
}

func TestTextsAreReadAsTheyAreWritten(t *testing.T) {
	r := New(map[string]Span{"pods": {7, 9}, "httproutes.gateway.networking.k8s.io": {3, 3}, "servers": {}})
	const text = "httproutes.gateway.networking.k8s.io=3,pods=7-9,servers=0"
	if got := r.String(); got != text {
		t.Errorf("written %s", got)
	}
	if diff := cmp.Diff(r, parse(t, text)); diff != "" {
		t.Errorf("read: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(r, parse(t, "servers=0,pods=7-9,httproutes.gateway.networking.k8s.io=3-3")); diff != "" {
		t.Errorf("in another order: -want +got\n%s", diff)
	}
	least := r.Least()
	read, err := ParseLeast(least.String())
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(least, read); diff != "" {
		t.Errorf("least: -want +got\n%s", diff)
	}
	for _, kinds := range [][]string{nil, {"a"}, {"a", "b"}} {
		if got := ParseKinds(Kinds(kinds)); !slices.Equal(got, kinds) {
			t.Errorf("kinds %q read as %q", kinds, got)
		}
	}
}

func TestMalformedTextsAreRefused(t *testing.T) {
	many := ""
	for i := range maxKinds + 1 {
		many += fmt.Sprintf(",k%d=1", i)
	}
	for _, text := range []string{"a", "=1", "a=", "a=x", "a=1-", "a=-1", "a=2-1", "a=1,a=2", "a=1,", ",", "a=18446744073709551616", "a=1-2-3", many[1:]} {
		if r, err := Parse(text); !errors.Is(err, errForm) {
			t.Errorf("%.40q is read as %v, %v", text, r, err)
		}
	}
	parse(t, many[1:strings.LastIndexByte(many, ',')])
}

func TestBoundsAreJoinedAndForgotten(t *testing.T) {
	a, b := Least{"x": 1, "y": 5}, Least{"x": 3, "z": 2}
	if diff := cmp.Diff(Least{"x": 3, "y": 5, "z": 2}, a.With(b)); diff != "" {
		t.Errorf("both: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(Least{"x": 1}, a.Without([]string{"y", "w"})); diff != "" {
		t.Errorf("without y: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(Least{"x": 1, "y": 5}, a); diff != "" {
		t.Errorf("a was changed: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(Least{"x": 1}, Least(nil).With(Least{"x": 1})); diff != "" {
		t.Errorf("with nothing: -want +got\n%s", diff)
	}
}
