package transition

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/check"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Case is a recording with what the rules say of it, so far as anybody has asked.
// Version 0 is the recording's Base, version n what Writes[n-1] has made of it. It
// is not safe for concurrent use.
type Case struct {
	Recording *history.Recording

	worlds   map[string]*history.World
	rules    oracle.Rules
	dialect  api.Dialect
	versions []version
	said     map[about][]oracle.Verdict
	answers  map[seen]answer
	places   map[string][]string // pods by target
	hints    map[about][]int     // see hinting; the version is none
	turned   map[about][]int     // see turns; the version is none
}

// about is what a verdict is about: calls of a stream, or a connection that was
// held, at a pod in a version.
type about struct {
	caller  caller
	version int
	pod     string
}

// caller is a place among the recording's streams, or, counted from -1 downwards,
// among its holds.
type caller int

func holder(hold int) caller { return caller(-1 - hold) }

// New prepares to judge a recording by the rules, in these worlds.
func New(r *history.Recording, worlds map[string]*history.World, rules oracle.Rules) (*Case, error) {
	c := &Case{Recording: r, worlds: maps.Clone(worlds), rules: rules, said: map[about][]oracle.Verdict{}, answers: map[seen]answer{}, places: map[string][]string{}, hints: map[about][]int{}, turned: map[about][]int{}}
	var err error
	if c.dialect, err = api.ParseDialect(r.Dialect); err != nil {
		return nil, fmt.Errorf("recording of %s: %w", r.Scenario, err)
	}
	if c.versions, err = versions(r, c.worlds); err != nil {
		return nil, err
	}
	for _, q := range r.Requests {
		if q.Stream < 0 || q.Stream >= len(r.Streams) {
			return nil, fmt.Errorf("recording of %s: request %s is of stream %d, and there are %d", r.Scenario, q.ID, q.Stream, len(r.Streams))
		}
		target := r.Streams[q.Stream].Target
		if q.Pod != "" && !slices.Contains(c.places[target], q.Pod) {
			c.places[target] = append(c.places[target], q.Pod)
		}
	}
	return c, nil
}

// Pods are those that calls to a target have come to, or all that are known when
// of none is known where it went.
func (c *Case) Pods(target string) []string {
	if pods := c.places[target]; len(pods) > 0 {
		return pods
	}
	var pods []string
	for _, p := range c.Recording.Proxies {
		pods = append(pods, p.Pod)
	}
	return pods
}

// Said is what the rules say of the calls of a stream to a pod in a version:
// several verdicts only in the middle of a group, none where it is too large.
func (c *Case) Said(stream, version int, pod string) ([]oracle.Verdict, error) {
	return c.ask(about{caller(stream), version, pod})
}

func (c *Case) ask(a about) ([]oracle.Verdict, error) {
	if known, asked := c.said[a]; asked {
		return known, nil
	}
	var port uint16
	var client oracle.Client
	var request oracle.Request
	if a.caller >= 0 {
		s := &c.Recording.Streams[a.caller]
		port, client, request = s.Port, s.Client, s.Request
	} else {
		h := &c.Recording.Holds[-1-a.caller]
		port, client, request = h.Port, h.Client, h.Request
	}
	var verdicts []oracle.Verdict
	for _, id := range c.versions[a.version].worlds {
		o, pod, err := c.Recording.At(c.worlds, id, a.pod, c.rules)
		if err != nil {
			return nil, err
		}
		verdict := o.Judge(pod, port, client, request)
		if !slices.ContainsFunc(verdicts, func(known oracle.Verdict) bool { return alike(known, verdict) }) {
			verdicts = append(verdicts, verdict)
		}
	}
	c.said[a] = verdicts
	return verdicts, nil
}

// alike reports whether no observation can tell two verdicts apart.
func alike(a, b oracle.Verdict) bool {
	return a.Outcome == b.Outcome && a.Course == b.Course && a.Status == b.Status && a.Server == b.Server && a.Route == b.Route &&
		a.Authorization == b.Authorization && slices.Equal(a.Fitting, b.Fitting) && len(a.Limits) == len(b.Limits)
}

// lets reports whether a version surely lets the calls through, and whether it
// surely does not.
func (c *Case) lets(a about) (through, not bool, err error) {
	verdicts, err := c.ask(a)
	if err != nil || len(verdicts) == 0 {
		return false, false, err
	}
	through, not = true, true
	for _, v := range verdicts {
		through, not = through && v.Allowed(), not && !v.Allowed()
	}
	return through, not, nil
}

// seen is all of a request on which depends what it fits.
type seen struct {
	stream       int
	pod          string
	kind         clients.Kind
	status, grpc int
	record       history.Record
	recorded     bool
	delivered    bool
	// hint is the version of which it is not known whether the client's own proxy
	// had been told yet that the port is opaque, or is not any more; 0: none.
	hint int
	// passage is where the protocol of the port may have changed in the middle.
	passage passage
}

// answer is what a request tells.
type answer struct {
	// fits are the versions that give it.
	fits check.Versions
	// told says that a policy has answered, if only by the proxy's record or the
	// application's log.
	told bool
	// broken says that the client had no answer by which it could tell.
	broken bool
}

// broken are the outcomes that a client has of a connection that fails for
// whatever reason. Of TCP some are forms of denial too.
var broken = []clients.Kind{clients.Refused, clients.Reset, clients.Closed, clients.TLSFailure, clients.Unavailable, clients.ProtocolError, clients.Timeout, clients.Other}

