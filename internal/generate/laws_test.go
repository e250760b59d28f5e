package generate

import (
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func TestTwinsAreTheSameByTheRules(t *testing.T) {
	const scenarios = 600
	seen := map[Law]int{}
	for index := range scenarios {
		c, err := New(3, index)
		if err != nil {
			t.Fatal(err)
		}
		if c.Twin == nil {
			continue
		}
		seen[c.Law]++
		one, err := Play(c.Scenario, oracle.DefaultRules())
		if err != nil {
			t.Fatal(err)
		}
		twin, err := Play(c.Twin, oracle.DefaultRules())
		if err != nil {
			t.Fatalf("number %d, %s: %v", index, c.Law, err)
		}
		was := map[cell]bool{}
		for _, answer := range one[len(one)-1] {
			was[answer.cell()] = answer.Verdict.Allowed()
		}
		for _, answer := range twin[len(twin)-1] {
			if was[answer.cell()] != answer.Verdict.Allowed() {
				t.Errorf("number %d: after %s %s is %s", index, c.Law, answer.cell(), answer.Verdict.Outcome)
			}
		}
		if _, _, err := Plan(c.Twin); err != nil {
			t.Errorf("number %d: %v", index, err)
		}
	}
	for _, law := range Laws() {
		if seen[law] < 5 {
			t.Errorf("there were %d twins by %s", seen[law], law)
		}
	}
}
