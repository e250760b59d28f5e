package engine

import (
	"net"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/scenarios"
)

// clockSlack is how far a proxy's clock may be off the client's when a record is
// matched to a call, beside what is known of their difference.
const clockSlack = 100 * time.Millisecond

// record finds the proxy's decision about a call and the pod that made it: by the
// request's ID where the proxy tells it, and otherwise by the connection's
// address, which is the client's own when it has no proxy, and the pod's with any
// port otherwise. Times are compared as this machine's clock shows them. known is
// false when no proxy could be asked.
func (j *callJudge) record(outcome clients.Outcome, logs []*witnessLog) (found *decision, at *witnessLog, known bool) {
	ip, _, _ := net.SplitHostPort(outcome.LocalAddr)
	if j.from.proxied() && j.claim.Call.Via != scenarios.ViaLoopback {
		ip = j.from.address.String()
	}
	score := 0
	for _, log := range logs {
		if log.err != nil || !log.meshed {
			continue
		}
		known = true
		slack := clockSlack + j.from.clock.slack + log.clock.slack
		from, to := j.from.clock.local(outcome.Start).Add(-slack), j.from.clock.local(outcome.End).Add(slack)
		for i := range log.decisions.Decisions {
			d := &log.decisions.Decisions[i]
			clientIP, _, _ := net.SplitHostPort(d.Client)
			if d.TargetPort != j.target.Port || clientIP != ip {
				continue
			}
			if d.RequestID != "" {
				if d.RequestID == outcome.RequestID {
					return d, log, true
				}
				continue // another request
			}
			if when := log.clock.local(d.Time); when.Before(from) || when.After(to) {
				continue
			}
			fits := 1
			if d.Client == outcome.LocalAddr {
				fits += 8
			} else if !j.from.proxied() {
				continue // another connection of the same pod
			}
			if sameProtocol(j.claim.Call.Protocol, d.Protocol) {
				fits += 4
			} else if j.from.proxied() {
				continue
			}
			if path, _, _ := strings.Cut(j.claim.Call.Path, "?"); path != "" && d.Path == path {
				fits += 2
			}
			if fits > score {
				found, at, score = d, log, fits
			}
		}
	}
	return found, at, known
}

// sameProtocol compares what a client spoke with what a proxy recorded. Meshed
// HTTP/1 travels as HTTP/2 (H-01), and a proxy may record either.
func sameProtocol(spoken scenarios.Protocol, recorded string) bool {
	switch spoken {
	case scenarios.HTTP1, scenarios.HTTP2, scenarios.HTTPUpgrade, scenarios.HTTPConnect:
		return recorded == "http1" || recorded == "http2"
	case scenarios.GRPC, scenarios.GRPCStream:
		return recorded == "grpc"
	}
	return recorded == "opaque" || recorded == "tls" || recorded == "tcp"
}

// arrived finds a request among what reached the application of any pod, and that
// pod; known is false when the application keeps no log or it could not be read.
func arrived(id string, logs []*witnessLog) (at *witnessLog, known bool) {
	for _, log := range logs {
		if !log.echo || log.err != nil || log.deliveries.Missed > 0 {
			return nil, false
		}
		known = true
		for _, d := range log.deliveries.Deliveries {
			if d.ID == id {
				return log, true
			}
		}
	}
	return nil, known
}
