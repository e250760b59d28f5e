package inbound

import (
	"cmp"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/http2"
)

// Every limit of the inbound half is in this file; those of the relays are in theirs.
// A limit that ends or refuses something is counted in inbound_limits_total, by the
// relay or half that it belongs to and its name. docs/data-path.md has a table of all,
// which a test compares with the code.

// Timeouts are the durations of the data path that an installation or a test may change.
type Timeouts struct {
	// Detect bounds TLS detection and the direct path's header (T-11, T-32).
	Detect time.Duration
	// AdminDetect bounds each detection on the admin port (B-05).
	AdminDetect time.Duration
	// Discovery is how long a connection is held for the first policy of its port.
	Discovery time.Duration
	// Connect bounds a dial to the application.
	Connect time.Duration
	// Drain bounds the wait for open connections after the end was asked for.
	Drain time.Duration
	// PortIdle is how long a port that was found lazily is watched without a connection (L-01).
	PortIdle time.Duration
}

// The defaults of Timeouts.
const (
	DefaultDetect      = 10 * time.Second
	DefaultAdminDetect = time.Second
	// DefaultDiscovery is the ceiling of the hold: a connection that waits longer is refused.
	DefaultDiscovery = 10 * time.Second
	// DefaultConnect is for an application in the same pod, which refuses at once
	// when it is not there. What takes long is a proxy that gets no processor: on
	// a busy node it can stand still for more than a second.
	DefaultConnect = 5 * time.Second
	// DefaultDrain leaves half of the usual 30 s termination grace to the application.
	DefaultDrain    = 15 * time.Second
	DefaultPortIdle = 90 * time.Second
)

func (t *Timeouts) setDefaults() {
	t.Detect = cmp.Or(t.Detect, DefaultDetect)
	t.AdminDetect = cmp.Or(t.AdminDetect, DefaultAdminDetect)
	t.Discovery = cmp.Or(t.Discovery, DefaultDiscovery)
	t.Connect = cmp.Or(t.Connect, DefaultConnect)
	t.Drain = cmp.Or(t.Drain, DefaultDrain)
	t.PortIdle = cmp.Or(t.PortIdle, DefaultPortIdle)
}

// How much may be open or in progress at once.
const (
	// DefaultMaxInFlight is how many requests may be in progress (H-04).
	DefaultMaxInFlight = 100_000
	// DefaultMaxConnections is how many connections of clients may be open, where the
	// process may have descriptors for so many; see connectionsFor.
	DefaultMaxConnections = 100_000
	// maxAdminConnections may be open to the admin port, beside those: a node's probes
	// and who reads metrics must be answered when clients have taken all they can get.
	maxAdminConnections = 64
	// filesReserve descriptors, or one in filesShare of all if that is more, are left for
	// everything but clients' connections: the admin port, the outbound half, the
	// control plane, and applications' connections beyond one for each client's.
	filesReserve = 128
	filesShare   = 8
	// maxLazyPorts bounds the ports watched because somebody connected to them:
	// a port scan must not open a watch per port. Beyond it connections are refused.
	maxLazyPorts = 512
)

// What is looked at before it is known what a connection speaks.
const (
	// maxClientHello is how much of a ClientHello is looked at (T-11). Who sends a longer
	// one is judged as a client without TLS.
	maxClientHello = 8 << 10
	// sniffLimit bounds what is gathered before a request line must have ended. A longer
	// one is left to the HTTP/1 relay, which refuses it as what it then is.
	sniffLimit = 8 << 10
	// firstReadLimit is the one read of dialect linkerd (T-15).
	firstReadLimit = 1024
)

const (
	// idleTimeout ends a connection that is to be HTTP and on which nothing comes; a
	// relay's own is as long.
	idleTimeout = http1.DefaultIdle
	// halfOpen is how long one direction of a connection of bytes may stay silent after
	// the other has ended; a tunnel's is as long.
	halfOpen = http1.DefaultHalfOpen
	// Waits after a failed accept, for instance without file descriptors.
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
	// pairTimeout bounds the making of a pair of connected ends on this machine.
	pairTimeout = 5 * time.Second
	// carriedIdle is how many idle connections serve HTTP/1 requests that came multiplexed.
	carriedIdle = 8
)

// fixed are limits that only tests change.
type fixed struct {
	http1          http1.Limits
	http2          http2.Limits
	idle, halfOpen time.Duration
}

func (f *fixed) setDefaults() {
	if f.idle == 0 {
		f.idle = idleTimeout
	}
	if f.halfOpen == 0 {
		f.halfOpen = halfOpen
	}
}

// connectionsFor is how many clients' connections may be open when the process may
// have so many descriptors: each needs another one to the application. Without such a
// limit a flood of connections takes all descriptors, and then clients that are served
// cannot be, because the application cannot be reached for them.
func connectionsFor(files uint64) int {
	reserve := max(filesReserve, files/filesShare)
	if files <= reserve {
		return 1
	}
	return int(min(DefaultMaxConnections, max(1, (files-reserve)/2)))
}

// openFiles is the process's limit of descriptors.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 2*DefaultMaxConnections + filesReserve
	}
	return limit.Cur
}

// limit names what has bitten.
type limit uint8

// The limits of this half that can bite.
const (
	limitConnections limit = iota
	limitAdminConnections
	limitPorts
	limitInFlight
	limitClientHello
	limitDetectTime
	limitHTTPDetectTime
	limitDiscoveryTime
	limitConnectTime
	limitIdle
	limitHalfOpen
	limitDrainTime
	limits
)

// String is the limit's name as a metric label.
func (l limit) String() string {
	return [limits]string{
		"connections", "admin connections", "ports", "in flight", "client hello", "detect time",
		"http detect time", "discovery time", "connect time", "idle", "half open", "drain time",
	}[l]
}

// bite counts a limit of this half that has ended or refused something.
func (s *Server) bite(l limit) { s.cfg.Metrics.bites[l].Inc() }

// bitten1 and bitten2 count a limit of a relay likewise, and with the errors too: all
// but the end of an idle connection, which is none.
func (s *Server) bitten1(l http1.Limit) {
	s.cfg.Metrics.bites1[l].Inc()
	if l != http1.IdleLimit {
		s.cfg.Metrics.httpError(errLimit + l.String())
	}
}

func (s *Server) bitten2(l http2.Limit) {
	s.cfg.Metrics.bites2[l].Inc()
	if l != http2.LimitIdleTime {
		s.cfg.Metrics.httpError(errLimit + l.String())
	}
}
