package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// longAgo is the deadline that ends every read and write of a connection.
var longAgo = time.Unix(1, 0)

// observed is a connection that remembers what its peer did to it. HTTP/2
// turns a lost connection into an error of its own that no longer says whether
// it was closed or reset; here that is still known.
type observed struct {
	net.Conn
	received atomic.Int64
	// lost is closed when the peer is found to have ended the connection.
	lost chan struct{}

	mu              sync.Mutex
	readErr, sentEr error
	head            []byte
}

// headKept is how many of the first bytes received are remembered: the head of a frame.
const headKept = 9

func observe(conn net.Conn) *observed { return &observed{Conn: conn, lost: make(chan struct{})} }

func (c *observed) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if before := c.received.Add(int64(n)) - int64(n); before < headKept && n > 0 {
		c.mu.Lock()
		c.head = append(c.head, p[:min(n, headKept-int(before))]...)
		c.mu.Unlock()
	}
	c.note(&c.readErr, err)
	return n, err
}

// began returns the first bytes received, at most headKept.
func (c *observed) began() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

func (c *observed) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(&c.sentEr, err)
	return n, err
}

// note keeps the first error that came from the peer; a deadline or the
// caller's own Close is none.
func (c *observed) note(place *error, err error) {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readErr == nil && c.sentEr == nil {
		close(c.lost)
	}
	if *place == nil {
		*place = err
	}
}

// loss is how the peer ended the connection, nil while it has not. A reset is
// told once only, to the reader or to the writer, and the other one finds an
// ordinary end, so it counts wherever it was seen. It does not come after an
// orderly close: data that meets one are answered with EPIPE.
func (c *observed) loss() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.sentEr, syscall.ECONNRESET) {
		return c.sentEr
	}
	if c.readErr != nil {
		return c.readErr
	}
	return c.sentEr
}

// connection is an open connection with TLS and transport header done.
type connection struct {
	// Conn is the outermost layer.
	*observed
	// wire is the layer of TCP segments; it is the same as Conn without TLS.
	wire  *observed
	names []string
	local string
}

// phaseError says in which step before the first byte an attempt failed.
type phaseError struct {
	phase phase
	// received counts the bytes on the wire at that moment: none means that the
	// peer's kernel or a proxy refused without a word.
	received int64
	err      error
}

type phase int

const (
	// phaseSetup is the caller's own preparation; the target has no part in it.
	phaseSetup phase = iota
	phaseDial
	phaseTLS
)

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// open dials and does what the request wants done before its protocol speaks.
// Errors are phaseErrors.
func (c *Caller) open(ctx context.Context, r Request, out *Outcome) (*connection, error) {
	raw, err := c.dialer.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return nil, &phaseError{phaseDial, 0, fmt.Errorf("dial %s: %w", r.Address, err)}
	}
	out.LocalAddr = raw.LocalAddr().String()
	// Reads and writes of the handshake do not know ctx; its end closes the
	// connection under them.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(longAgo) })
	defer stop()
	wire := observe(raw)
	conn := &connection{observed: wire, wire: wire, local: out.LocalAddr}
	if r.SpeakAfter > 0 {
		timer := time.NewTimer(r.SpeakAfter)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	if r.plain() {
		if r.Dribbled {
			wire.Conn = &dribbler{Conn: raw, ctx: ctx}
		}
		return conn, nil
	}
	config, err := c.tlsConfig(ctx, r)
	if err != nil {
		raw.Close()
		return nil, &phaseError{phaseSetup, 0, fmt.Errorf("prepare TLS as %s: %w", r.TLS, err)}
	}
	secure := tls.Client(wire, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &phaseError{phaseTLS, wire.received.Load(), fmt.Errorf("handshake with %s as %q: %w", r.Address, r.ServerName, err)}
	}
	for _, certificate := range secure.ConnectionState().PeerCertificates[:1] {
		conn.names = certificate.DNSNames
	}
	conn.observed = observe(secure)
	if r.Transport != nil {
		if _, err := conn.Write(r.Transport.encode()); err != nil {
			raw.Close()
			return nil, &phaseError{phaseTLS, wire.received.Load(), fmt.Errorf("write the transport header to %s: %w", r.Address, err)}
		}
	}
	if r.Dribbled {
		conn.Conn = &dribbler{Conn: secure, ctx: ctx}
	}
	return conn, nil
}

// dribbler cuts the first thing written in two.
type dribbler struct {
	net.Conn
	ctx  context.Context
	over bool
}

func (d *dribbler) Write(p []byte) (int, error) {
	first := min(dribbleFirst, len(p)-1)
	if d.over || first <= 0 {
		return d.Conn.Write(p)
	}
	d.over = true
	n, err := d.Conn.Write(p[:first])
	if err != nil {
		return n, err
	}
	timer := time.NewTimer(dribblePause)
	defer timer.Stop()
	select {
	case <-d.ctx.Done():
		return n, context.Cause(d.ctx)
	case <-timer.C:
	}
	rest, err := d.Conn.Write(p[first:])
	return n + rest, err
}

// alive looks at an idle connection without taking a byte from it.
func (c *connection) alive() bool {
	tcp, ok := c.wire.Conn.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	idle := false
	err = raw.Read(func(fd uintptr) bool {
		var buffer [1]byte
		_, _, err := syscall.Recvfrom(int(fd), buffer[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		idle = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && idle
}
