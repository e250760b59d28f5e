package generate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
)

// Reduction makes a scenario smaller in one respect, and says in which. It
// reports whether there was anything to leave out; what it is given is its own.
type Reduction struct {
	What string
	// Whole says that it leaves out a whole object or action, and no detail of one.
	Whole bool
	Do    func(*scenarios.Scenario) bool
}

// Focus names the claim that told of a finding: by its step, and for a call by its
// cell. The zero Call is a claim about streams.
type Focus struct {
	Step string
	// Client, Target and Protocol of a call; Path and Method of its matrix.
	Client, Target string
	Protocol       scenarios.Protocol
	Method, Path   string
	// Stream of a claim about traffic.
	Stream string
}

// FocusOf is the claim at a place of a plan.
func FocusOf(planned *scenarios.PlannedScenario, step, claim int) Focus {
	f := Focus{Step: planned.Steps[step].Name}
	if claim < 0 || claim >= len(planned.Steps[step].Claims) {
		return f
	}
	c := planned.Steps[step].Claims[claim]
	if c.Call != nil {
		f.Client, f.Target, f.Protocol, f.Method, f.Path = c.Call.Client, c.Call.Target, c.Call.Protocol, c.Call.Method, c.Call.Path
	}
	if c.Claim.Window != nil {
		f.Stream = c.Claim.Window.Stream
	}
	return f
}

// Copy is a scenario that shares nothing with s.
func Copy(s *scenarios.Scenario) (*scenarios.Scenario, error) {
	planned, _, err := Plan(s)
	if err != nil {
		return nil, err
	}
	return planned.Scenario, nil
}

// Coarse are reductions that leave out most at once, the boldest first: each
// stands for itself, and the first that keeps the finding is taken.
func Coarse(f Focus) []Reduction {
	focused := func(s *scenarios.Scenario) bool {
		until(s, f.Step)
		ask(s, f, false)
		return true
	}
	return []Reduction{
		{What: "everything but the claim in the world that there was", Do: func(s *scenarios.Scenario) bool { return focused(s) && fold(s, f.Step, 0) }},
		{What: "the steps before the last", Do: func(s *scenarios.Scenario) bool { return focused(s) && fold(s, f.Step, 1) }},
		{What: "the steps before the last two", Do: func(s *scenarios.Scenario) bool { return focused(s) && fold(s, f.Step, 2) }},
		{What: "all other claims", Do: focused},
		{What: "all claims of other steps", Do: func(s *scenarios.Scenario) bool { until(s, f.Step); ask(s, f, true); return true }},
		{What: "the steps after it", Do: func(s *scenarios.Scenario) bool { return until(s, f.Step) }},
	}
}

// until leaves out the steps after one.
func until(s *scenarios.Scenario, step string) bool {
	at := slices.IndexFunc(s.Spec.Steps, func(one scenarios.Step) bool { return one.Name == step })
	if at < 0 || at == len(s.Spec.Steps)-1 {
		return false
	}
	s.Spec.Steps = s.Spec.Steps[:at+1]
	return true
}

// ask leaves the focused claim alone, or with all those of its step, and the
// focused stream.
func ask(s *scenarios.Scenario, f Focus, whole bool) {
	for i := range s.Spec.Steps {
		step := &s.Spec.Steps[i]
		if step.Name != f.Step {
			step.Claims = nil
			continue
		}
		if whole {
			continue
		}
		if f.Client == "" {
			step.Claims = nil // the stream's own remain
			continue
		}
		matrix := &scenarios.Matrix{Protocols: []scenarios.Protocol{f.Protocol}, Path: f.Path, Method: f.Method,
			Rows: []scenarios.Row{{Target: f.Target, Clients: []string{f.Client}}}}
		step.Claims = []scenarios.Claim{{Name: step.Claims[0].Name, Matrix: matrix}}
	}
	if whole {
		return
	}
	if f.Stream == "" {
		s.Spec.Traffic = nil
	} else {
		s.Spec.Traffic = slices.DeleteFunc(s.Spec.Traffic, func(one scenarios.Stream) bool { return one.Name != f.Stream })
	}
}

