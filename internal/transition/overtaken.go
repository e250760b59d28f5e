package transition

import (
	"slices"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// A proxy ends a client's TLS and finds out what is spoken by one policy, and decides
// by the one that is in force then (T-20, H-11). So a request may come to something
// that neither policy makes of a whole one when the protocol of its port changes in
// the middle.

// passage are versions that may have followed each other while a request was under
// way; the zero value is none.
type passage struct{ from, to int }

// passageOf is from the version by which the connection of a request may have been
// taken to the last one that may have decided, where the protocol differs between
// them. A change is over at a proxy that is known to go by it when the call begins.
// A stream that keeps its connections has taken them long ago.
func (c *Case) passageOf(r *history.Request, pod string) (passage, error) {
	s := &c.Recording.Streams[r.Stream]
	if s.Client.Way == oracle.Meshed || s.Connection == reused {
		return passage{}, nil
	}
	versions, err := c.turns(r.Stream, pod)
	if err != nil {
		return passage{}, err
	}
	var found passage
	for _, v := range versions {
		w := &c.Recording.Writes[v-1]
		until := w.Ack + c.Recording.Budget
		for _, known := range w.InForce {
			if known.Pod == pod && known.Port == s.Port {
				until = min(until, known.At)
			}
		}
		if w.Call > r.End+c.Recording.Slack || r.Start-c.Recording.Slack > until {
			continue
		}
		if found.to == 0 {
			found.from = v - 1
		}
		found.to = v
	}
	return found, nil
}

// turns are the versions in which the port of a stream at a pod has another protocol
// than in the one before, or may have.
func (c *Case) turns(stream int, pod string) ([]int, error) {
	key := about{caller: caller(stream), pod: pod}
	if known, asked := c.turned[key]; asked {
		return known, nil
	}
	versions := []int{}
	var before []api.ProxyProtocol
	for v := range c.versions {
		policies, err := c.policies(about{caller(stream), v, pod})
		if err != nil {
			return nil, err
		}
		var protocols []api.ProxyProtocol
		for _, p := range policies {
			protocols = append(protocols, p.policy.Protocol)
		}
		slices.Sort(protocols)
		protocols = slices.Compact(protocols)
		if v > 0 && !slices.Equal(protocols, before) {
			versions = append(versions, v)
		}
		before = protocols
	}
	c.turned[key] = versions
	return versions, nil
}

// resolved is the policy of a port, and the oracle that has found it.
type resolved struct {
	oracle oracle.Oracle
	policy oracle.Policy
}

// policies are those of a port in the worlds that a version can be.
func (c *Case) policies(a about) ([]resolved, error) {
	var out []resolved
	for _, id := range c.versions[a.version].worlds {
		o, pod, err := c.Recording.At(c.worlds, id, a.pod, c.rules)
		if err != nil {
			return nil, err
		}
		out = append(out, resolved{o, o.Resolve(pod, c.Recording.Streams[a.caller].Port)})
	}
	return out, nil
}

// overtaken are the verdicts of a version about a request whose connection was taken
// by an earlier one of the passage.
func (c *Case) overtaken(a about, p passage) ([]oracle.Verdict, error) {
	s := &c.Recording.Streams[a.caller]
	now, err := c.policies(a)
	if err != nil {
		return nil, err
	}
	var verdicts []oracle.Verdict
	var tried []api.ProxyProtocol
	for from := p.from; from < a.version; from++ {
		taken, err := c.policies(about{a.caller, from, a.pod})
		if err != nil {
			return nil, err
		}
		for _, before := range taken {
			// Of what was then, the protocol alone matters now.
			if slices.Contains(tried, before.policy.Protocol) {
				continue
			}
			tried = append(tried, before.policy.Protocol)
			for _, after := range now {
				if before.policy.Protocol != after.policy.Protocol {
					verdicts = append(verdicts, after.oracle.DecideOn(before.policy, after.policy, s.Client, s.Request)...)
				}
			}
		}
	}
	return verdicts, nil
}
