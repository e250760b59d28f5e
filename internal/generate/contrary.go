package generate

import (
	"sync"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// contraries are the rules with one of them each turned into its contrary. A world
// in which a call comes to something else by such rules is one in which a mesh that
// has that rule wrong is found out.
var contraries = sync.OnceValue(func() []oracle.Rules {
	var all []oracle.Rules
	for _, negation := range oracle.Negations() {
		rules := oracle.DefaultRules()
		negation.Apply(&rules)
		all = append(all, rules)
	}
	return all
})

// sides are the contraries that a scenario has not told from the rules yet, by
// their places.
type sides struct{ left []int }

func newSides() *sides {
	s := &sides{}
	for at := range contraries() {
		s.left = append(s.left, at)
	}
	return s
}

// few are some of those that are left.
func (s *sides) few(r random) []int { return some(r, sidesTried, s.left...) }

// place is a call as claims name it: by its client, target and path.
type place [3]string

func (c cell) place() place { return place{c.client, c.target, c.path} }

// shown are the calls of which something else becomes in a state by some of the
// contraries, and those that are left when these are told.
func (s *sides) shown(sheet *paper, at *state, calls []*scenarios.Call, right []Answer, these []int) (places []place, left []int, err error) {
	told := map[int]bool{}
	for _, one := range these {
		wrong, err := sheet.judge(at, calls, contraries()[one])
		if err != nil {
			return nil, nil, err
		}
		for i := range wrong {
			if unlike(&right[i].Verdict, &wrong[i].Verdict) {
				places, told[one] = append(places, right[i].cell().place()), true
			}
		}
	}
	for _, one := range s.left {
		if !told[one] {
			left = append(left, one)
		}
	}
	return places, left, nil
}

// unlike says whether two verdicts can be told apart by what is observed of a call.
func unlike(a, b *oracle.Verdict) bool {
	return a.Outcome != b.Outcome || a.Authorization != b.Authorization || a.Server != b.Server || a.Route != b.Route
}