// fold makes one step, which applies what they come to, of all but the last steps
// up to the one named; of 0 last ones, the claims follow the world at once.
func fold(s *scenarios.Scenario, step string, last int) bool {
	at := slices.IndexFunc(s.Spec.Steps, func(one scenarios.Step) bool { return one.Name == step })
	folded := at + 1 - last
	if folded < 2 && last > 0 || folded < 1 {
		return false
	}
	state, err := played(s.Spec.Steps[:folded])
	if err != nil {
		return false
	}
	world := scenarios.Step{Name: "the world"}
	if objects := state.objects(); len(objects) > 0 {
		world.Actions = []scenarios.Action{{Apply: objects}}
	}
	if last == 0 {
		world.Name, world.Claims = s.Spec.Steps[at].Name, s.Spec.Steps[at].Claims
	}
	s.Spec.Steps = append([]scenarios.Step{world}, s.Spec.Steps[folded:]...)
	for i := range s.Spec.Workloads {
		w := &s.Spec.Workloads[i]
		into(&w.Labels, state.labels[w.Name])
		edited := maps.Clone(state.annotations[w.Name])
		delete(edited, api.DefaultPolicyAnnotation) // it stays as it was when the pod was created
		into(&w.Annotations, edited)
	}
	return true
}

func into(m *map[string]string, edits map[string]*string) {
	for key, value := range edits {
		if value == nil {
			delete(*m, key)
			continue
		}
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[key] = *value
	}
}

// played is the state after some steps.
func played(steps []scenarios.Step) (*state, error) {
	at := &state{}
	for i := range steps {
		at.step = i
		next, err := at.all(steps[i].Actions)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", steps[i].Name, err)
		}
		at = next
	}
	return at, nil
}

// objects are the state's, in the order of their creation.
func (s *state) objects() []scenarios.Object {
	sorted := slices.Clone(s.entries)
	slices.SortStableFunc(sorted, func(a, b *entry) int { return a.born - b.born })
	var out []scenarios.Object
	for _, e := range sorted {
		out = append(out, scenarios.Object{Content: e.manifest()})
	}
	return out
}

// Fine are reductions that leave out one thing each; several can be made together.
func Fine(s *scenarios.Scenario) []Reduction {
	var out []Reduction
	add := func(what string, do func(*scenarios.Scenario) bool) { out = append(out, Reduction{What: what, Do: do}) }
	whole := func(what string, do func(*scenarios.Scenario) bool) {
		out = append(out, Reduction{What: what, Whole: true, Do: do})
	}
	for i, step := range s.Spec.Steps {
		for j := range step.Actions {
			for k, o := range step.Actions[j].Apply {
				name := text(o.Content, "kind") + " " + text(o.Content, "metadata", "name")
				whole("object "+name, func(s *scenarios.Scenario) bool { return drop(s, i, j, k) })
			}
			if step.Actions[j].Apply == nil {
				whole(fmt.Sprintf("action %d of step %q", j+1, step.Name), func(s *scenarios.Scenario) bool {
					s.Spec.Steps[i].Actions[j] = scenarios.Action{}
					return true
				})
			}
		}
	}
	for i, w := range s.Spec.Workloads {
		if w.Replicas > 1 {
			add("replicas of "+w.Name, func(s *scenarios.Scenario) bool { s.Spec.Workloads[i].Replicas = 0; return true })
		}
		for j := range w.Ports {
			add("a port of "+w.Name, func(s *scenarios.Scenario) bool { s.Spec.Workloads[i].Ports[j] = scenarios.Declaration{}; return true })
		}
		for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
			add("label "+key+" of "+w.Name, func(s *scenarios.Scenario) bool { delete(s.Spec.Workloads[i].Labels, key); return true })
		}
		for _, key := range slices.Sorted(maps.Keys(w.Annotations)) {
			add("annotation "+key+" of "+w.Name, func(s *scenarios.Scenario) bool { delete(s.Spec.Workloads[i].Annotations, key); return true })
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Spec.Annotations)) {
		add("annotation "+key+" of the namespace", func(s *scenarios.Scenario) bool { delete(s.Spec.Annotations, key); return true })
	}
	for i, stream := range s.Spec.Traffic {
		if len(s.Spec.Traffic) > 1 {
			add("stream "+stream.Name, func(s *scenarios.Scenario) bool { s.Spec.Traffic[i].Name = ""; return true })
		}
	}
	return out
}

