package transition

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/check"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// End is what became of a connection that was held (N14).
type End struct {
	// Hold is its place in the recording.
	Hold int
	// Version that has cut it; 0: none.
	Version int
	// Low and High are between which two delays after the write's call it was cut.
	Low, High time.Duration
}

// raw are the protocols whose connections are authorized as a whole, and again
// with every change (L-09). What has begun as a request is finished whatever
// policy becomes (H-11), tunnels included (H-03).
var raw = []oracle.Protocol{oracle.TCP, oracle.Silent}

// held judges the connections.
func (v *Verdict) held() error {
	r := v.c.Recording
	for i := range r.Holds {
		one := &r.Holds[i]
		pods := []string{one.Pod}
		if one.Pod == "" {
			pods = v.c.Pods(one.Target)
		}
		if len(pods) == 0 {
			continue
		}
		// Where it is not known which pod it leads to, it must be wrong at each.
		var wrong *Finding
		var ended End
		for _, pod := range pods {
			f, end, err := v.lasted(i, one, pod)
			if err != nil {
				return err
			}
			wrong, ended = f, end
			if f == nil {
				break
			}
		}
		v.Ends = append(v.Ends, ended)
		if wrong != nil {
			if err := v.add(*wrong, wrong.Side == Leak); err != nil {
				return err
			}
		}
	}
	return nil
}

// lasted judges a connection as one to that pod.
func (v *Verdict) lasted(hold int, one *history.HoldSpan, pod string) (*Finding, End, error) {
	r := v.c.Recording
	end := End{Hold: hold}
	h := check.History{Writes: v.c.writes(place{pod, one.Port}), Budget: r.Budget, Suspended: v.c.suspended(pod)}
	held := check.Held{Opened: one.Opened - r.Slack, Alive: one.LastEcho - r.Slack, Closed: one.Closed + r.Slack, Ended: one.Closed != 0}
	var may []int
	for version := range v.c.versions {
		verdicts, err := v.c.ask(about{holder(hold), version, pod})
		if err != nil {
			return nil, end, err
		}
		stays := func(said oracle.Verdict) bool {
			if !slices.Contains(raw, one.Request.Protocol) && said.Course != oracle.AsTCP {
				return true
			}
			return said.Allowed()
		}
		if v.c.versions[version].anything || slices.ContainsFunc(verdicts, stays) {
			may = append(may, version)
		}
	}
	if slices.Contains(raw, one.Request.Protocol) {
		held.Fits = check.Of(may...)
	} else {
		held.Fits = check.All()
	}
	last := h.Hold(held)
	if last.Version > 0 {
		end.Version = last.Version
		write := r.Writes[last.Version-1].Call
		end.Low, end.High = max(0, one.LastEcho-write), max(0, one.Closed-write)
	}
	f := &Finding{Kind: Kind(last.Kind), Request: -1, Hold: hold, Pod: pod, AtLeast: last.Version, AtMost: last.Version}
	switch last.Kind {
	case check.Overstayed:
		f.Side = Leak
		f.Observed = fmt.Sprintf("it carried data until %s, and %s had to end it", moment(one.LastEcho), v.c.describe(last.Version))
	case check.Cut:
		f.Side = Outage
		f.AtLeast, f.AtMost = 0, v.c.written(one.Closed)
		f.Observed = fmt.Sprintf("it was %s, and no policy that was there ends it", one.How)
		q := history.Request{Pod: one.Pod, Start: one.LastEcho, End: one.Closed}
		if v.interrupted(one.Target, &q) || !one.Terminated && slow(&q) {
			return nil, end, nil
		}
	default:
		return nil, end, nil
	}
	return f, end, nil
}

// written is the last version that was being written at a moment.
func (c *Case) written(at time.Duration) int {
	n := 0
	for i, w := range c.Recording.Writes {
		if w.Call <= at {
			n = i + 1
		}
	}
	return n
}

// describe is what makes a version, for people.
func (c *Case) describe(version int) string {
	if version == 0 {
		return "what was there from the beginning"
	}
	w := c.Recording.Writes[version-1]
	return fmt.Sprintf("version %d (%s %s %s at %s)", version, w.Kind, w.Name, w.Verb, moment(w.Call))
}
