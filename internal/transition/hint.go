package transition

import (
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// A client's own proxy is told by another stream than the target's whether a port
// is opaque (T-36). So while such a change comes into force, the client may send by
// what was, and the target decide by what is, or the other way round.

// hintAt is the version that changes the hint and may be on its way to the client
// when it made the request; 0: none. It has the budget of all changes.
func (c *Case) hintAt(r *history.Request, pod string) (int, error) {
	if c.Recording.Streams[r.Stream].Client.Way != oracle.Meshed {
		return 0, nil
	}
	versions, err := c.hinting(r.Stream, pod)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, v := range versions {
		w := c.Recording.Writes[v-1]
		if w.Call <= r.End+c.Recording.Slack && r.Start-c.Recording.Slack <= w.Ack+c.Recording.Budget {
			found = v
		}
	}
	return found, nil
}

// hinting are the versions that change what a client is told of the port of a
// stream at a pod.
func (c *Case) hinting(stream int, pod string) ([]int, error) {
	key := about{caller: caller(stream), pod: pod}
	if known, asked := c.hints[key]; asked {
		return known, nil
	}
	port := c.Recording.Streams[stream].Port
	versions := []int{}
	before := false
	for v := range c.versions {
		hinted := before
		for _, id := range c.versions[v].worlds {
			o, there, err := c.Recording.At(c.worlds, id, pod, c.rules)
			if err != nil {
				return nil, err
			}
			hinted = o.Resolve(there, port).Hinted
		}
		if v > 0 && hinted != before {
			versions = append(versions, v)
		}
		before = hinted
	}
	c.hints[key] = versions
	return versions, nil
}

// hinted are the verdicts of a version about a client that has been told what
// another one says.
func (c *Case) hinted(a about, told int) ([]oracle.Verdict, error) {
	s := &c.Recording.Streams[a.caller]
	var verdicts []oracle.Verdict
	for _, id := range c.versions[told].worlds {
		o, pod, err := c.Recording.At(c.worlds, id, a.pod, c.rules)
		if err != nil {
			return nil, err
		}
		hint := o.Resolve(pod, s.Port).Hinted
		for _, id := range c.versions[a.version].worlds {
			o, pod, err := c.Recording.At(c.worlds, id, a.pod, c.rules)
			if err != nil {
				return nil, err
			}
			policy := o.Resolve(pod, s.Port)
			policy.Hinted = hint
			verdicts = append(verdicts, o.Decide(policy, s.Client, s.Request))
		}
	}
	return verdicts, nil
}
