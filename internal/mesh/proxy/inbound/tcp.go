package inbound

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// serveTCP decides on the connection as a whole and, if it is permitted, joins
// it with the application. It ends the session.
func (s *Server) serveTCP(ctx context.Context, sess *session, conn net.Conn) {
	defer sess.end()
	snap := sess.cell.current.Load()
	permit := snap.port.Connection(sess.client)
	if !sess.covered(snap.port) || sess.admin { // the admin port speaks HTTP only (B-05)
		s.denied(sess, snap)
		return
	}
	s.allowed(sess, snap, permit) // before anybody can find that nothing covers it any more
	sess.mu.Lock()
	sess.permit = permit
	sess.mu.Unlock()
	if now := sess.cell.current.Load(); now != snap {
		sess.recheck(now)
	}
	up, err := sess.connect(ctx)
	switch {
	case errors.Is(err, net.ErrClosed):
		return // cut meanwhile
	case err != nil:
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			s.bite(limitConnectTime)
		}
		s.cfg.Metrics.tcpError(errIO, sess.dst.Port())
		s.log.info("Application not reachable", "error", err, "target.addr", sess.dst.String())
		return
	}
	if late, ok := conn.(*stream); ok && late.unheard && !s.cfg.Dialect.FirstReadDecides {
		conn = &lateConn{stream: late, session: sess}
	}
	if splice(conn, up, s.cfg.fixed.halfOpen) {
		s.bite(limitHalfOpen)
	}
}

// splice copies both ways until both directions have ended, and closes up. conn
// is closed by the caller. It reports whether one direction had ended and the other
// was silent for as long as half says.
func splice(conn, up net.Conn, half time.Duration) (silent bool) {
	conn, seen := unpeek(conn)
	var both sync.WaitGroup
	var toApp error
	both.Go(func() { toApp = copyHalf(up, conn, seen, half) })
	toClient := copyHalf(conn, up, nil, half)
	both.Wait()
	up.Close()
	return errors.Is(toApp, os.ErrDeadlineExceeded) || errors.Is(toClient, os.ErrDeadlineExceeded)
}

// copyHalf copies one direction to its end and passes the end on. A broken
// direction ends the other too: bytes were lost, so the whole is.
func copyHalf(dst, src net.Conn, first []byte, silence time.Duration) error {
	_, err := dst.Write(first)
	for err == nil {
		// There is a deadline once the other direction has ended. It is for silence: as
		// long as bytes come it is moved.
		var n int64
		if n, err = io.Copy(dst, src); n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		err = src.SetReadDeadline(time.Now().Add(silence))
	}
	half, ok := dst.(halfCloser)
	if err != nil || !ok {
		dst.Close()
		src.Close()
		return err
	}
	half.CloseWrite()
	dst.SetReadDeadline(time.Now().Add(silence))
	return nil
}

// unpeek takes what detection has looked at off a connection and returns the
// bare one: io.Copy between two *net.TCPConn stays in the kernel.
func unpeek(c net.Conn) (net.Conn, []byte) {
	var seen []byte
	for {
		var peek *peekConn
		switch wrapped := c.(type) {
		case *stream:
			peek = &wrapped.peekConn
		case *peekConn:
			peek = wrapped
		default:
			return c, seen
		}
		seen = append(seen, peek.seen...)
		peek.seen = nil
		c = peek.Conn
	}
}
