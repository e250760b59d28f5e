package timelines

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/timeline"
)

// maker makes one time line.
type maker struct {
	r     *history.Recording
	v     *transition.Verdict
	line  timeline.Timeline
	texts map[string]int
	pods  map[string]int
	// places are where the recording's requests stand in the line.
	places []int
	// kept is where the scenario's logs are.
	kept evidence
}

func us(d time.Duration) int64 { return d.Microseconds() }

// text is the place of a text, which stands once.
func (m *maker) text(s string) int {
	at, known := m.texts[s]
	if !known {
		at = len(m.line.Texts)
		m.texts[s] = at
		m.line.Texts = append(m.line.Texts, s)
	}
	return at
}

// pod is the place of a proxy, -1 of none.
func (m *maker) pod(name string) int {
	if name == "" {
		return -1
	}
	at, known := m.pods[name]
	if !known {
		at = len(m.line.Proxies)
		m.pods[name] = at
		m.line.Proxies = append(m.line.Proxies, timeline.Proxy{Pod: name})
	}
	return at
}

func (m *maker) make() (*timeline.Timeline, error) {
	r, line := m.r, &m.line
	*line = timeline.Timeline{Scenario: r.Scenario, Began: r.Began, Budget: us(r.Budget), Slack: us(r.Slack)}
	m.pods = map[string]int{}
	m.text("")
	for _, p := range r.Proxies {
		at := m.pod(p.Pod)
		line.Proxies[at].Born, line.Proxies[at].Gone = us(p.Born), us(p.Gone)
	}
	for i, s := range r.Streams {
		line.Streams = append(line.Streams, m.stream(i, s))
	}
	for _, s := range r.Steps {
		line.Steps = append(line.Steps, timeline.Step{Name: s.Name, From: us(s.From), To: us(s.To)})
		line.End = max(line.End, us(s.To))
	}
	for _, w := range r.Writes {
		one := timeline.Write{Step: w.Step, Group: w.Group, Verb: w.Verb, Object: w.Kind + "/" + w.Name, Call: us(w.Call), Ack: us(w.Ack), Observed: us(w.Observed)}
		for _, f := range w.InForce {
			one.InForce = append(one.InForce, timeline.InForce{Proxy: m.pod(f.Pod), Port: f.Port, At: us(f.At)})
		}
		line.Writes = append(line.Writes, one)
		line.End = max(line.End, one.Ack)
	}
	for _, h := range r.Holds {
		line.Holds = append(line.Holds, timeline.Hold{Name: h.Name, Client: h.ClientKind, Proxy: m.pod(h.Pod), Opened: us(h.Opened), Closed: us(h.Closed), LastEcho: us(h.LastEcho)})
		line.End = max(line.End, us(h.Closed), us(h.LastEcho))
	}
	m.requests()
	for _, f := range r.Faults {
		one := timeline.Fault{Name: f.Name, Kind: f.Kind, From: us(f.From), To: us(f.To)}
		if f.To == 0 {
			one.To = line.End
		}
		line.End = max(line.End, one.To)
		for _, pod := range f.Proxies {
			one.Proxies = append(one.Proxies, m.pod(pod))
		}
		line.Faults = append(line.Faults, one)
	}
	m.findings()
	m.logs()
	if err := m.expected(); err != nil {
		return nil, err
	}
	// A step that was under way when the recording ended goes to its end.
	for i := range line.Steps {
		if line.Steps[i].To < line.Steps[i].From {
			line.Steps[i].To = line.End
		}
	}
	return line, nil
}

func (m *maker) stream(i int, s history.Stream) timeline.Stream {
	one := timeline.Stream{Name: s.Name, Client: whose(s.Client), Class: s.ClientKind, Target: s.Target, Protocol: s.Protocol,
		Connection: cmp.Or(s.Connection, "fresh"), Rate: s.Rate, Sent: s.Sent, Missed: s.Missed}
	for _, rate := range m.v.Rates {
		if rate.Stream == i {
			one.Achieved = rate.Reached
		}
	}
	for step, span := range m.r.Steps {
		if span.FirstWrite == 0 {
			continue
		}
		if w := m.v.WindowAt(step, i, transition.During); w != nil && w.To > w.From {
			one.Windows = append(one.Windows, timeline.Window{Step: span.Name, Sent: w.Requests, Informative: w.Seen, Wanted: transition.MinSamples})
		}
	}
	return one
}

// whose names a client for people: by its identity's first parts, else by its
// address.
func whose(c oracle.Client) string {
	if name, cluster, found := strings.Cut(c.Identity, ".serviceaccount."); found && cluster != "" {
		return name
	}
	if c.Identity != "" {
		return c.Identity
	}
	if c.Address.IsValid() {
		return c.Address.String()
	}
	return string(c.Way)
}

