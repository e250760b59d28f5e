package transition

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/check"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Verdict is what came out of a recording.
type Verdict struct {
	// Findings by the time of their requests.
	Findings []Finding
	// Counts of requests.
	Counts Counts
	// Brackets say when each change took effect, for each stream and pod that can
	// tell, and Skews how far the pods were apart.
	Brackets []Bracket
	Skews    []Skew
	// Ends are what became of the connections that were held.
	Ends []End
	// Rates are planned and reached, by stream.
	Rates []Rate

	c *Case
	// traces by the requests' places.
	traces []trace
	// calls of each stream by their start.
	calls [][]int
}

// Counts are requests by what could be learned of them.
type Counts struct {
	Requests int
	// Told are those about which a policy has said something.
	Told int
	// Unattributed are those of which it is not known which proxy answered: they
	// are held against N1 and N3 without N2.
	Unattributed int
	// Broken are those without an answer; Unavailable are the ones among them for
	// which there is a reason (a proxy was down, or a pod came or went), and Slow
	// those for which there is none and that had waited longer than patience. Gap is
	// the longest time in which a stream had nothing but unavailable answers.
	Broken, Unavailable, Slow int
	Gap                       time.Duration
}

// trace is what was found of one request.
type trace struct {
	answer answer
	span   check.Span
	// finding is the place of its first finding, or -1.
	finding int
	// slow says that it counts as Slow.
	slow bool
}

// Judge judges a recording by the rules. The worlds are those of its history. It
// may be asked about a recording that is not complete yet.
func Judge(r *history.Recording, worlds map[string]*history.World, rules oracle.Rules) (*Verdict, error) {
	c, err := New(r, worlds, rules)
	if err != nil {
		return nil, err
	}
	v := &Verdict{c: c, traces: make([]trace, len(r.Requests)), calls: make([][]int, len(r.Streams))}
	for i := range r.Requests {
		v.traces[i].finding = -1
		v.calls[r.Requests[i].Stream] = append(v.calls[r.Requests[i].Stream], i)
	}
	for _, calls := range v.calls {
		slices.SortStableFunc(calls, func(a, b int) int { return cmp.Compare(r.Requests[a].Start, r.Requests[b].Start) })
	}
	if err := v.orders(); err != nil {
		return nil, err
	}
	if err := v.elsewhere(); err != nil {
		return nil, err
	}
	if err := v.failures(); err != nil {
		return nil, err
	}
	v.ledger()
	if err := v.held(); err != nil {
		return nil, err
	}
	v.skews()
	v.rates()
	v.sort()
	return v, nil
}

// Case is what the verdict rests on.
func (v *Verdict) Case() *Case { return v.c }

// place is one port of one proxy: what the check is about.
type place struct {
	pod  string
	port uint16
}

// orders judges the requests of which it is known who answered, proxy by proxy and
// port by port (N1 to N3), and finds the brackets (N4).
func (v *Verdict) orders() error {
	r := v.c.Recording
	at := map[place][]int{}
	var places []place
	for i := range r.Requests {
		q := &r.Requests[i]
		v.Counts.Requests++
		if q.Pod == "" {
			v.Counts.Unattributed++
			continue
		}
		p := place{q.Pod, r.Streams[q.Stream].Port}
		if at[p] == nil {
			places = append(places, p)
		}
		at[p] = append(at[p], i)
	}
	for _, p := range places {
		h, err := v.history(p, at[p], false)
		if err != nil {
			return err
		}
		findings, spans := h.Explain()
		for i, request := range at[p] {
			v.traces[request].span = spans[i]
		}
		for _, f := range findings {
			if err := v.unexplained(at[p][f.Request], p.pod, f); err != nil {
				return err
			}
		}
		if err := v.brackets(p, h, spans, at[p]); err != nil {
			return err
		}
	}
	return nil
}

// history is what the check is asked about a proxy, with the answers read on the
// way.
func (v *Verdict) history(at place, requests []int, elsewhere bool) (*check.History, error) {
	r := v.c.Recording
	h := &check.History{Writes: v.c.writes(at), Budget: r.Budget, Suspended: v.c.suspended(at.pod), Requests: make([]check.Request, len(requests))}
	for i, request := range requests {
		q := &r.Requests[request]
		a, err := v.c.answer(q, at.pod)
		if err != nil {
			return nil, err
		}
		v.traces[request].answer = a
		// Who measured the times may be wrong by the slack, in either direction.
		h.Requests[i] = check.Request{Call: q.Start - r.Slack, Return: q.End + r.Slack, Fits: a.fits, Elsewhere: elsewhere}
	}
	return h, nil
}

