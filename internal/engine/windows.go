package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// keptShare of the calls that are planned for a window must have been made: with
// less of them the traffic was not what was asked for, and nothing is concluded.
const keptShare = 0.5

// windows judges what the streams saw of a step, for each of the claims about it.
func (r *recorder) windows(ctx context.Context, step *scenarios.PlannedStep, claims []*scenarios.WindowClaim) []verdict {
	out := make([]verdict, len(claims))
	fill := func(v verdict) []verdict {
		for i := range out {
			out[i] = v
		}
		return out
	}
	if r == nil {
		return fill(unsure("its streams do not flow"))
	}
	if err := r.end(ctx); err != nil {
		return fill(unsure("the streams cannot be read: %v", err))
	}
	if len(claims) == 0 {
		return nil
	}
	if err := r.world.verified(ctx); err != nil {
		return fill(unsure("%v", err))
	}
	r.holds(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Faults = r.faults()
	judged, err := transition.Judge(&r.rec, r.worlds, oracle.DefaultRules())
	if err != nil {
		return fill(unsure("the recording cannot be judged: %v", err))
	}
	for i, claim := range claims {
		j := &windowJudge{r: r, v: judged, step: &r.rec.Steps[len(r.rec.Steps)-1], claim: claim}
		out[i] = j.judge()
		for _, at := range j.findings() {
			r.told[judged.Findings[at].ID] = true
		}
	}
	if err := r.keepAll(); err != nil {
		return fill(unsure("%v", err))
	}
	return out
}

// faults are the scenario's as the recording has them.
func (r *recorder) faults() []history.Fault {
	var out []history.Fault
	for _, f := range r.s.faultSpans() {
		one := history.Fault{Name: f.name, Kind: f.kind, From: r.since(f.from), Proxies: f.pods, Down: f.down}
		if !f.to.IsZero() {
			one.To = r.since(f.to)
		}
		out = append(out, one)
	}
	return out
}

// concluded judges the whole. What no claim has told of, because it was seen
// between steps that change something, or of a connection that was held, condemns
// the step in which it began.
func (r *recorder) concluded() error {
	r.rec.Faults = r.faults()
	judged, err := transition.Judge(&r.rec, r.worlds, oracle.DefaultRules())
	if err != nil {
		return fmt.Errorf("judge the recording: %w", err)
	}
	r.s.res.Transitions = judged.Summary()
	for _, f := range judged.Findings {
		at := max(0, slices.IndexFunc(r.s.res.Steps, func(step result.Step) bool { return step.Name == f.Step }))
		if r.told[f.ID] || r.s.res.Steps[at].Outcome == result.Failed {
			continue
		}
		step := &r.s.res.Steps[at]
		step.Outcome, step.Reason = result.Failed, fmt.Sprintf("%s: %s", f.Side, f.Text)
	}
	return nil
}

// findings are the places of those in the claim's window.
func (j *windowJudge) findings() []int {
	if j.window == nil {
		return nil
	}
	return j.window.Findings
}

// windowJudge judges one claim.
type windowJudge struct {
	r     *recorder
	v     *transition.Verdict
	step  *history.StepSpan
	claim *scenarios.WindowClaim

	stream *history.Stream
	place  int
	window *transition.Window
}

func (j *windowJudge) judge() verdict {
	rec := &j.r.rec
	j.place = slices.IndexFunc(rec.Streams, func(s history.Stream) bool { return s.Name == j.claim.Stream })
	if j.place < 0 {
		return unsure("the stream does not flow")
	}
	j.stream = &rec.Streams[j.place]
	phase := transition.Phase(j.claim.Phase)
	if j.claim.Phase == scenarios.After && j.step.InForce == 0 {
		// Nobody has waited for the change: old or new is all that can be said.
		phase = transition.During
	}
	j.window = j.v.WindowAt(len(rec.Steps)-1, j.place, phase)
	w := j.window
	v := passed(fmt.Sprintf("%d calls in %s: %d allowed, %d denied, %d other", w.Requests, (w.To - w.From).Round(time.Millisecond), w.Allowed, w.Denied, w.Other))
	v.samples, v.expected = w.Seen, j.expected()
	if phase == transition.During {
		v.observed += fmt.Sprintf("; %d can tell old from new", w.Telling)
	}
	contrary, err := j.contrary()
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	if contrary != "" {
		return failing(v, "the expectation contradicts the rule book: %s", contrary)
	}
	kept := float64(j.made()) >= keptShare*j.planned()
	if len(w.Findings) > 0 && (kept || slices.ContainsFunc(w.Findings, func(at int) bool { return j.v.Findings[at].Kind != transition.Broken })) {
		return j.found(v)
	}
	if w.First >= 0 {
		return j.wrong(v, w.First, "it is right by no policy of this time")
	}
	odd, why, late := j.unexpected()
	if odd >= 0 {
		return j.wrong(v, odd, why)
	} else if why != "" {
		return failing(v, "%s", why)
	}
	switch {
	case late >= 0:
		q := &rec.Requests[late]
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("call %s ended with %s after %s: a policy ends what it does at once, so it has waited for something else, and the machine may be too busy",
			q.ID, q.Kind, (q.End-q.Start).Round(time.Millisecond))
	case !kept:
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("the rate was not kept: %d calls of %.0f that were planned at %v per second", j.made(), j.planned(), j.stream.Rate)
	case !w.Enough():
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("%d calls were answered by a policy, %d are needed", w.Seen, transition.MinSamples)
	case phase == transition.During && w.Telling < transition.MinSamples && j.differs():
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("%d answers can tell the old policy from the new, %d are needed", w.Telling, transition.MinSamples)
	}
	return v
}

// expected is what is expected, in words.
func (j *windowJudge) expected() string {
	if j.claim.Phase == scenarios.During {
		return string(j.claim.Course)
	}
	return j.claim.Expect.String()
}

// found tells of findings: of leaks before outages, and of the first one in full.
func (j *windowJudge) found(v verdict) verdict {
	count := map[transition.Side]int{}
	first := &j.v.Findings[j.window.Findings[0]]
	for _, at := range j.window.Findings {
		f := &j.v.Findings[at]
		count[f.Side]++
		if f.Side == transition.Leak && first.Side != transition.Leak {
			first = f
		}
	}
	var parts []string
	for _, side := range []transition.Side{transition.Leak, transition.Outage, transition.Other} {
		if count[side] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", side, count[side]))
		}
	}
	v = failing(v, "%s: %s", strings.Join(parts, ", "), first.Text)
	v.details = append(v.details, j.times(first.Request, first.Hold, first.AtLeast, first.AtMost)...)
	v.details = append(v.details, first.Chain...)
	return v
}

