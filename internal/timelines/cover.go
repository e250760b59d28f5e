package timelines

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/rulebook"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

// cover counts what was seen of the policy space: rules by client class and
// protocol.
type cover struct {
	cells map[string]map[timeline.Column]timeline.Cell
	// shows are the rules that claims of a scenario show of a stream.
	shows map[string]map[string][]string
	// writes counts the changes by kind and verb; any says that there were
	// recordings.
	writes map[string]int
	any    bool
}

func newCover(run *result.Run) *cover {
	c := &cover{cells: map[string]map[timeline.Column]timeline.Cell{}, shows: map[string]map[string][]string{}, writes: map[string]int{}}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for j := range s.Steps {
			for _, claim := range s.Steps[j].Claims {
				name, phase, found := strings.Cut(claim.Name, " ")
				if !found || phase == "" {
					continue
				}
				if c.shows[s.Name] == nil {
					c.shows[s.Name] = map[string][]string{}
				}
				c.shows[s.Name][name] = append(c.shows[s.Name][name], claim.Shows...)
			}
		}
	}
	return c
}

// see counts answers of one kind.
func (c *cover) see(rule string, column timeline.Column, class timeline.Class, n int) {
	if class == timeline.Unclear {
		return
	}
	if c.cells[rule] == nil {
		c.cells[rule] = map[timeline.Column]timeline.Cell{}
	}
	cell := c.cells[rule][column]
	if class == timeline.Allowed {
		cell.Allowed += n
	} else {
		cell.Denied += n
	}
	c.cells[rule][column] = cell
}

// question counts one call, by what its claim shows.
func (c *cover) question(q *history.Question) {
	switch q.Form {
	case history.Call, history.Held, history.Probe:
		column := timeline.Column{Class: string(q.Client.Way), Protocol: string(q.Request.Protocol)}
		if q.Form == history.Probe {
			column = timeline.Column{Class: "kubelet", Protocol: "probe"}
		}
		for _, rule := range q.Shows {
			c.see(rule, column, classOf(q.Observed.Kind), 1)
		}
	case history.Rate:
		for _, rule := range q.Shows {
			for _, sent := range q.Observed.Sent {
				flow := q.Flows[sent.Flow]
				c.see(rule, timeline.Column{Class: string(flow.Client.Way), Protocol: string(flow.Request.Protocol)}, classOf(sent.Kind), 1)
			}
		}
	}
}

// recording counts requests by the rules that decide them, where it is known
// which version was in force, and by what the claims about their stream show.
func (c *cover) recording(r *history.Recording, v *transition.Verdict) error {
	c.any = true
	for _, w := range r.Writes {
		c.writes[w.Kind+" "+w.Verb]++
	}
	type key struct {
		stream, version int
		pod             string
		kind            clients.Kind
	}
	counts := map[key]int{}
	settled := settledAt(r)
	for i := range r.Requests {
		q := &r.Requests[i]
		if version := settled(q.Start, q.End); version >= 0 && q.Pod != "" {
			counts[key{q.Stream, version, q.Pod, q.Kind}]++
		}
	}
	for k, n := range counts {
		verdicts, err := v.Case().Said(k.stream, k.version, k.pod)
		if err != nil {
			return err
		}
		if len(verdicts) != 1 {
			continue
		}
		s := &r.Streams[k.stream]
		column := timeline.Column{Class: string(s.Client.Way), Protocol: string(s.Request.Protocol)}
		rules := deciding(verdicts[0])
		rules = append(rules, c.shows[r.Scenario][s.Name]...)
		slices.Sort(rules)
		for _, rule := range slices.Compact(rules) {
			c.see(rule, column, classOf(k.kind), n)
		}
	}
	return nil
}

// deciding are the rules of the steps that led to a verdict.
func deciding(v oracle.Verdict) []string {
	var rules []string
	for _, step := range v.Steps {
		if step.Holds {
			rules = append(rules, step.Rule)
		}
	}
	return rules
}

// settledAt returns which version is known to have been in force everywhere from
// one moment to another; -1 while policy changed.
func settledAt(r *history.Recording) func(from, to time.Duration) int {
	return func(from, to time.Duration) int {
		version := 0
		for i, w := range r.Writes {
			done := max(w.Ack, w.Observed)
			for _, f := range w.InForce {
				done = max(done, f.At)
			}
			switch {
			case w.Call > to:
				return version
			case done > from || len(w.InForce) == 0 && w.Observed == 0:
				return -1
			}
			version = i + 1
		}
		return version
	}
}

// table is what a page shows: every rule in scope, and every column in which
// anything was seen.
func (c *cover) table() *timeline.Coverage {
	columns := map[timeline.Column]bool{}
	for _, cells := range c.cells {
		for column := range cells {
			columns[column] = true
		}
	}
	if len(columns) == 0 {
		return nil
	}
	ways, protocols := map[string]int{}, map[string]int{}
	for i, way := range oracle.Ways() {
		ways[string(way)] = i
	}
	for i, protocol := range oracle.Protocols() {
		protocols[string(protocol)] = i
	}
	place := func(order map[string]int, name string) int {
		if at, known := order[name]; known {
			return at
		}
		return len(order)
	}
	t := &timeline.Coverage{Columns: slices.SortedFunc(maps.Keys(columns), func(a, b timeline.Column) int {
		return cmp.Or(place(ways, a.Class)-place(ways, b.Class), strings.Compare(a.Class, b.Class), place(protocols, a.Protocol)-place(protocols, b.Protocol), strings.Compare(a.Protocol, b.Protocol))
	})}
	for _, rule := range rulebook.Rules() {
		if rule.OutOfScope != "" || rule.Unseen != "" {
			continue
		}
		row := timeline.Rule{ID: rule.ID, Text: rule.Text, Feature: string(rule.Feature)}
		for _, column := range t.Columns {
			row.Cells = append(row.Cells, c.cells[rule.ID][column])
		}
		t.Rules = append(t.Rules, row)
	}
	if c.any {
		t.Transitions = c.transitions()
	}
	return t
}

// transitions are the kinds of change, also those that nobody made.
func (c *cover) transitions() []timeline.Count {
	known := map[string]bool{}
	var all []timeline.Count
	add := func(name string) {
		if !known[name] {
			known[name] = true
			all = append(all, timeline.Count{Name: name, N: c.writes[name]})
		}
	}
	for _, kind := range objects.PolicyKinds() {
		for _, verb := range []string{"applied", "deleted"} {
			add(kind.Kind + " " + verb)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.writes)) {
		add(name)
	}
	return all
}