// elsewhere judges the requests of which it is not known who answered: nothing is
// wrong with one that some pod of its target explains.
func (v *Verdict) elsewhere() error {
	r := v.c.Recording
	for stream, calls := range v.calls {
		var unknown []int
		for _, i := range calls {
			if r.Requests[i].Pod == "" {
				unknown = append(unknown, i)
			}
		}
		pods := v.c.Pods(r.Streams[stream].Target)
		if len(unknown) == 0 || len(pods) == 0 {
			continue // without a pod there is no policy to hold them against
		}
		type doubt struct {
			check.Finding
			pod  string
			pods int
		}
		doubts := map[int]*doubt{}
		explained := map[int]trace{} // by the pods that can have answered so
		for _, pod := range pods {
			h, err := v.history(place{pod, r.Streams[stream].Port}, unknown, true)
			if err != nil {
				return err
			}
			findings, spans := h.Explain()
			wrong := map[int]bool{}
			for _, f := range findings {
				wrong[f.Request] = true
			}
			for i, request := range unknown {
				t := &v.traces[request]
				t.span = spans[i]
				if wrong[i] {
					continue
				}
				if before, known := explained[i]; known {
					t.answer.fits, t.answer.told = t.answer.fits.Or(before.answer.fits), t.answer.told || before.answer.told
				}
				explained[i] = *t
			}
			for _, f := range findings {
				if doubts[f.Request] == nil {
					doubts[f.Request] = &doubt{Finding: f, pod: pod}
				}
				doubts[f.Request].pods++
			}
		}
		for i, request := range unknown {
			if t, known := explained[i]; known {
				v.traces[request] = t
			}
			if d := doubts[i]; d != nil && d.pods == len(pods) {
				if err := v.unexplained(request, d.pod, d.Finding); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// unexplained keeps what the check has found, unless the connection broke and
// there is a reason for that.
func (v *Verdict) unexplained(request int, pod string, f check.Finding) error {
	q, t := &v.c.Recording.Requests[request], &v.traces[request]
	if slices.Contains(broken, q.Kind) && q.Record == nil && q.Delivered <= 0 && (v.disrupted(q) || slow(q)) {
		t.answer.broken, t.answer.told, t.answer.fits = true, false, check.All()
		return nil
	}
	finding := Finding{Kind: Kind(f.Kind), Request: request, Hold: -1, Pod: pod, AtLeast: f.AtLeast, AtMost: f.AtMost}
	return v.add(finding, q.Kind == clients.Allowed || q.Kind == clients.Redirected || q.Delivered > 0 || q.Record != nil && q.Record.Verdict == allowed)
}

// failures counts the requests that had no answer, and finds those for which there
// is no reason although every policy that can have been in force lets them through.
func (v *Verdict) failures() error {
	for _, calls := range v.calls {
		var gap, since time.Duration
		for _, i := range calls {
			q := &v.c.Recording.Requests[i]
			if excused, err := v.failed(i); err != nil {
				return err
			} else if !excused {
				since = 0
				continue
			}
			if since == 0 {
				since = q.Start
			}
			gap = max(gap, q.End-since)
		}
		v.Counts.Gap = max(v.Counts.Gap, gap)
	}
	return nil
}

// failed counts one request, and says whether there is a reason why it failed.
func (v *Verdict) failed(i int) (excused bool, err error) {
	t, q := &v.traces[i], &v.c.Recording.Requests[i]
	if t.answer.told {
		v.Counts.Told++
	}
	if !t.answer.broken {
		return false, nil
	}
	v.Counts.Broken++
	if v.disrupted(q) {
		v.Counts.Unavailable++
		return true, nil
	}
	if slow(q) {
		t.slow = true
		v.Counts.Slow++
		return false, nil
	}
	pods := []string{q.Pod}
	if q.Pod == "" {
		pods = v.c.Pods(v.c.Recording.Streams[q.Stream].Target)
	}
	if len(pods) == 0 || t.finding >= 0 {
		return false, nil
	}
	for _, pod := range pods {
		for version := t.span.AtLeast; version <= t.span.AtMost; version++ {
			through, _, err := v.c.lets(about{caller(q.Stream), version, pod})
			if err != nil || !through {
				return false, err
			}
		}
	}
	return false, v.add(Finding{Kind: Broken, Request: i, Hold: -1, Pod: q.Pod, AtLeast: t.span.AtLeast, AtMost: t.span.AtMost}, false)
}

// patience is how long a call takes at most that a policy ends: a proxy decides at
// once. What breaks later than that, a time-out above all, has waited for something
// else, and proves nothing.
const patience = 2 * time.Second

func slow(q *history.Request) bool { return q.End-q.Start > patience }

// Late reports whether a request broke after having waited for something that was no
// policy: nothing follows from how it ended.
func Late(q *history.Request) bool {
	return slices.Contains(broken, q.Kind) && q.Record == nil && q.Delivered <= 0 && slow(q)
}

// churn is how long before and after a pod comes or goes connections to its
// workload may break: a pod that is being deleted serves on for as long as its
// grace period lasts.
const churn = 30 * time.Second

// disrupted reports whether there is a reason for which a request may break: a
// fault that takes proxies away, or a pod of the target that came or went.
func (v *Verdict) disrupted(q *history.Request) bool {
	return v.interrupted(v.c.Recording.Streams[q.Stream].Target, q)
}

// interrupted is disrupted for whatever was called at a target.
func (v *Verdict) interrupted(target string, q *history.Request) bool {
	r := v.c.Recording
	from, to := q.Start-r.Slack-churn, q.End+r.Slack
	for _, f := range r.Faults {
		if f.Down && f.From <= to && from <= ending(f) && (q.Pod == "" || concerns(f, q.Pod)) {
			return true
		}
	}
	return v.moved(target, q)
}

// moved reports whether a pod of a target came or went about the time of a request.
func (v *Verdict) moved(target string, q *history.Request) bool {
	r := v.c.Recording
	from, to := q.Start-r.Slack-churn, q.End+r.Slack
	near := func(at time.Duration) bool { return at != 0 && from <= at && at <= to+churn }
	pods := v.c.Pods(target)
	return slices.ContainsFunc(r.Proxies, func(p history.Proxy) bool { return slices.Contains(pods, p.Pod) && (near(p.Born) || near(p.Gone)) })
}
