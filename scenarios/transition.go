package scenarios

import (
	"cmp"
	"slices"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"
)

// A scenario with spec.traffic is called all the time, and every step that changes
// something has three claims for each stream besides those that are written: what
// its calls get before the change, while it comes into force, and after it.

// DefaultBudget is how long after its acknowledgement a write may take to come
// into force at a proxy in a scenario that does not say it. A mesh that needs
// longer is found to be wrong.
const DefaultBudget = 5 * time.Second

// TransitionBudget is how long a write of the scenario may take to come into force.
func (s *Spec) TransitionBudget() time.Duration { return cmp.Or(s.Budget, DefaultBudget) }

// StreamExpects says what calls of streams get.
type StreamExpects []StreamExpect

// StreamExpect is a stream and what its calls get.
type StreamExpect struct {
	Pos
	Stream string
	Expect Expect
}

// StreamCourses says what becomes of streams during a change.
type StreamCourses []StreamCourse

// StreamCourse is a stream and what becomes of it during a change.
type StreamCourse struct {
	Pos
	Stream string
	Course Course
}

// Course is what becomes of a stream while a change comes into force.
type Course string

const (
	// OldOrNew: every answer is right by the policy before, after, or in between as it was written, and no proxy goes back. It holds whatever else is claimed.
	OldOrNew Course = "old-or-new"
	// NeverDenied: besides, no call is denied.
	NeverDenied Course = "allowed"
	// NeverAllowed: besides, no call is let through.
	NeverAllowed Course = "denied"
	// WindowOfDenials: besides, some calls are denied between calls that are let through.
	WindowOfDenials Course = "denied-window"
	// WindowOfGrants: besides, some calls are let through between calls that are denied.
	WindowOfGrants Course = "allowed-window"
)

// Values lists the closed set.
func (Course) Values() []string {
	return of(OldOrNew, NeverDenied, NeverAllowed, WindowOfDenials, WindowOfGrants)
}

// JSONSchema is the list.
func (v Course) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// Phase is a part of a step as a stream sees it.
type Phase string

// The phases, in order.
const (
	Before Phase = "before"
	During Phase = "during"
	After  Phase = "after"
)

// WindowClaim is a generated claim about what a stream sees in one phase of a step.
type WindowClaim struct {
	Stream string
	Phase  Phase
	// Expect is what is written of the phases before and after; nil: the rules say.
	Expect Expect
	// Course is what is written of the phase during, OldOrNew when nothing is.
	Course Course
}

// Name says what is claimed.
func (w *WindowClaim) Name() string {
	switch {
	case w.Phase == During && w.Course == OldOrNew:
		return w.Stream + " during: old or new"
	case w.Phase == During:
		return w.Stream + " during: " + string(w.Course)
	case len(w.Expect) > 0:
		return w.Stream + " " + string(w.Phase) + ": " + w.Expect.String()
	}
	return w.Stream + " " + string(w.Phase)
}

// Changes says whether the action changes something that streams could notice.
func (a *Action) Changes() bool { return a.Start == nil && a.Stop == nil && a.Hold == nil }

// Changes says whether any action of the step does.
func (s *Step) Changes() bool {
	return slices.ContainsFunc(s.Actions, func(a Action) bool { return a.Changes() })
}

// windows are the generated claims of a step, for each stream and phase.
func windows(s *Scenario, step *Step) []*Claim {
	if !step.Changes() {
		return nil
	}
	var out []*Claim
	add := func(at Pos, w WindowClaim) {
		out = append(out, &Claim{Pos: at, Name: w.Name(), Shows: step.Shows, Dialects: step.Dialects, Window: &w})
	}
	expected := func(list StreamExpects, stream string) (Pos, Expect) {
		for _, one := range list {
			if one.Stream == stream {
				return one.Pos, one.Expect
			}
		}
		return step.Pos, nil
	}
	for i := range s.Spec.Traffic {
		stream := s.Spec.Traffic[i].Name
		at, expect := expected(step.Before, stream)
		add(at, WindowClaim{Stream: stream, Phase: Before, Expect: expect})
		at, course := step.Pos, OldOrNew
		for _, one := range step.During {
			if one.Stream == stream {
				at, course = one.Pos, one.Course
			}
		}
		add(at, WindowClaim{Stream: stream, Phase: During, Course: course})
		at, expect = expected(step.After, stream)
		add(at, WindowClaim{Stream: stream, Phase: After, Expect: expect})
	}
	return out
}

