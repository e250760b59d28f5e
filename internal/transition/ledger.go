package transition

import (
	"fmt"
	"slices"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// spoken are the denials that only a proxy can have spoken, and only before it
// forwards anything.
var spoken = []clients.Kind{clients.Forbidden, clients.PermissionDenied}

// perCall are the protocols whose calls are judged one by one and as a whole: one
// that is denied must not have begun.
var perCall = []oracle.Protocol{oracle.HTTP1, oracle.HTTP2, oracle.GRPC}

// ledger holds what the clients saw against what the application got (N7).
func (v *Verdict) ledger() {
	r := v.c.Recording
	recorded := slices.ContainsFunc(r.Requests, func(q history.Request) bool { return q.Record != nil })
	for i := range r.Requests {
		q := &r.Requests[i]
		s := &r.Streams[q.Stream]
		if q.Delivered < 0 || s.Port == api.AdminPort {
			continue // nobody looked, or the proxy itself answers
		}
		denied := slices.Contains(spoken, q.Kind) && slices.Contains(perCall, s.Request.Protocol) || q.Record != nil && q.Record.Verdict == denies
		f := Finding{Request: i, Hold: -1, Pod: q.Pod, AtLeast: v.traces[i].span.AtLeast, AtMost: v.traces[i].span.AtMost}
		var note string
		switch {
		case denied && q.Delivered > 0:
			f.Kind, f.Side, note = DeniedDelivered, Leak, "and the application got it"
		case q.Delivered > 1:
			f.Kind, f.Side, note = Twice, Other, fmt.Sprintf("and the application got it %d times", q.Delivered)
		case q.Kind == clients.Allowed && q.Delivered == 0 && (q.Record != nil || !recorded) && !v.byProxy(q) && !v.vanished(q):
			// Of what the proxy has no record either, where it keeps records, it may be
			// the witnesses that were not read to their ends.
			f.Kind, f.Side, note = Lost, Other, "and the application never got it"
		default:
			continue
		}
		v.note(f, note)
	}
}

// denies is how a proxy records what policy does not let through.
const denies = "deny"

// vanished reports whether what the application had written of a request may have
// gone with its pod. Of one that was killed in a pod that stays the recording says
// itself what nobody knows.
func (v *Verdict) vanished(q *history.Request) bool {
	return v.moved(v.c.Recording.Streams[q.Stream].Target, q)
}

// byProxy reports whether an answer that looks like the application's may be the
// proxy's own: a redirect whose status was never set (W-21).
func (v *Verdict) byProxy(q *history.Request) bool {
	if q.Pod == "" {
		return false
	}
	for version := range v.c.versions {
		verdicts, err := v.c.Said(q.Stream, version, q.Pod)
		if err != nil || slices.ContainsFunc(verdicts, func(one oracle.Verdict) bool { return one.Outcome == oracle.Redirected }) {
			return true
		}
	}
	return false
}

// note keeps a finding whose text ends with a note. What the rules say of it could
// be asked before, so there is no error.
func (v *Verdict) note(f Finding, note string) {
	r := v.c.Recording
	q := &r.Requests[f.Request]
	f.ID, f.Stream, f.From, f.To, f.Step = v.name(q), r.Streams[q.Stream].Name, q.Start, q.End, v.stepAt(q.Start)
	f.Observed = observed(q.Kind, q.HTTPStatus, q.GRPCStatus) + ", " + note
	f.Text = v.text(&f)
	if v.traces[f.Request].finding < 0 {
		v.traces[f.Request].finding = len(v.Findings)
	}
	v.Findings = append(v.Findings, f)
}
