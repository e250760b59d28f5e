package transition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/check"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Kind says what is wrong with a request or a connection.
type Kind string

// The kinds of findings. Those of internal/check keep their names.
const (
	Impossible = Kind(check.Impossible)
	Backwards  = Kind(check.Backwards)
	Stale      = Kind(check.Stale)
	Overstayed = Kind(check.Overstayed)
	Cut        = Kind(check.Cut)
	// Broken: the connection failed for no reason that anybody knows, and every
	// policy that can have been in force lets the request through.
	Broken Kind = "broken"
	// DeniedDelivered: the client was refused, and the application got the request
	// all the same (N7).
	DeniedDelivered Kind = "denied-delivered"
	// Lost: the client had an answer, and the application never got the request
	// (N7).
	Lost Kind = "lost"
	// Twice: the application got the request more than once (N7).
	Twice Kind = "twice"
)

// Kinds lists all of them; tables derive from it.
func Kinds() []Kind {
	return []Kind{Impossible, Backwards, Stale, Broken, DeniedDelivered, Lost, Twice, Overstayed, Cut}
}

// Side says to whom a finding does harm (N6).
type Side string

// The sides.
const (
	// Leak: something was let through that no policy in force lets through.
	Leak Side = "leak"
	// Outage: something was refused that every policy in force lets through.
	Outage Side = "outage"
	// Other: neither; the answer has the wrong form, or names the wrong reason.
	Other Side = "other"
)

// Finding is something that no policy explains.
type Finding struct {
	Kind Kind `json:"kind"`
	Side Side `json:"side"`
	// Request is its place in the recording, and -1 for a connection; Hold the
	// place of a connection, and -1 for a request.
	Request int `json:"request"`
	Hold    int `json:"hold"`
	// ID of the request, or the name of the connection.
	ID     string `json:"id"`
	Stream string `json:"stream"`
	// Pod that answered, as namespace/name; empty: unknown.
	Pod string `json:"pod,omitempty"`
	// Step in which it was called.
	Step string `json:"step,omitempty"`
	// From and To are its times.
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	// AtLeast and AtMost are the versions that can have decided it.
	AtLeast int `json:"atLeast"`
	AtMost  int `json:"atMost"`
	// Expected and Observed in words.
	Expected string `json:"expected"`
	Observed string `json:"observed"`
	// Text is all of it in a line.
	Text string `json:"text"`
	// Chain are the rules' reasons for what was expected, of the last version.
	Chain []string `json:"chain,omitempty"`
}

