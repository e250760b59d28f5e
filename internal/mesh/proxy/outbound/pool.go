package outbound

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

const (
	// poolIdle is how long an unused connection to an endpoint is kept.
	poolIdle = 60 * time.Second
	// poolSize is how many idle HTTP/1 connections to one endpoint are kept.
	poolSize = 256
	// pingAfter and pingTimeout find HTTP/2 connections whose peer is gone.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// poolKey tells apart the connections to one endpoint that cannot stand in for
// each other.
type poolKey struct {
	session transport.SessionProtocol
	http2   bool
}

// pool is the seam to the HTTP client in use.
type pool interface {
	http.RoundTripper
	CloseIdleConnections()
}

// how says how a request of the given HTTP version reaches e. HTTP/1 is carried
// over HTTP/2 to a proxy that knows how to undo that; to an opaque endpoint
// nothing is said about the session, and the bytes are what the client speaks.
func (e *endpoint) how(clientHTTP2 bool) (key poolKey, carried bool) {
	switch {
	case e.identity != "" && e.opaque:
		return poolKey{transport.Opaque, clientHTTP2}, false
	case clientHTTP2:
		return poolKey{transport.HTTP2, true}, false
	case e.http2:
		return poolKey{transport.HTTP2, true}, true
	}
	return poolKey{transport.HTTP1, false}, false
}

// pool returns the connections for key, made at first use.
func (e *endpoint) pool(key poolKey) pool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pools[key]
	if p == nil {
		p = e.newPool(key)
		e.pools[key] = p
	}
	return p
}

func (e *endpoint) newPool(key poolKey) pool {
	if key.http2 {
		return &http2.Transport{
			AllowHTTP: true, // requests have scheme http; TLS is made below them
			DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
				return e.dial(ctx, key.session)
			},
			DisableCompression: true, IdleConnTimeout: poolIdle, ReadIdleTimeout: pingAfter, PingTimeout: pingTimeout,
		}
	}
	return &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx, key.session) },
		DisableCompression: true, IdleConnTimeout: poolIdle, MaxIdleConnsPerHost: poolSize,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// used closes what has become idle of a retired endpoint.
func (e *endpoint) used() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.retired {
		return
	}
	for _, p := range e.pools {
		p.CloseIdleConnections()
	}
}

// countedConn is a connection to an endpoint. It counts, and it ends with the
// proxy, whoever holds it.
type countedConn struct {
	net.Conn
	metrics *connMetrics
	stop    func() bool
	once    sync.Once
}

func newCountedConn(conn net.Conn, e *endpoint) *countedConn {
	c := &countedConn{Conn: conn, metrics: e.metrics().conn}
	c.metrics.open()
	c.stop = context.AfterFunc(e.proxy.force, func() { abort(c) })
	return c
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.metrics.read.Add(float64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.metrics.written.Add(float64(n))
	return n, err
}

// CloseWrite half-closes the connection.
func (c *countedConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *countedConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.stop()
		c.metrics.close()
	})
	return err
}