// Fits are the versions under which a request is answered so at a pod; any where
// it tells nothing.
func (c *Case) Fits(request int, pod string) (check.Versions, error) {
	a, err := c.answer(&c.Recording.Requests[request], pod)
	return a.fits, err
}

func (c *Case) answer(r *history.Request, pod string) (answer, error) {
	key := seen{stream: r.Stream, pod: pod, kind: r.Kind, status: r.HTTPStatus, grpc: r.GRPCStatus, recorded: r.Record != nil, delivered: r.Delivered > 0}
	if r.Record != nil {
		key.record = *r.Record
	}
	var err error
	if key.hint, err = c.hintAt(r, pod); err != nil {
		return answer{}, err
	}
	if key.passage, err = c.passageOf(r, pod); err != nil {
		return answer{}, err
	}
	if known, asked := c.answers[key]; asked {
		return known, nil
	}
	a, err := c.read(key)
	if err == nil {
		c.answers[key] = a
	}
	return a, err
}

// read finds out what an answer tells.
func (c *Case) read(key seen) (answer, error) {
	s := &c.Recording.Streams[key.stream]
	q := &history.Question{Form: history.Call, Client: s.Client, Request: s.Request, Observed: history.Observed{Kind: key.kind, HTTPStatus: key.status, Reached: key.delivered}}
	if key.recorded {
		q.Observed.Record = &key.record
	}
	as := func(v oracle.Verdict) bool {
		// A connection that began as HTTP finds no route where the port has become
		// one for connections (L-08).
		return len(history.Differences(v, q, c.dialect)) == 0 || s.Connection == reused && key.kind == clients.NotFound && v.Course != oracle.AsHTTP
	}
	a, err := c.which(key, as)
	if err != nil || a.told {
		return a, err
	}
	if !slices.Contains(broken, key.kind) {
		return answer{told: true}, nil
	}
	// Nobody can tell from the client's side. What the proxy has recorded or the
	// application has got tells still.
	let := key.recorded && key.record.Verdict == allowed
	switch {
	case let:
		q.Observed.Kind, q.Observed.HTTPStatus, q.Observed.Reached = clients.Allowed, 0, true
		a, err = c.which(key, as)
	case key.delivered:
		a, err = c.which(key, oracle.Verdict.Allowed)
	default:
		a = answer{fits: check.All()}
	}
	a.broken, a.told = true, a.told || let || key.delivered
	return a, err
}

// allowed is how a proxy records what policy lets through.
const allowed = "allow"

// reused is how a recording calls the connection of a stream that keeps its own.
const reused = "reused"

// which are the versions of which some verdict is as asked; told says that there
// is one.
func (c *Case) which(key seen, as func(oracle.Verdict) bool) (answer, error) {
	var fits []int
	for v := range c.versions {
		verdicts, err := c.ask(about{caller(key.stream), v, key.pod})
		if err != nil {
			return answer{}, err
		}
		if key.hint > 0 && (v == key.hint || v == key.hint-1) {
			other, err := c.hinted(about{caller(key.stream), v, key.pod}, key.hint+key.hint-1-v)
			if err != nil {
				return answer{}, err
			}
			verdicts = append(slices.Clip(verdicts), other...)
		}
		if v > key.passage.from && v <= key.passage.to {
			other, err := c.overtaken(about{caller(key.stream), v, key.pod}, key.passage)
			if err != nil {
				return answer{}, err
			}
			verdicts = append(slices.Clip(verdicts), other...)
		}
		if c.versions[v].anything || slices.ContainsFunc(verdicts, as) {
			fits = append(fits, v)
		}
	}
	return answer{fits: check.Of(fits...), told: len(fits) > 0}, nil
}

// writes are the recording's as the check has them for a port of a pod: those of a
// group begin together, are complete with the last one, and are due together.
func (c *Case) writes(at place) []check.Write {
	r := c.Recording
	out := make([]check.Write, len(r.Writes))
	for from := 0; from < len(r.Writes); {
		to, ack := from+1, r.Writes[from].Ack
		for to < len(r.Writes) && r.Writes[to].Group == r.Writes[from].Group {
			ack = max(ack, r.Writes[to].Ack)
			to++
		}
		for i := from; i < to; i++ {
			out[i] = check.Write{Call: r.Writes[from].Call, Ack: ack}
		}
		out[to-1].Call = r.Writes[to-1].Call
		for _, known := range r.Writes[to-1].InForce {
			if known.Pod == at.pod && known.Port == at.port {
				out[to-1].InForce = known.At
			}
		}
		from = to
	}
	return out
}

// suspended are the intervals in which a proxy could not be told of anything.
func (c *Case) suspended(pod string) []check.Interval {
	var out []check.Interval
	for _, f := range c.Recording.Faults {
		if concerns(f, pod) {
			out = append(out, check.Interval{From: f.From, To: ending(f)})
		}
	}
	return out
}

func concerns(f history.Fault, pod string) bool {
	return len(f.Proxies) == 0 || slices.Contains(f.Proxies, pod)
}

// ending is when a fault was over; one that never was lasts longer than anything.
func ending(f history.Fault) time.Duration {
	if f.To == 0 {
		return forever
	}
	return f.To
}

// forever is later than the end of any recording.
const forever = 1000 * time.Hour
