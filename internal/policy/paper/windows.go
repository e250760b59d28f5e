package paper

import (
	"fmt"
	"slices"

	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// Window is what the rules say of a stream's calls in a step, write by write.
type Window struct {
	Step   *scenarios.Step
	Stream *scenarios.Stream
	// Versions are the verdicts before the step and after each of its actions that
	// changes something.
	Versions []oracle.Verdict
	// Grouped says that some writes were made without waiting for those before:
	// states may be seen that are none of the versions.
	Grouped bool

	client  oracle.Client
	request oracle.Request
}

// Told says that calls of the stream can tell some version of the step from
// another.
func (w *Window) Told() bool {
	first := asked.Kinds(w.Versions[0], w.client, w.request.Protocol)
	return slices.ContainsFunc(w.Versions, func(v oracle.Verdict) bool {
		return !slices.Equal(first, asked.Kinds(v, w.client, w.request.Protocol))
	})
}

// open looks at the streams before a step that changes something. A stream to a
// workload that is deployed later has no windows until then.
func (p *Play) open(step *scenarios.Step) []*Window {
	if !step.Changes() {
		return nil
	}
	var windows []*Window
	for i := range p.Scenario.Spec.Traffic {
		stream := &p.Scenario.Spec.Traffic[i]
		target, err := p.Scenario.Target(stream.Target, stream.Protocol)
		if err != nil {
			failf("stream %s: %w", stream.Name, err)
		}
		if p.pods[target.Component] == nil {
			continue
		}
		w := &Window{Step: step, Stream: stream, client: p.caller(stream.Request), request: p.request(stream.Request)}
		w.Versions = []oracle.Verdict{p.verdict(w)}
		windows = append(windows, w)
	}
	return windows
}

// look adds what holds after an action.
func (p *Play) look(windows []*Window, action *scenarios.Action) {
	if !action.Changes() {
		return
	}
	for _, w := range windows {
		w.Versions = append(w.Versions, p.verdict(w))
		w.Grouped = w.Grouped || action.Wait == scenarios.WaitNone || len(action.Apply) > 1 || len(action.Delete) > 1 || action.Manifest != ""
	}
}

func (p *Play) verdict(w *Window) oracle.Verdict {
	port, pod := p.target(w.Stream.Target, w.Stream.Protocol)
	return p.oracle().Judge(pod, port, w.client, w.request)
}

// compare holds what is written of a stream against the versions.
func (p *Play) compare(w *Window) {
	if p.SawWindow != nil {
		p.SawWindow(*w)
	}
	differs := func(at scenarios.Pos, format string, args ...any) {
		p.Differs(scenarios.Claim{Pos: at, Name: w.Stream.Name}, fmt.Sprintf(format, args...))
	}
	settled := func(list scenarios.StreamExpects, phase scenarios.Phase, verdict oracle.Verdict) {
		for _, one := range list {
			if one.Stream != w.Stream.Name {
				continue
			}
			p.Asked["window"]++
			fits := func(expected string) bool { return p.gets(expected, w, verdict) }
			if !slices.ContainsFunc(one.Expect, fits) {
				differs(one.Pos, "%s the change it is said to be %s, and the oracle says %s\n%s", phase, one.Expect, verdict.Outcome, chain(verdict))
			}
		}
	}
	settled(w.Step.Before, scenarios.Before, w.Versions[0])
	settled(w.Step.After, scenarios.After, w.Versions[len(w.Versions)-1])
	for _, one := range w.Step.During {
		if one.Stream == w.Stream.Name {
			p.Asked["course"]++
			if why := w.contradicts(one.Course); why != "" {
				differs(one.Pos, "during the change it is said to be %s, and %s", one.Course, why)
			}
		}
	}
}

// gets says whether a call with the verdict can have the outcome that is expected.
func (p *Play) gets(expected string, w *Window, verdict oracle.Verdict) bool {
	for _, kind := range (scenarios.Expect{expected}).Kinds(w.Stream.Protocol) {
		if asked.CanBe(kind, verdict, w.client, w.request.Protocol) {
			return true
		}
	}
	return false
}

// contradicts says why a course cannot be, by the versions; empty when it can.
func (w *Window) contradicts(course scenarios.Course) string {
	var allowed []bool
	for _, version := range w.Versions {
		allowed = append(allowed, version.Allowed())
	}
	// window says whether there is a version of one kind between two of the other.
	window := func(allows bool) bool {
		first, last := slices.Index(allowed, !allows), len(allowed)-1
		for last >= 0 && allowed[last] == allows {
			last--
		}
		return first >= 0 && slices.Contains(allowed[first:last+1], allows)
	}
	switch course {
	case scenarios.NeverDenied:
		if at := slices.Index(allowed, false); at >= 0 {
			return fmt.Sprintf("the oracle denies it %s\n%s", w.at(at), chain(w.Versions[at]))
		}
	case scenarios.NeverAllowed:
		if at := slices.Index(allowed, true); at >= 0 {
			return fmt.Sprintf("the oracle lets it through %s\n%s", w.at(at), chain(w.Versions[at]))
		}
	case scenarios.WindowOfDenials:
		if !window(false) && !w.Grouped {
			return "the oracle denies it at no time between two at which it lets it through"
		}
	case scenarios.WindowOfGrants:
		if !window(true) && !w.Grouped {
			return "the oracle lets it through at no time between two at which it denies it"
		}
	}
	return ""
}

// at says when a version holds.
func (w *Window) at(version int) string {
	switch version {
	case 0:
		return "before the first write"
	case len(w.Versions) - 1:
		return "after the last write"
	}
	return fmt.Sprintf("after write %d", version)
}