// flows says whether a stream is one of spec.traffic.
func (s *Scenario) flows(stream string) bool {
	return slices.ContainsFunc(s.Spec.Traffic, func(one Stream) bool { return one.Name == stream })
}

// traffic checks the streams of the scenario.
func (v *validator) traffic() {
	seen := map[string]bool{}
	for i := range v.s.Spec.Traffic {
		stream := &v.s.Spec.Traffic[i]
		v.name(stream.Pos, "stream", stream.Name, seen)
		v.streams[stream.Name] = true
		v.request(stream.Pos, &stream.Request)
		v.pace(stream)
	}
	if v.s.Spec.Budget > 0 && len(v.s.Spec.Traffic) == 0 {
		v.add(v.s.Pos, "a budget is for what streams notice: give traffic, or remove budget")
	}
}

func (v *validator) pace(s *Stream) {
	if s.Rate <= 0 || s.Rate > 10000 {
		v.add(s.Pos, "rate %v: want more than 0 and at most 10000 calls per second", s.Rate)
	}
}

// windows checks what a step says of the streams.
func (v *validator) windows(step *Step) {
	var names []string
	for i := range v.s.Spec.Traffic {
		names = append(names, v.s.Spec.Traffic[i].Name)
	}
	for _, id := range step.Shows {
		v.shown(step.Pos, id)
	}
	if len(step.Shows) > 0 && (len(names) == 0 || !step.Changes()) {
		v.add(step.Pos, "the step has no claims about streams that could show anything: put shows on its claims")
	}
	check := func(at Pos, stream string, seen map[string]bool) {
		switch {
		case !v.s.flows(stream):
			v.add(at, "no stream of spec.traffic is called %q: %s", stream, didYouMean(stream, names))
		case seen[stream]:
			v.add(at, "the stream %q is given twice", stream)
		case !step.Changes():
			v.add(at, "the step changes nothing that a stream could notice: give actions, or remove this")
		}
		seen[stream] = true
	}
	for _, list := range []StreamExpects{step.Before, step.After} {
		seen := map[string]bool{}
		for _, one := range list {
			check(one.Pos, one.Stream, seen)
		}
	}
	seen := map[string]bool{}
	for _, one := range step.During {
		check(one.Pos, one.Stream, seen)
	}
}

func (e *StreamExpects) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected %s, found %s", e.describe(), found(n))
		return
	}
	for _, p := range d.pairs(n) {
		one := StreamExpect{Pos: d.pos(p.key), Stream: p.key.Value}
		one.Expect.decodeNode(d, resolved(p.value))
		*e = append(*e, one)
	}
}

func (StreamExpects) describe() string { return "a mapping from streams to outcomes" }

// JSONSchema maps streams to outcomes.
func (StreamExpects) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: Expect{}.JSONSchema()}
}

func (c *StreamCourses) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected %s, found %s", c.describe(), found(n))
		return
	}
	for _, p := range d.pairs(n) {
		value := resolved(p.value)
		if value.Kind != yaml.ScalarNode || !contains(Course("").Values(), value.Value) {
			d.fail(value, "expected one of %v, found %s: %s", Course("").Values(), found(value), didYouMean(value.Value, Course("").Values()))
			continue
		}
		*c = append(*c, StreamCourse{Pos: d.pos(p.key), Stream: p.key.Value, Course: Course(value.Value)})
	}
}

func (StreamCourses) describe() string { return "a mapping from streams to what becomes of them" }

// JSONSchema maps streams to courses.
func (StreamCourses) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: Course("").JSONSchema()}
}

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// MarshalYAML is the mapping, in the order of the list.
func (e StreamExpects) MarshalYAML() (any, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, one := range e {
		if err := entry(out, one.Stream, one.Expect); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// MarshalYAML is the mapping, in the order of the list.
func (c StreamCourses) MarshalYAML() (any, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, one := range c {
		if err := entry(out, one.Stream, string(one.Course)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// MarshalYAML is the outcome, or the list of outcomes.
func (e Expect) MarshalYAML() (any, error) {
	if len(e) == 1 {
		return e[0], nil
	}
	return []string(e), nil
}

// entry adds to a mapping.
func entry(to *yaml.Node, key string, value any) error {
	var node yaml.Node
	if err := node.Encode(value); err != nil {
		return err
	}
	to.Content = append(to.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &node)
	return nil
}
