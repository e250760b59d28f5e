package lint

import (
	"reflect"
	"strings"

	"github.com/meshproof/meshproof/internal/rulebook"
	"github.com/meshproof/meshproof/scenarios"
)

// shown looks for rules that do not exist.
func (l *linter) shown(s *scenarios.Scenario) {
	for _, claim := range scenarios.NewPlan(&scenarios.Set{Scenarios: []*scenarios.Scenario{s}}, nil).Claims() {
		for _, id := range claim.Shows {
			if !rulebook.Known(id) && !strings.HasPrefix(id, "DOC-") {
				l.found(unknownRule, claim.Source, "%s is no rule of the rule book", id)
			}
		}
	}
}

// mentions are the names that a scenario's streams, actions and claims use, by
// what they are names of.
type mentions struct {
	clients, workloads, connections map[string]bool
	// texts are all that stand in objects.
	texts map[string]bool
}

var (
	cellType   = reflect.TypeFor[scenarios.Cell]()
	objectType = reflect.TypeFor[scenarios.Object]()
)

// collect finds names in everything that is reachable from v, by the names of the
// fields in which they stand.
func (m *mentions) collect(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			m.collect(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			m.collect(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == cellType {
			m.clients[v.Interface().(scenarios.Cell).Client] = true
			return
		}
		if v.Type() == objectType {
			m.text(v.Interface().(scenarios.Object).Content)
			return
		}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if !field.IsExported() || name == "-" {
				continue
			}
			m.field(name, v.Field(i))
			m.collect(v.Field(i))
		}
	}
}

// text takes the texts that stand in an object.
func (m *mentions) text(value any) {
	switch value := value.(type) {
	case string:
		m.texts[value] = true
	case map[string]any:
		for _, inner := range value {
			m.text(inner)
		}
	case []any:
		for _, inner := range value {
			m.text(inner)
		}
	}
}

// field takes the names that a field of this name holds.
func (m *mentions) field(name string, v reflect.Value) {
	if names, is := v.Interface().([]string); is && name == "clients" {
		for _, client := range names {
			m.clients[client] = true
		}
	}
	text, is := v.Interface().(string) // a type of its own, as of fresh and reused, is no name
	if !is || text == "" {
		return
	}
	switch name {
	case "client":
		m.clients[text] = true
	case "target":
		workload, _, _ := strings.Cut(text, ":")
		m.workloads[workload] = true
	case "workload", "inside", "apart":
		m.workloads[text] = true
	case "connection":
		m.connections[text] = true
	}
}

// unused looks for parts that nothing names.
func (l *linter) unused(s *scenarios.Scenario) {
	m := mentions{clients: map[string]bool{}, workloads: map[string]bool{}, connections: map[string]bool{}, texts: map[string]bool{}}
	m.collect(reflect.ValueOf(s.Spec.Traffic))
	m.collect(reflect.ValueOf(s.Spec.Steps))
	m.collect(reflect.ValueOf(s.Spec.Clients))
	for _, client := range s.Spec.Clients {
		// Where nobody calls at all, a client is there for its namespace or account.
		if !m.clients[client.Name] && (len(m.clients) > 0 || len(s.Spec.Workloads) > 0) {
			l.found(unusedClient, client.Pos, "client %q never calls", client.Name)
		}
	}
	for i := range s.Spec.Workloads {
		w := &s.Spec.Workloads[i]
		used := m.workloads[w.Name] || m.texts[w.Name] // as the value of a label that an object selects by
		for name := range w.Components() {
			used = used || m.workloads[name]
		}
		if !used {
			l.found(unusedTarget, w.Pos, "workload %q is never called, nor named by a claim, an action or an object", w.Name)
		}
	}
	l.unusedCalls(s, m)
}

// unusedCalls looks for streams and connections that no claim is about.
func (l *linter) unusedCalls(s *scenarios.Scenario, m mentions) {
	changes := false
	for i := range s.Spec.Steps {
		step := &s.Spec.Steps[i]
		changes = changes || step.Changes()
		for j := range step.Actions {
			if start := step.Actions[j].Start; start != nil && !claimed(s, start.Name) {
				l.found(unusedStream, start.Pos, "no claim is about the stream %q", start.Name)
			}
			if hold := step.Actions[j].Hold; hold != nil && !m.connections[hold.Name] {
				l.found(unusedHold, hold.Pos, "no claim is about the connection %q", hold.Name)
			}
		}
	}
	for _, stream := range s.Spec.Traffic {
		if !changes && !claimed(s, stream.Name) {
			l.found(unusedStream, stream.Pos, "no step changes anything that the stream %q could notice", stream.Name)
		}
	}
}

// claimed says whether a claim is about the stream: by its name, or by what all
// calls together leave in counters and logs. That an action stops it is no claim.
func claimed(s *scenarios.Scenario, stream string) bool {
	return anyClaim(s, func(c *scenarios.Claim) bool {
		return c.Traffic != nil && c.Traffic.Stream == stream || c.Authz != nil || c.Metric != nil || c.Log != nil || c.Command != nil
	})
}

func anyClaim(s *scenarios.Scenario, is func(*scenarios.Claim) bool) bool {
	for i := range s.Spec.Steps {
		for j := range s.Spec.Steps[i].Claims {
			if is(&s.Spec.Steps[i].Claims[j]) {
				return true
			}
		}
	}
	return false
}

// awaited looks for writes that nothing waits for: neither they themselves, nor a
// later write, restart or healing.
func (l *linter) awaited(s *scenarios.Scenario) {
	var open []scenarios.Pos
	for i := range s.Spec.Steps {
		for j := range s.Spec.Steps[i].Actions {
			switch action := &s.Spec.Steps[i].Actions[j]; {
			case action.Wait == scenarios.WaitNone:
				open = append(open, action.Pos)
			case action.Changes():
				open = nil
			}
		}
	}
	for _, at := range open {
		l.found(neverAwaited, at, "nothing waits until this is in force: leave wait away here, or write something later that is waited for")
	}
}