// wrong tells of a request that is not what it should be.
func (j *windowJudge) wrong(v verdict, request int, why string) verdict {
	q := &j.r.rec.Requests[request]
	v = failing(v, "call %s was %s at %s: %s", q.ID, q.Kind, q.Start.Round(time.Microsecond), why)
	v.details = append(v.details, j.times(request, -1, j.before(), j.after())...)
	return v
}

// times says when a request was made and between which versions.
func (j *windowJudge) times(request, hold, least, most int) []string {
	rec := &j.r.rec
	var lines []string
	if request >= 0 {
		q := &rec.Requests[request]
		at := func(d time.Duration) string { return rec.Began.Add(d).Format("15:04:05.000000") }
		lines = append(lines, fmt.Sprintf("sent %s, answered %s (%s and %s after the traffic began), by %s", at(q.Start), at(q.End), q.Start, q.End, orUnknown(q.Pod)))
	}
	for v := max(least, 1); v <= most && v <= len(rec.Writes); v++ {
		w := rec.Writes[v-1]
		lines = append(lines, fmt.Sprintf("version %d: %s %s %s, called %s, acknowledged %s", v, w.Verb, w.Kind, w.Name, w.Call, w.Ack))
	}
	if least == 0 {
		lines = append(lines, "version 0: the policy before the first write")
	}
	return lines
}