// Fields are reductions that leave out one field, entry of a list or label of an
// object each.
func Fields(s *scenarios.Scenario) []Reduction {
	var out []Reduction
	for i, step := range s.Spec.Steps {
		for j := range step.Actions {
			a := &step.Actions[j]
			for k := range a.Apply {
				for _, path := range removable(a.Apply[k].Content) {
					out = append(out, Reduction{What: fmt.Sprintf("%s of %s", path, text(a.Apply[k].Content, "metadata", "name")), Do: func(s *scenarios.Scenario) bool {
						return len(s.Spec.Steps) > i && len(s.Spec.Steps[i].Actions) > j && len(s.Spec.Steps[i].Actions[j].Apply) > k &&
							cut(s.Spec.Steps[i].Actions[j].Apply[k].Content, strings.Split(path, "\x1f"))
					}})
				}
			}
		}
	}
	for i := range out {
		out[i].What = strings.ReplaceAll(out[i].What, "\x1f", ".")
	}
	return out
}

// Halve halves the rate of all streams.
func Halve(s *scenarios.Scenario) bool {
	done := false
	for i := range s.Spec.Traffic {
		if s.Spec.Traffic[i].Rate >= 2*leastRate {
			s.Spec.Traffic[i].Rate /= 2
			done = true
		}
	}
	return done
}

// leastRate is below which a stream tells nothing of a change.
const leastRate = 10

// removable are the paths of what may be left out of an object, parts apart by
// the unit separator.
func removable(o object) []string {
	var out []string
	var walk func(value any, path string)
	walk = func(value any, path string) {
		switch value := value.(type) {
		case object:
			for _, key := range slices.Sorted(maps.Keys(value)) {
				out = append(out, path+"\x1f"+key)
				walk(value[key], path+"\x1f"+key)
			}
		case []any:
			for i, one := range value {
				if len(value) > 1 {
					out = append(out, path+"\x1f"+strconv.Itoa(i))
				}
				walk(one, path+"\x1f"+strconv.Itoa(i))
			}
		}
	}
	walk(o["spec"], "spec")
	if metadata, ok := o["metadata"].(object); ok {
		walk(metadata["labels"], "metadata\x1flabels")
	}
	return out
}

// goneEntry marks an entry of a list that is to be left out, so that the places of the
// others stay until all are.
type goneEntry struct{}

// cut leaves out what is at a path.
func cut(at any, path []string) bool {
	switch value := at.(type) {
	case object:
		if len(path) == 1 {
			_, there := value[path[0]]
			delete(value, path[0])
			return there
		}
		return cut(value[path[0]], path[1:])
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(value) {
			return false
		}
		if len(path) == 1 {
			value[i] = goneEntry{}
			return true
		}
		return cut(value[i], path[1:])
	}
	return false
}

// swept is a value without what was left out of its lists.
func swept(value any) any {
	switch value := value.(type) {
	case object:
		for key, inner := range value {
			value[key] = swept(inner)
		}
	case []any:
		kept := []any{}
		for _, inner := range value {
			if _, gone := inner.(goneEntry); !gone {
				kept = append(kept, swept(inner))
			}
		}
		return kept
	}
	return value
}

// drop leaves out an object of an apply; its place stays until all are.
func drop(s *scenarios.Scenario, step, action, at int) bool {
	s.Spec.Steps[step].Actions[action].Apply[at].Content = nil
	return true
}

// Reduced is a copy of s without what the reductions leave out, and without what
// has no meaning then: actions about objects that are not there, steps that do
// nothing, clients, workloads and ports of which nobody speaks. The error says why
// there is no such scenario.
func Reduced(s *scenarios.Scenario, by ...Reduction) (*scenarios.Scenario, error) {
	out, err := Copy(s)
	if err != nil {
		return nil, err
	}
	for _, r := range by {
		if !r.Do(out) {
			return nil, fmt.Errorf("there is nothing to leave out: %s", r.What)
		}
	}
	tidy(out)
	if _, err := played(out.Spec.Steps); err != nil {
		return nil, err
	}
	planned, after, err := Plan(out)
	if err != nil {
		return nil, err
	}
	before, err := Write(s)
	if err != nil {
		return nil, err
	}
	if string(before) == string(after) {
		return nil, fmt.Errorf("nothing is left out by %s", by[0].What)
	}
	return planned.Scenario, nil
}