// add completes a finding and keeps it. let says that the request was let through.
func (v *Verdict) add(f Finding, let bool) error {
	r := v.c.Recording
	who := holder(f.Hold)
	if f.Request >= 0 {
		q := &r.Requests[f.Request]
		who = caller(q.Stream)
		f.ID, f.Stream, f.From, f.To = v.name(q), r.Streams[q.Stream].Name, q.Start, q.End
		f.Observed = observed(q.Kind, q.HTTPStatus, q.GRPCStatus)
		if q.Record != nil {
			f.Observed += fmt.Sprintf(" (the proxy recorded %s by %s)", q.Record.Verdict, cmp.Or(q.Record.Authorization, q.Record.Server, "nothing"))
		}
	} else {
		h := &r.Holds[f.Hold]
		f.ID, f.Stream, f.From, f.To = h.Name, h.Name, h.Opened, max(h.Closed, h.LastEcho)
	}
	f.Step = v.stepAt(f.From)
	pod := f.Pod
	if pod == "" && f.Request >= 0 {
		if pods := v.c.Pods(r.Streams[who].Target); len(pods) > 0 {
			pod = pods[0]
		}
	}
	through, not := true, true
	var words []string
	var last []oracle.Verdict
	for version := f.AtLeast; version <= f.AtMost && pod != ""; version++ {
		a := about{who, version, pod}
		yes, no, err := v.c.lets(a)
		if err != nil {
			return err
		}
		through, not = through && yes, not && no
		if last, err = v.c.ask(a); err != nil {
			return err
		}
		for _, one := range last {
			if word := said(one); !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	if len(last) > 0 {
		f.Chain = chain(last[len(last)-1])
	}
	f.Expected = strings.Join(words, " or ")
	if f.Side == "" {
		switch {
		case pod == "":
			f.Side = Other
		case let && not:
			f.Side = Leak
		case !let && through:
			f.Side = Outage
		default:
			f.Side = Other
		}
	}
	f.Text = v.text(&f)
	if f.Request >= 0 && v.traces[f.Request].finding < 0 {
		v.traces[f.Request].finding = len(v.Findings)
	}
	v.Findings = append(v.Findings, f)
	return nil
}

// name is by what people find a request.
func (v *Verdict) name(q *history.Request) string {
	return cmp.Or(q.ID, fmt.Sprintf("%s#%d", v.c.Recording.Streams[q.Stream].Name, q.Call))
}

// text is a finding in a line.
func (v *Verdict) text(f *Finding) string {
	versions := fmt.Sprintf("version %d gives", f.AtMost)
	if f.AtLeast < f.AtMost {
		versions = fmt.Sprintf("versions %d to %d give", f.AtLeast, f.AtMost)
	}
	where := ""
	if f.Pod != "" {
		where = " at " + f.Pod
	}
	what := fmt.Sprintf("request %s%s, %s to %s", f.ID, where, moment(f.From), moment(f.To))
	if f.Hold >= 0 {
		what = fmt.Sprintf("connection %s%s, open from %s to %s", f.ID, where, moment(f.From), moment(f.To))
	}
	label := string(f.Kind)
	if f.Side != Other {
		label += ", " + string(f.Side)
	}
	switch f.Kind {
	case DeniedDelivered, Lost, Twice, Overstayed, Cut:
		return fmt.Sprintf("%s: %s: %s", label, what, f.Observed)
	}
	return fmt.Sprintf("%s: %s: observed %s, and %s %s", label, what, f.Observed, versions, cmp.Or(f.Expected, "nothing of the kind"))
}

// moment is a time for people.
func moment(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// observed is an outcome in words.
func observed(kind clients.Kind, status, grpc int) string {
	switch {
	case grpc > 0:
		return fmt.Sprintf("%s (grpc-status %d)", kind, grpc)
	case status > 0:
		return fmt.Sprintf("%s (HTTP %d)", kind, status)
	}
	return string(kind)
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

// chain is the rules' reasons as lines for people.
func chain(v oracle.Verdict) []string {
	var lines []string
	for _, step := range v.Steps {
		lines = append(lines, fmt.Sprintf("rules: %s %s %s", step.Rule, map[bool]string{true: "✓", false: "✗"}[step.Holds], step.Text))
	}
	return lines
}

// stepAt is the step that was under way at a moment; before the first one it is
// empty.
func (v *Verdict) stepAt(at time.Duration) string {
	name := ""
	for _, s := range v.c.Recording.Steps {
		if s.From <= at {
			name = s.Name
		}
	}
	return name
}

// sort brings the findings into the order of their times.
func (v *Verdict) sort() {
	slices.SortStableFunc(v.Findings, func(a, b Finding) int { return cmp.Compare(a.From, b.From) })
	for i := range v.traces {
		v.traces[i].finding = -1
	}
	for i, f := range v.Findings {
		if f.Request >= 0 && v.traces[f.Request].finding < 0 {
			v.traces[f.Request].finding = i
		}
	}
}

// Leaks and Outages count the findings of a side.
func (v *Verdict) Leaks() int   { return v.side(Leak) }
func (v *Verdict) Outages() int { return v.side(Outage) }

func (v *Verdict) side(side Side) int {
	n := 0
	for _, f := range v.Findings {
		if f.Side == side {
			n++
		}
	}
	return n
}

// Failed reports whether the findings condemn: any that is no outage does, and
// outages that are more than the recording tolerates (N6).
func (v *Verdict) Failed() bool {
	outages := v.Outages()
	return len(v.Findings) > outages || outages > v.c.Recording.Outages
}
