package scenarios

import "time"

// RateClaim makes calls at fixed rates, all flows at once, and compares how many
// of them are limited (N-04): with what the rules say, and with what is written.
// Claims of this form that call one port are judged one after the other, when the
// claims of other forms are done and nobody has called for a second.
type RateClaim struct {
	Pos `yaml:"-" json:"-"`
	// For is how long the calls go on: 3s when absent, at most 10s.
	For time.Duration `yaml:"for"`
	// Calls are the flows.
	Calls []RateCall `yaml:"calls" jsonschema:"required"`
	// Limited share of all calls, in percent.
	Limited *Band `yaml:"limited"`
}

// RateCall is one flow of equal calls.
type RateCall struct {
	Pos     `yaml:"-" json:"-"`
	Request `yaml:",inline"`
	// Rate in calls per second.
	Rate float64 `yaml:"rate" jsonschema:"required"`
	// Expect of the calls that are not limited; what the rules say when absent.
	Expect Expect `yaml:"expect"`
	// Limited share of these calls, in percent.
	Limited *Band `yaml:"limited"`
	// Answer compares headers and body of the answers to those that are limited.
	Answer *Answer `yaml:"answer"`
}

// Band is a share in percent.
type Band struct {
	Pos `yaml:"-" json:"-"`
	// AtLeast is 0 when absent, and AtMost 100.
	AtLeast *float64 `yaml:"atLeast"`
	AtMost  *float64 `yaml:"atMost"`
}

const (
	// DefaultRateFor is how long a rate claim calls that does not say it.
	DefaultRateFor = 3 * time.Second
	// maxRateFor and maxRateCalls bound what one claim costs.
	maxRateFor   = 10 * time.Second
	maxRateCalls = 2000
)

// Bounds are the lowest and the highest share, of 1.
func (b *Band) Bounds() (low, high float64) {
	high = 1
	if b != nil && b.AtLeast != nil {
		low = *b.AtLeast / 100
	}
	if b != nil && b.AtMost != nil {
		high = *b.AtMost / 100
	}
	return low, high
}

// Lasts is how long the claim calls.
func (c *RateClaim) Lasts() time.Duration {
	if c.For == 0 {
		return DefaultRateFor
	}
	return c.For
}

// Count is how many calls the flow makes in that time.
func (c *RateCall) Count(lasts time.Duration) int { return int(c.Rate*lasts.Seconds() + 0.5) }

func (v *validator) rate(c *RateClaim) {
	if c.For > maxRateFor {
		v.add(c.Pos, "for %s is too long: want at most %s", c.For, maxRateFor)
	}
	if len(c.Calls) == 0 {
		v.add(c.Pos, "nobody calls: give calls")
	}
	v.band(c.Limited)
	all := 0
	for i := range c.Calls {
		call := &c.Calls[i]
		v.request(call.Pos, &call.Request)
		v.band(call.Limited)
		v.answer(call.Answer)
		if call.Protocol != HTTP1 && call.Protocol != HTTP2 && call.Protocol != GRPC {
			v.add(call.Pos, "%s has no requests that could be limited: want %s, %s or %s", call.Protocol, HTTP1, HTTP2, GRPC)
		}
		if call.Rate <= 0 {
			v.add(call.Pos, "rate %v: want more than 0 calls per second", call.Rate)
			continue
		}
		if call.Count(c.Lasts()) < 1 {
			v.add(call.Pos, "no call is made in %s at %v per second: call longer or faster", c.Lasts(), call.Rate)
		}
		all += call.Count(c.Lasts())
		if target, err := v.s.Target(call.Target, call.Protocol); err == nil && target.Workload.Replicas > 1 && call.Via != ViaPod {
			v.add(call.Pos, "%s has %d replicas, and each of them limits for itself (R-03): call one of them with via: pod", target.Component, target.Workload.Replicas)
		}
	}
	if all > maxRateCalls {
		v.add(c.Pos, "%d calls are too many: want at most %d", all, maxRateCalls)
	}
}

func (v *validator) band(b *Band) {
	if b == nil {
		return
	}
	low, high := b.Bounds()
	switch {
	case b.AtLeast == nil && b.AtMost == nil:
		v.add(b.Pos, "nothing is said about the share: give atLeast, atMost or both")
	case low < 0 || high > 1 || low > high:
		v.add(b.Pos, "%v to %v percent is no share: want atLeast from 0 to atMost, and atMost up to 100", 100*low, 100*high)
	}
}
