package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// relay gives the whole connection to one endpoint, trying others while they
// cannot be reached.
func (s *session) relay(ctx context.Context) {
	var tried []*endpoint
	for {
		e, err := s.pick(ctx, tried)
		if err == nil {
			err = s.tryForward(ctx, e)
		}
		var unreached *dialError
		switch {
		case err == nil:
			return
		case errors.As(err, &unreached) && len(tried) < maxTries-1:
			s.log.Info("endpoint not reached", "error", err)
			tried = append(tried, e)
			continue
		}
		s.log.Info("connection failed", "error", err)
		abort(s.conn)
		return
	}
}

// maxTries bounds the endpoints tried for one connection or request.
const maxTries = 3

// forward gives the connection to e and nowhere else.
func (s *session) forward(ctx context.Context, e *endpoint) {
	if err := s.tryForward(ctx, e); err != nil {
		s.log.Info("connection failed", "error", err)
		abort(s.conn)
	}
}

// tryForward returns a dialError while the client's bytes are untouched, and nil
// when the connection has been served.
func (s *session) tryForward(ctx context.Context, e *endpoint) error {
	e.inFlight.Add(1)
	defer e.inFlight.Add(-1)
	upstream, err := e.dial(ctx, transport.Opaque)
	if err != nil {
		return err
	}
	defer upstream.Close()
	pipe(s.conn, upstream)
	return nil
}

// pipe copies both ways until both ends are done. An end of stream is passed on
// as one, so that a request can be answered after its sender has finished. A
// failure ends both directions; the client sees a reset only where the endpoint
// sent one.
func pipe(client, upstream net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		readErr, writeErr := copyStream(upstream, client)
		switch {
		case readErr != nil:
			abort(upstream)
		case writeErr == nil:
			closeWrite(upstream)
		}
		// After a failed write the other direction ends by itself, once what the
		// endpoint had still to say has been read.
	}()
	readErr, writeErr := copyStream(client, upstream)
	switch {
	case readErr == nil && writeErr == nil:
		closeWrite(client)
	case writeErr != nil:
		abort(upstream)
		client.Close()
	case errors.Is(readErr, syscall.ECONNRESET):
		abort(client)
	default:
		// TLS that ends without saying so is how a proxy cuts a connection: the
		// client gets an end, and no byte that was not sent.
		closeWrite(client)
		client.Close()
	}
	<-done
}

// copyBuffer is the size of one read; larger ones gain nothing.
const copyBuffer = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copyStream copies until src ends (both errors nil) or either side fails.
func copyStream(dst io.Writer, src io.Reader) (readErr, writeErr error) {
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	for {
		n, err := src.Read(buffer[:])
		if n > 0 {
			if _, err := dst.Write(buffer[:n]); err != nil {
				return nil, err
			}
		}
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

// closeWrite ends the stream in one direction: TLS says so inside, TCP by FIN.
func closeWrite(conn net.Conn) error {
	switch c := conn.(type) {
	case interface{ CloseWrite() error }:
		return c.CloseWrite()
	default:
		return conn.Close()
	}
}

// abort closes with a reset, so that the peer does not take the end for a
// regular one.
func abort(conn net.Conn) {
	under := conn
	for {
		switch c := under.(type) {
		case *peekedConn:
			under = c.Conn
			continue
		case *readAhead:
			under = c.Conn
			continue
		case *countedConn:
			under = c.Conn
			continue
		case *tls.Conn:
			under = c.NetConn()
			continue
		case *net.TCPConn:
			c.SetLinger(0)
			if under != conn {
				under.Close() // TLS would say good-bye first
			}
		}
		conn.Close()
		return
	}
}