func orUnknown(pod string) string {
	if pod == "" {
		return "nobody knows which proxy"
	}
	return pod
}

// before and after are the versions at the ends of the step.
func (j *windowJudge) before() int { return j.written(cmp.Or(j.step.FirstWrite, j.step.From)) }
func (j *windowJudge) after() int  { return len(j.r.rec.Writes) }

// written counts the writes that were called before a moment.
func (j *windowJudge) written(at time.Duration) int {
	n := 0
	for i, w := range j.r.rec.Writes {
		if w.Call < at {
			n = i + 1
		}
	}
	return n
}

// planned is how many calls were to be made in the window.
func (j *windowJudge) planned() float64 {
	from := j.window.From
	for i := range j.r.rec.Requests {
		if q := &j.r.rec.Requests[i]; q.Stream == j.place {
			from = max(from, q.Start) // the first one: before it the stream did not flow
			break
		}
	}
	return j.stream.Rate * max(0, j.window.To-from).Seconds()
}

// made counts the calls of the window, whether they were answered in it or not.
func (j *windowJudge) made() int {
	n := 0
	for i := range j.r.rec.Requests {
		if q := &j.r.rec.Requests[i]; q.Stream == j.place && q.Start >= j.window.From && q.Start <= j.window.To {
			n++
		}
	}
	for _, began := range j.r.begun[j.place] {
		if began >= j.window.From && began <= j.window.To {
			n++
		}
	}
	return n
}

// there says whether a pod was there in the window, and was so at its end where the
// claim is about what holds then.
func (j *windowJudge) there(pod string) bool {
	from := j.window.From
	if j.claim.Phase == scenarios.After && j.step.InForce > 0 {
		from = j.step.InForce
	}
	for _, p := range j.r.rec.Proxies {
		if p.Pod == pod {
			return p.Born <= j.window.To && (p.Gone == 0 || p.Gone > from)
		}
	}
	return false
}

// said are the verdicts about the stream in a version, at all pods that were there.
func (j *windowJudge) said(version int) ([]oracle.Verdict, error) {
	var all []oracle.Verdict
	for _, pod := range j.v.Case().Pods(j.stream.Target) {
		if !j.there(pod) {
			continue
		}
		verdicts, err := j.v.Case().Said(j.place, version, pod)
		if err != nil {
			return nil, err
		}
		all = append(all, verdicts...)
	}
	return all, nil
}

// differs says whether the stream gets something else after the step than before.
func (j *windowJudge) differs() bool {
	old, err := j.said(j.before())
	if err != nil || len(old) == 0 {
		return false
	}
	new, err := j.said(j.after())
	return err == nil && len(new) > 0 && old[0].Outcome != new[0].Outcome
}

// contrary says how what is written and the rules disagree; empty when they do not.
func (j *windowJudge) contrary() (string, error) {
	if j.claim.Phase == scenarios.During {
		return j.courseContrary()
	}
	if len(j.claim.Expect) == 0 {
		return "", nil
	}
	versions := []int{j.before()}
	if j.claim.Phase == scenarios.After {
		versions = []int{j.after()}
		for v := j.before(); j.step.InForce == 0 && v < j.after(); v++ {
			versions = append(versions, v) // any of them may be in force
		}
	}
	kinds := j.claim.Expect.Kinds(scenarios.Protocol(j.stream.Protocol))
	outcome := oracle.Outcome("")
	for _, version := range versions {
		verdicts, err := j.said(version)
		if err != nil {
			return "", err
		}
		for _, said := range verdicts {
			if slices.ContainsFunc(kinds, func(kind clients.Kind) bool {
				return asked.CanBe(kind, said, j.stream.Client, j.stream.Request.Protocol)
			}) {
				return "", nil
			}
			outcome = said.Outcome
		}
	}
	if outcome == "" {
		return "", nil // there is no pod about which the rules could be asked
	}
	return fmt.Sprintf("%s is expected, and by the rules it is %s", j.claim.Expect, outcome), nil
}