// tidy leaves out what has no meaning any more.
func tidy(s *scenarios.Scenario) {
	at := &state{}
	var steps []scenarios.Step
	for i, step := range s.Spec.Steps {
		at.step = i
		var actions []scenarios.Action
		for _, a := range step.Actions {
			a.Apply = slices.DeleteFunc(a.Apply, func(o scenarios.Object) bool { return o.Content == nil })
			for j := range a.Apply {
				a.Apply[j].Content = swept(a.Apply[j].Content).(object)
				if metadata, ok := a.Apply[j].Content["metadata"].(object); ok {
					if labels, ok := metadata["labels"].(object); ok && len(labels) == 0 {
						delete(metadata, "labels")
					}
				}
			}
			if empty(&a) {
				continue
			}
			next, err := at.do(&a)
			if err != nil && a.Apply == nil {
				continue // what it is about is not there
			}
			if err == nil {
				at = next
			}
			actions = append(actions, a)
		}
		step.Actions = actions
		if len(step.Actions)+len(step.Claims) > 0 {
			steps = append(steps, step)
		}
	}
	s.Spec.Steps = steps
	s.Spec.Traffic = slices.DeleteFunc(s.Spec.Traffic, func(one scenarios.Stream) bool { return one.Name == "" })
	spoken := mentions(s)
	s.Spec.Clients = slices.DeleteFunc(s.Spec.Clients, func(c scenarios.Client) bool { return !spoken.clients[c.Name] })
	s.Spec.Workloads = slices.DeleteFunc(s.Spec.Workloads, func(w scenarios.Workload) bool { return !spoken.workloads[w.Name] })
	for i := range s.Spec.Workloads {
		w := &s.Spec.Workloads[i]
		w.Ports = slices.DeleteFunc(w.Ports, func(d scenarios.Declaration) bool { return d.Port == 0 })
	}
	// Actions about the pods of a workload that is gone.
	for i := range s.Spec.Steps {
		s.Spec.Steps[i].Actions = slices.DeleteFunc(s.Spec.Steps[i].Actions, func(a scenarios.Action) bool {
			for _, about := range []*scenarios.Annotate{a.Label, a.Annotate} {
				if about != nil && about.Workload != "" && !spoken.workloads[about.Workload] {
					return true
				}
			}
			return false
		})
	}
	s.Spec.Steps = slices.DeleteFunc(s.Spec.Steps, func(step scenarios.Step) bool { return len(step.Actions)+len(step.Claims) == 0 })
}

// empty says whether nothing is left of an action.
func empty(a *scenarios.Action) bool {
	return len(a.Apply) == 0 && a.Delete == nil && a.Patch == nil && a.Annotate == nil && a.Label == nil
}

// mentioned are the clients and workloads of which claims and streams speak.
type mentioned struct{ clients, workloads map[string]bool }

func mentions(s *scenarios.Scenario) mentioned {
	m := mentioned{map[string]bool{}, map[string]bool{}}
	call := func(r *scenarios.Request) {
		m.clients[r.Client] = true
		if target, err := s.Target(r.Target, r.Protocol); err == nil {
			m.workloads[target.Workload.Name] = true
		}
	}
	for i := range s.Spec.Steps {
		for j := range s.Spec.Steps[i].Claims {
			claim := &s.Spec.Steps[i].Claims[j]
			if claim.Call != nil {
				call(&claim.Call.Request)
			}
			if claim.Matrix != nil {
				for _, one := range claim.Matrix.Calls() {
					call(&one.Request)
				}
			}
		}
	}
	for i := range s.Spec.Traffic {
		call(&s.Spec.Traffic[i].Request)
	}
	return m
}

// Size is how large a scenario is.
type Size struct{ Objects, Steps, Clients, Bytes int }

// SizeOf counts the different policy objects that a scenario creates, its steps
// and clients, and the bytes of its objects.
func SizeOf(s *scenarios.Scenario) Size {
	size := Size{Steps: len(s.Spec.Steps), Clients: len(s.Spec.Clients)}
	names := map[string]bool{}
	for _, step := range s.Spec.Steps {
		for _, a := range step.Actions {
			for _, o := range a.Apply {
				names[text(o.Content, "apiVersion")+text(o.Content, "kind")+"/"+text(o.Content, "metadata", "name")] = true
				encoded, _ := json.Marshal(o.Content) // maps, lists and scalars only
				size.Bytes += len(encoded)
			}
		}
	}
	size.Objects = len(names)
	return size
}
