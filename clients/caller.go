package clients

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
)

// HeaderID is the header and metadata key in which a request's ID travels.
const HeaderID = "x-request-id"

// Headers by which a Linkerd proxy explains itself to callers it knows.
const (
	headerProxyError      = "l5d-proxy-error"
	headerProxyConnection = "l5d-proxy-connection"
)

// Options of a Caller; the zero value is a caller without a mesh certificate.
type Options struct {
	// Certifier is needed for OwnIdentity only.
	Certifier Certifier
	// LocalAddress is what calls come from; the zero value leaves it to the
	// kernel, which on a node may pick an address of the pods' network.
	LocalAddress netip.Addr
}

// Caller makes calls. It is safe for concurrent use and holds the connections
// that Reused calls share; Close gives them up.
type Caller struct {
	dialer    net.Dialer
	certifier Certifier
	foreign   foreignAuthority
	pool      pool
}

// New returns a Caller.
func New(options Options) *Caller {
	// Nagle's and keep-alive's defaults are Go's; a probe every 15 s would show
	// up on a held connection as traffic, hence none.
	c := &Caller{certifier: options.Certifier,
		pool:   pool{idle: map[poolKey][]*connection{}, shared: map[poolKey][]*http2Conn{}},
		dialer: net.Dialer{KeepAlive: -1, FallbackDelay: -1}}
	if options.LocalAddress.IsValid() {
		c.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(options.LocalAddress, 0))
	}
	return c
}

// Close closes idle connections. Calls in flight are the caller's to end.
func (c *Caller) Close() { c.pool.close() }

// Do makes one call and returns what was seen. It never returns an error: what
// goes wrong is an Outcome too. A request that makes no sense is Other, with
// the reason as Message.
func (c *Caller) Do(ctx context.Context, r Request) Outcome {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	out := r.begin()
	if err := r.Validate(); err != nil {
		return out.senseless(err)
	}
	r.finish(ctx, &out, c.how(r.Protocol))
	return out
}

// callFunc makes one call, of which the outcome has what is known before it.
type callFunc func(ctx context.Context, r Request, out *Outcome) error

// how says what makes calls of that protocol.
func (c *Caller) how(p Protocol) callFunc {
	switch {
	case p == HTTP1:
		return c.http1
	case p.tunnel():
		return c.tunnel
	case p.http2():
		return c.overHTTP2
	}
	return c.tcp
}

// senseless is the outcome of a call that cannot be made.
func (o Outcome) senseless(err error) Outcome {
	o.Kind, o.Message, o.End = Other, err.Error(), time.Now()
	return o
}

// doOn makes a call that is known to be valid on an HTTP/2 connection.
func (c *Caller) doOn(ctx context.Context, r Request, conn *http2Conn) Outcome {
	out := r.begin()
	out.Reused = true
	c.describe(conn.connection, &out)
	r.finish(ctx, &out, func(ctx context.Context, r Request, out *Outcome) error {
		return r.exchange()(ctx, conn, r, out)
	})
	return out
}

func (r Request) begin() Outcome {
	return Outcome{Protocol: string(r.Protocol), GRPCStatus: -1, RequestID: r.ID, Start: time.Now()}
}

// finish runs the call within its time-out and sees to the outcome's kind.
func (r Request) finish(ctx context.Context, out *Outcome, call callFunc) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if err := call(ctx, r, out); err != nil {
		// The context's end closes connections under their readers, so the
		// errors these return are its echo.
		if cause := ctx.Err(); cause != nil {
			err = errors.Join(cause, err)
		}
		if out.Kind == "" {
			out.Kind = lossKind(err, false)
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			// Somebody stopped the caller; the target had no part in it.
			out.Kind = Other
		}
		out.Message = err.Error()
	}
	out.End = time.Now()
}

// poolLimit bounds the idle connections kept for one target: as many as an agent has
// calls under way there when it makes 20,000 a second and the machine is busy. With
// fewer, half of what such calls cost is connections that are opened anew.
const poolLimit = 1024

// poolKey is everything that makes two connections interchangeable.
type poolKey struct {
	http2     bool
	protocol  Protocol
	address   string
	tls       TLSMode
	name      string
	alpn      string
	identity  string
	presented KeyPair
	transport TransportHeader
}

func (r Request) poolKey() poolKey {
	key := poolKey{http2: r.Protocol.http2(), protocol: r.Protocol, address: r.Address, tls: r.TLS, name: r.ServerName, identity: r.ClaimedIdentity}
	if key.http2 {
		key.protocol = HTTP2
	}
	for _, name := range r.ALPN {
		key.alpn += name + ","
	}
	if r.Certificate != nil {
		key.presented = *r.Certificate
	}
	if r.Transport != nil {
		key.transport = *r.Transport
	}
	return key
}

// pool keeps idle connections of HTTP/1 and TCP calls, and the shared ones of
// HTTP/2.
type pool struct {
	mu     sync.Mutex
	closed bool
	idle   map[poolKey][]*connection
	shared map[poolKey][]*http2Conn
}

// take returns an idle connection that its peer has not ended, or nil.
func (p *pool) take(key poolKey) *connection {
	for {
		conn := p.last(key)
		// The kernel is asked without the lock, which all calls share.
		if conn == nil || conn.alive() {
			return conn
		}
		conn.Close()
	}
}

// last takes the connection that was given back last, or nil.
func (p *pool) last(key poolKey) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[key]
	if len(idle) == 0 {
		return nil
	}
	conn := idle[len(idle)-1]
	p.idle[key] = idle[:len(idle)-1]
	return conn
}

// give returns a connection that can carry another call.
func (p *pool) give(key poolKey, conn *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[key]) >= poolLimit {
		conn.Close()
		return
	}
	p.idle[key] = append(p.idle[key], conn)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, idle := range p.idle {
		for _, conn := range idle {
			conn.Close()
		}
	}
	for _, shared := range p.shared {
		for _, conn := range shared {
			conn.close()
		}
	}
	p.idle, p.shared = map[poolKey][]*connection{}, map[poolKey][]*http2Conn{}
}

// connect returns a connection for the call, the pool's when it may be reused.
func (c *Caller) connect(ctx context.Context, r Request, out *Outcome) (*connection, error) {
	if r.Connection == Reused {
		if conn := c.pool.take(r.poolKey()); conn != nil {
			out.Reused = true
			c.describe(conn, out)
			return conn, nil
		}
	}
	conn, err := c.open(ctx, r, out)
	if err != nil {
		return nil, err
	}
	c.describe(conn, out)
	return conn, nil
}

func (c *Caller) describe(conn *connection, out *Outcome) {
	out.LocalAddr, out.ServerNames = conn.local, conn.names
}

// release keeps a connection for the next Reused call or closes it.
func (c *Caller) release(conn *connection, r Request, usable bool) {
	if r.Connection == Reused && usable {
		conn.SetDeadline(time.Time{})
		c.pool.give(r.poolKey(), conn)
		return
	}
	conn.Close()
}