// requests fills the columns, in the order of the calls.
func (m *maker) requests() {
	order := make([]int, len(m.r.Requests))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.r.Requests[a].Start, m.r.Requests[b].Start) })
	m.places = make([]int, len(order))
	c := &m.line.Requests
	before := int64(0)
	for place, i := range order {
		q := &m.r.Requests[i]
		m.places[i] = place
		at := us(q.Start)
		c.Call, c.Took = append(c.Call, at-before), append(c.Took, max(us(q.End)-at, 0))
		before = at
		m.line.End = max(m.line.End, us(q.End))
		c.Stream, c.Proxy = append(c.Stream, q.Stream), append(c.Proxy, m.pod(q.Pod))
		c.Outcome, c.Class = append(c.Outcome, m.text(outcome(q))), append(c.Class, classOf(q.Kind))
		c.Record, c.Hash = append(c.Record, m.text(record(q.Record))), append(c.Hash, m.text(q.Hash))
		c.Delivered, c.ID = append(c.Delivered, q.Delivered), append(c.ID, q.ID)
	}
}

// outcome is what the client saw, in words.
func outcome(q *history.Request) string {
	switch {
	case q.GRPCStatus > 0:
		return fmt.Sprintf("%s (grpc-status %d)", q.Kind, q.GRPCStatus)
	case q.HTTPStatus > 0:
		return fmt.Sprintf("%s (HTTP %d)", q.Kind, q.HTTPStatus)
	}
	return string(q.Kind)
}

// record is what the proxy kept of its decision, in words.
func record(r *history.Record) string {
	if r == nil {
		return ""
	}
	text := r.Verdict
	for _, by := range []string{r.Server, r.Route, r.Authorization} {
		if by != "" {
			text += ", " + by
		}
	}
	if r.Protocol != "" {
		text += " (taken for " + r.Protocol + ")"
	}
	return text
}

// classOf is how an answer is drawn. An answer of the proxy that refuses is a
// denial in whatever form; one that may come from anywhere is none.
func classOf(kind clients.Kind) timeline.Class {
	switch kind {
	case clients.Allowed:
		return timeline.Allowed
	case clients.Unavailable, clients.ProtocolError, clients.Timeout, clients.Other:
		return timeline.Unclear
	}
	return timeline.Denied
}

func (m *maker) findings() {
	for _, f := range m.v.Findings {
		one := timeline.Finding{Request: -1, Kind: string(f.Kind), At: us(f.From), Text: f.Text}
		if f.Side != transition.Other {
			one.Harm = string(f.Side)
		}
		if f.Request >= 0 {
			one.Request = m.places[f.Request]
		}
		m.line.Findings = append(m.line.Findings, one)
	}
}

// expected is what the rules say of every stream at every proxy that its
// requests came to, under every version.
func (m *maker) expected() error {
	type lane struct {
		stream int
		pod    string
	}
	came := map[lane]bool{}
	var lanes []lane
	for i := range m.r.Requests {
		if l := (lane{m.r.Requests[i].Stream, m.r.Requests[i].Pod}); l.pod != "" && !came[l] {
			came[l] = true
			lanes = append(lanes, l)
		}
	}
	c := m.v.Case()
	for _, l := range lanes {
		for version := range len(m.r.Writes) + 1 {
			verdicts, err := c.Said(l.stream, version, l.pod)
			if err != nil {
				return err
			}
			if len(verdicts) == 0 {
				continue
			}
			var words []string
			for _, v := range verdicts {
				words = append(words, said(v))
			}
			m.line.Expected = append(m.line.Expected, timeline.Expected{Stream: l.stream, Proxy: m.pod(l.pod), Version: version,
				Outcome: m.text(strings.Join(words, " or ")), Why: m.text(chain(verdicts[len(verdicts)-1]))})
		}
	}
	return nil
}

// said is a verdict in words.
func said(v oracle.Verdict) string {
	for _, by := range []oracle.Label{v.Authorization, v.Server} {
		if by.Kind != "" {
			return fmt.Sprintf("%s by %s", v.Outcome, by)
		}
	}
	return string(v.Outcome)
}

// chain are the rules' reasons, one per line.
func chain(v oracle.Verdict) string {
	var lines []string
	for _, step := range v.Steps {
		sign := "✗"
		if step.Holds {
			sign = "✓"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", step.Rule, sign, step.Text))
	}
	return strings.Join(lines, "\n")
}

// changes are the brackets of this recording.
func (m *maker) changes() []timeline.Change {
	var all []timeline.Change
	for _, b := range m.v.Brackets {
		if !b.Measures() { // it says how long a fault lasted, or that nobody called
			continue
		}
		all = append(all, timeline.Change{Scenario: m.r.Scenario, Step: m.r.Writes[b.Write].Step, Kind: b.Transition, Class: b.Class, Proxy: b.Pod, Old: us(b.Low), New: us(b.High)})
	}
	return all
}