// courseContrary says how what is written of the course and the rules disagree.
func (j *windowJudge) courseContrary() (string, error) {
	if j.claim.Course == scenarios.OldOrNew {
		return "", nil
	}
	allowed, denied := false, false // in any version
	mustAllow, mustDeny := -1, -1   // in one that was in force
	for v := j.before(); v <= j.after(); v++ {
		verdicts, err := j.said(v)
		if err != nil {
			return "", err
		}
		settled := v == j.before() || len(j.r.rec.Writes[v-1].InForce) > 0 && (v == len(j.r.rec.Writes) || j.r.rec.Writes[v].Group != j.r.rec.Writes[v-1].Group)
		for _, said := range verdicts {
			if said.Allowed() {
				allowed = true
				if settled {
					mustAllow = v
				}
			} else {
				denied = true
				if settled {
					mustDeny = v
				}
			}
		}
	}
	switch c := j.claim.Course; {
	case c == scenarios.NeverDenied && mustDeny >= 0:
		return fmt.Sprintf("no denial is expected, and by the rules version %d denies", mustDeny), nil
	case c == scenarios.NeverAllowed && mustAllow >= 0:
		return fmt.Sprintf("denials alone are expected, and by the rules version %d lets through", mustAllow), nil
	case c == scenarios.WindowOfDenials && !denied:
		return "denials are expected, and by the rules no version denies", nil
	case c == scenarios.WindowOfGrants && !allowed:
		return "calls are expected to be let through, and by the rules no version does", nil
	}
	return "", nil
}

// unexpected finds the first call that is not as written, -1 when there is none;
// why alone tells what is missing as a whole. late is one that has waited for so long
// that how it ended is no answer, -1 when there is none.
func (j *windowJudge) unexpected() (place int, why string, late int) {
	rec := &j.r.rec
	kinds := j.claim.Expect.Kinds(scenarios.Protocol(j.stream.Protocol))
	from, to := j.window.From, j.window.To
	if j.claim.Phase == scenarios.After && j.step.InForce == 0 {
		from = j.step.FirstWrite
	}
	middle := false
	late = -1
	for i := range rec.Requests {
		q := &rec.Requests[i]
		if q.Stream != j.place || q.Start < from || q.End > to {
			continue
		}
		let, denied := q.Kind == clients.Allowed || q.Kind == clients.Redirected, q.Kind.Denial()
		switch {
		case j.claim.Phase != scenarios.During:
			if len(kinds) > 0 && !slices.Contains(kinds, q.Kind) {
				if transition.Late(q) {
					late = i
					continue
				}
				return i, "expected " + j.claim.Expect.String(), -1
			}
		case j.claim.Course == scenarios.NeverDenied && denied:
			if transition.Late(q) {
				late = i
				continue
			}
			return i, "expected that no call is denied", -1
		case j.claim.Course == scenarios.NeverAllowed && let:
			return i, "expected that no call is let through", -1
		case j.claim.Course == scenarios.WindowOfDenials:
			middle = middle || denied
		case j.claim.Course == scenarios.WindowOfGrants:
			middle = middle || let
		}
	}
	switch {
	case j.claim.Phase == scenarios.During && j.claim.Course == scenarios.WindowOfDenials && !middle:
		return -1, "expected a window of denials, and no call was denied", late
	case j.claim.Phase == scenarios.During && j.claim.Course == scenarios.WindowOfGrants && !middle:
		return -1, "expected a window of grants, and no call was let through", late
	}
	return -1, "", late
}
