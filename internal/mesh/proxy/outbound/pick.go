package outbound

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errNoEndpoint is why a request to a known Service goes nowhere.
var errNoEndpoint = errors.New("no endpoint")

// view is what is known of a session's target at one moment.
type view struct {
	// known is false while the destination service still owes an answer.
	known bool
	// service is true once the target is known to be a Service.
	service bool
	// unknown is true of a known view: nobody knows the target, and its traffic
	// goes on unchanged.
	unknown bool
	// single or, when nil, set is where to send otherwise.
	single *endpoint
	set    endpoints
	// opaque means no protocol is to be looked for.
	opaque bool
	// changed are closed when the view is out of date; the second may be nil.
	changed [2]<-chan struct{}
}

func (s *session) look() view {
	profile, known, changed := s.target.get()
	v := view{opaque: profile.opaque, changed: [2]<-chan struct{}{changed}}
	switch {
	case !known:
		return v
	case profile.unknown():
		v.known, v.unknown, v.opaque = true, true, true
		return v
	case profile.endpoint != nil:
		v.known, v.single, v.opaque = true, profile.endpoint, profile.opaque || profile.endpoint.opaque
		return v
	}
	v.service = true
	v.set, v.known, v.changed[1] = profile.service.get()
	v.unknown = v.known && !v.set.exists
	v.opaque = profile.opaque || v.set.opaque || v.unknown
	return v
}

// await returns whether v changed before the deadline.
func (v view) await(ctx context.Context, deadline time.Time) (bool, error) {
	timer := time.NewTimer(max(time.Until(deadline), 0))
	defer timer.Stop()
	select {
	case <-v.changed[0]:
	case <-v.changed[1]:
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("await an endpoint: %w", context.Cause(ctx))
	}
	return true, nil
}

// patience is how long a session that began at begun waits for a change of v.
// All sessions share the wait for the first word about a target, so that an
// absent destination service does not hold up each of them anew.
func (s *session) patience(v view, begun time.Time) time.Time {
	if !v.known && !v.service {
		begun = s.target.since
	}
	return begun.Add(s.proxy.config.DiscoveryTimeout)
}

// opaque says whether no protocol is to be looked for: the destination service
// calls the address or all its endpoints opaque, or does not know it.
func (s *session) opaque(ctx context.Context) bool {
	for begun := time.Now(); ; {
		v := s.look()
		if v.known || v.opaque {
			return v.opaque
		}
		changed, err := v.await(ctx, s.patience(v, begun))
		if err != nil {
			return true
		}
		if !changed {
			return !v.service // what is not known at all goes on unchanged
		}
	}
}

// pick finds an endpoint for the session that is not in tried. The address
// itself is used when it is unknown, or still unanswered when the time is up; a
// Service that is known never gets its traffic anywhere but to its endpoints,
// for which it waits.
func (s *session) pick(ctx context.Context, tried []*endpoint) (*endpoint, error) {
	for begun := time.Now(); ; {
		v := s.look()
		if v.known {
			e := v.single
			switch {
			case v.unknown:
				e = s.target.plain
			case e == nil:
				e = v.set.pick(tried)
			}
			if e != nil && !contains(tried, e) {
				return e, nil
			}
			if len(tried) > 0 {
				return nil, errNoEndpoint
			}
		}
		changed, err := v.await(ctx, s.patience(v, begun))
		if err != nil {
			return nil, err
		}
		if !changed && !v.known && !v.service {
			s.proxy.log.Info("destination service does not answer, forwarding unchanged", "target_addr", s.dst.String())
			return s.target.plain, nil
		}
		if !changed {
			return nil, fmt.Errorf("%w for %s within %v", errNoEndpoint, s.dst, s.proxy.config.DiscoveryTimeout)
		}
	}
}
