package inbound

import (
	"net"
	"net/netip"
	"sync"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// session is one accepted connection from the moment its port is known until it
// is closed. Whoever serves the connection ends the session.
type session struct {
	server *Server
	// cell is nil until the port is known.
	cell *cell
	// raw is the accepted connection; closing it ends everything above it.
	raw *net.TCPConn
	// dst is where the client meant to go; requests and bytes are forwarded there.
	dst    netip.AddrPort
	client policy.Client
	// admin: permitted requests are answered by the proxy itself.
	admin bool
	// http: the session is judged per request, not by recheck (except L-09 for ports that became opaque or TLS).
	http bool
	// agreed is the ALPN protocol of a terminated session that negotiated HTTP.
	agreed string

	// share is what the session is counted among.
	share    *share
	upstream upstreams
	labels   labelCache

	mu sync.Mutex
	// permit is what an opaque connection lives by; nil before the decision and for HTTP.
	permit *policy.Permit
	// revoked: nothing covers the connection any more, which has been noted.
	revoked bool
	// loose: what is judged as bytes may be HTTP, which lasts only as long as routes are
	// no stricter.
	loose bool
	// relay serves an HTTP session.
	relay drainer
	ended bool
}

// drainer is a relay: it ends when what is in progress has ended.
type drainer interface{ Drain() }

// share is how many sessions of a kind are open, and may be. The server's mu guards it.
type share struct {
	open, most int
	limit      limit
}

// track makes the session known to drain, and counts it. When the server takes no
// more it is false, and the connection has been closed.
func (s *Server) track(sess *session) bool {
	among := &s.clients
	if sess.dst.Port() == s.cfg.AdminPort {
		among = &s.admins
	}
	s.mu.Lock()
	ending, full := s.draining, among.open >= among.most
	if !ending && !full {
		sess.share = among
		among.open++
		s.live[sess] = struct{}{}
		s.open.Add(1)
	}
	s.mu.Unlock()
	if !ending && !full {
		return true
	}
	if !ending {
		s.bite(among.limit)
		s.refused(sess, errLoadShed, "too many connections", nil)
	}
	sess.raw.Close()
	return false
}

// end closes what belongs to the session. It is idempotent.
func (sess *session) end() {
	sess.mu.Lock()
	ended := sess.ended
	sess.ended = true
	sess.mu.Unlock()
	if ended {
		return
	}
	sess.raw.Close()
	sess.upstream.close()
	sess.labels.release()
	s := sess.server
	if sess.cell != nil {
		sess.cell.remove(sess)
		s.store.release(sess.cell)
	}
	s.mu.Lock()
	delete(s.live, sess)
	sess.share.open--
	s.mu.Unlock()
	s.open.Done()
}

// cut resets the connection: nothing queued is delivered any more (L-10).
func (sess *session) cut() {
	sess.raw.SetLinger(0)
	sess.raw.Close()
	sess.upstream.cut()
}

// revoke marks a session that a policy ends; false when one has before, or when it has
// ended by itself.
func (sess *session) revoke() bool {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.ended || sess.revoked {
		return false
	}
	sess.revoked = true
	return true
}

// enterHTTP makes the session one that is judged per request.
func (sess *session) enterHTTP(relay drainer) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.http, sess.relay = true, relay
}

// drain asks the session to end in good order; one of which it is not known yet how
// it is served is cut.
func (sess *session) drain() {
	sess.mu.Lock()
	relay, opaque := sess.relay, sess.permit != nil
	sess.mu.Unlock()
	switch {
	case relay != nil:
		relay.Drain()
	case !opaque:
		sess.cut()
	}
}

// covered tells whether a policy permits the connection as a whole.
func (sess *session) covered(port *policy.Port) bool {
	sess.mu.Lock()
	loose := sess.loose
	sess.mu.Unlock()
	return port.Connection(sess.client) != nil && (!loose || bytesAsStrict(port))
}

func (sess *session) setLoose(loose bool) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.loose = loose
}

// bytesAsStrict tells whether a connection that is judged as bytes is judged as
// strictly as its requests would be.
func bytesAsStrict(port *policy.Port) bool {
	return port.Protocol != policy.Detect || port.OnlyDefaultRoutes()
}

// recheck applies a new policy to an open connection (L-09). An opaque one needs
// a permit; which one it is does not matter, and its labels stay. An HTTP one is
// judged with its next request, unless the port became opaque or TLS.
func (sess *session) recheck(snap *snapshot) {
	sess.mu.Lock()
	permit, http := sess.permit, sess.http
	sess.mu.Unlock()
	if permit == nil && !http || http && (snap.port.Protocol != policy.Opaque && snap.port.Protocol != policy.TLS) {
		return
	}
	if sess.covered(snap.port) {
		return
	}
	sess.server.terminated(sess, snap)
	sess.cut()
}

// halfCloser is a connection whose sending direction can end alone.
type halfCloser interface{ CloseWrite() error }
