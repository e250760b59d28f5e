package oracle

import (
	"fmt"
	"slices"
	"time"
)

// Paced is one request of a series, as far as limits are concerned.
type Paced struct {
	// At is when the proxy had it, since any moment that is the same for all.
	At time.Duration
	// Replica is whose proxy had it, and on which port.
	Replica string
	Client  Client
	// Limits are those of its verdict.
	Limits []Limit
}

// Limited says which requests of a series are limited (N-04), in the order of the
// series. Before it begins nobody has called for a second, so that every bucket
// is full.
func (o Oracle) Limited(series []Paced) []bool {
	order := make([]int, len(series))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(series[a].At - series[b].At) })
	buckets := map[string]*bucket{}
	limited := make([]bool, len(series))
	for _, i := range order {
		var taken []*bucket
		for _, limit := range series[i].Limits { // the total comes first
			key := o.bucketOf(series[i], limit)
			if buckets[key] == nil {
				buckets[key] = &bucket{tokens: o.Rules.Burst(limit), at: series[i].At}
			}
			b := buckets[key]
			b.fill(series[i].At, float64(limit.RequestsPerSecond), o.Rules.Burst(limit))
			if b.tokens < 1 {
				limited[i] = true
				break
			}
			b.tokens--
			taken = append(taken, b)
		}
		if limited[i] && !o.Rules.StaysTaken() {
			for _, b := range taken {
				b.tokens++
			}
		}
	}
	return limited
}

// bucket holds tokens, of which every request takes one.
type bucket struct {
	tokens float64
	at     time.Duration
}

// fill adds what has come since, up to the burst. A request that was in time at
// the last of its tokens' instants must not fail for a rounding.
func (b *bucket) fill(now time.Duration, perSecond, burst float64) {
	const rounding = 1e-9
	b.tokens = min(burst, b.tokens+(now-b.at).Seconds()*perSecond+rounding)
	b.at = now
}

// bucketOf names the bucket of a limit that a request takes from.
func (o Oracle) bucketOf(p Paced, l Limit) string {
	who := ""
	switch {
	case l.Scope == "override":
		who = o.Rules.OverrideBucket(l.Entry, p.Client.Identity)
	case l.Scope == "identity" && p.Client.Identity == "":
		who = o.Rules.UnidentifiedBucket(p.Client)
	case l.Scope == "identity":
		who = p.Client.Identity
	}
	return fmt.Sprintf("%s %s %s %s", o.Rules.ReplicaBucket(p.Replica), l.Policy, l.Scope, who)
}

// ReplicaBucket is R-03: every proxy counts for itself.
func ReplicaBucket(replica string) string { return replica }

// Burst is R-04: as many at once as in a second, and then one whenever a token
// has come.
func Burst(l Limit) float64 { return float64(l.RequestsPerSecond) }

// UnidentifiedBucket is R-06: all clients without identity share one.
func UnidentifiedBucket(Client) string { return "" }

// OverrideBucket is R-07: all identities of one entry share one.
func OverrideBucket(entry int, _ string) string { return fmt.Sprint(entry) }

// StaysTaken is R-08: what a request has taken from the total stays taken when
// another limit refuses it.
func StaysTaken() bool { return true }

// Counts is R-10: what is denied, not found or redirected takes from no limit.
func Counts(outcome Outcome) bool { return outcome == Delivered }

var paceNegations = []Negation{
	{"R-03", "all replicas count together", func(r *Rules) { r.ReplicaBucket = func(string) string { return "" } }},
	{"R-04", "there is no burst", func(r *Rules) { r.Burst = func(Limit) float64 { return 1 } }},
	{"R-06", "every client without identity has a bucket of its own", func(r *Rules) {
		r.UnidentifiedBucket = func(c Client) string { return c.Address.String() + string(c.Way) }
	}},
	{"R-07", "every identity of an entry has a bucket of its own", func(r *Rules) {
		r.OverrideBucket = func(entry int, identity string) string { return fmt.Sprint(entry, identity) }
	}},
	{"R-08", "what another limit refuses takes nothing from the total", func(r *Rules) { r.StaysTaken = func() bool { return false } }},
	{"R-10", "what is denied counts", func(r *Rules) { r.Counts = func(Outcome) bool { return true } }},
}
