package lint

import (
	"strings"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/policy/paper"
	"github.com/meshproof/meshproof/scenarios"
)

// played looks for what shows when the scenario is played without a cluster.
func (l *linter) played(set *scenarios.Set, s *scenarios.Scenario) {
	if !l.dialect.For(s.Spec.Dialects) {
		return
	}
	play := paper.New(set, s, l.dialect)
	asked, denied := 0, false
	judged := func(verdict oracle.Verdict) {
		asked++
		denied = denied || !verdict.Allowed()
	}
	play.Differs = func(c scenarios.Claim, what string) {
		first, _, _ := strings.Cut(what, "\n")
		l.found(contradiction, c.Pos, "%s: %s", c.Name, first)
	}
	play.Saw = func(_ scenarios.Claim, verdict oracle.Verdict) { judged(verdict) }
	told := told{streams: map[string]bool{}, steps: map[*scenarios.Step]bool{}}
	play.SawWindow = func(w paper.Window) {
		for _, version := range w.Versions {
			judged(version)
		}
		told.add(w)
	}
	if err := play.Run(); err != nil {
		l.found(unplayable, s.Pos, "%v", err)
		return
	}
	if asked > 0 && !denied && !proves(s) {
		l.found(neverDenied, s.Pos, "nobody is denied at any time: a mesh without any policy would pass")
	}
	l.told(s, told)
}

// proves says whether a claim of the scenario could fail on a mesh without any
// policy though nobody is denied: one that names who grants, counts, or is about
// something else than calls.
func proves(s *scenarios.Scenario) bool {
	return anyClaim(s, func(c *scenarios.Claim) bool {
		return c.Call == nil && c.Matrix == nil && c.Traffic == nil || c.Call != nil && (c.Call.By != "" || c.NoOracle != "") || c.Matrix != nil && c.NoOracle != ""
	})
}

// told is which streams and steps have calls that can tell a version from another.
type told struct {
	streams map[string]bool
	steps   map[*scenarios.Step]bool
}

func (t *told) add(w paper.Window) {
	t.streams[w.Stream.Name] = t.streams[w.Stream.Name] || w.Told()
	t.steps[w.Step] = t.steps[w.Step] || w.Told()
}

// told looks for steps and streams that show nothing. Where something is written of
// during, that is meant; where more than policy changes, there is more to see than
// the rules know of.
func (l *linter) told(s *scenarios.Scenario, t told) {
	meant, more := map[string]bool{}, false
	for i := range s.Spec.Steps {
		step := &s.Spec.Steps[i]
		for _, one := range step.During {
			meant[one.Stream] = true
		}
		if !policyOnly(step) {
			more = true
			continue
		}
		if moved, seen := t.steps[step]; seen && !moved && len(step.During) == 0 && !step.Frozen {
			l.found(uninformative, step.Pos, "by the rules step %q changes nothing for any stream: say in during what is so all the time (allowed, denied, or old-or-new if that is meant), or let a client call that notices", step.Name)
		}
	}
	for _, stream := range s.Spec.Traffic {
		if moved, seen := t.streams[stream.Name]; seen && !moved && !meant[stream.Name] && !more {
			l.found(uninformative, stream.Pos, "by the rules no step changes anything for the stream %q: let it call something that changes, or say in during what is so all the time", stream.Name)
		}
	}
}

// policyOnly says whether the step's actions write objects and do nothing else:
// what a restart or a fault may break is not a matter of the rules.
func policyOnly(step *scenarios.Step) bool {
	for _, a := range step.Actions {
		if a.Changes() && a.Apply == nil && a.Delete == nil && a.Label == nil && a.Annotate == nil && (a.Patch == nil || a.Patch.Kind == "Deployment") {
			return false
		}
	}
	return true
}
