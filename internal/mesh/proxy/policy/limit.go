package policy

import (
	"slices"
	"sync"
	"time"
)

// maxIdentityBuckets bounds the per-identity buckets of one limit; beyond it the fullest are forgotten first.
const maxIdentityBuckets = 4096

// RateLimit is the local rate limit of one port. Its configuration is fixed; its buckets are shared by all requests.
type RateLimit struct {
	Ref       Ref
	total     uint32
	identity  uint32
	overrides []override
	// entry is the number of the first override that names an identity.
	entry map[string]int

	mu      sync.Mutex
	all     bucket
	clients map[string]*bucket
	shared  []bucket // one per override entry
}

type override struct {
	limit      uint32
	identities []string
}

// bucket holds the theoretical arrival time of the generic cell rate algorithm.
type bucket struct{ tat time.Time }

// take consumes one token of a limit per second with a burst of the limit.
func (b *bucket) take(limit uint32, now time.Time) bool {
	interval := time.Second / time.Duration(limit)
	tat := b.tat
	if tat.Before(now) {
		tat = now
	}
	if tat.Sub(now) > time.Second-interval {
		return false
	}
	b.tat = tat.Add(interval)
	return true
}

// take judges one request; scope names the limit that refused it.
func (l *RateLimit) take(identity string, now time.Time) (scope string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && !l.all.take(l.total, now) {
		return "total", false
	}
	if identity != "" {
		if i, ok := l.entry[identity]; ok {
			return "identity", l.shared[i].take(l.overrides[i].limit, now)
		}
	}
	if l.identity == 0 {
		return "", true
	}
	b := l.clients[identity]
	if b == nil {
		if len(l.clients) >= maxIdentityBuckets {
			for name, old := range l.clients {
				if !old.tat.After(now) {
					delete(l.clients, name)
				}
			}
		}
		b = &bucket{}
		l.clients[identity] = b
	}
	return "identity", b.take(l.identity, now)
}

func (l *RateLimit) sameConfig(other *RateLimit) bool {
	return l != nil && other != nil && l.Ref == other.Ref && l.total == other.total && l.identity == other.identity &&
		slices.EqualFunc(l.overrides, other.overrides, func(a, b override) bool {
			return a.limit == b.limit && slices.Equal(a.identities, b.identities)
		})
}

// inherit keeps the buckets of the previous policy when the limit itself did not change (R-09 in dialect documented).
func (p *Port) inherit(previous *Port) {
	if previous == nil || p.dialect.ResetRateLimits || !p.limit.sameConfig(previous.limit) {
		return
	}
	p.limit = previous.limit
}

// LimitRef names the rate limit of the port; zero when there is none.
func (p *Port) LimitRef() Ref {
	if p.limit == nil {
		return Ref{}
	}
	return p.limit.Ref
}
