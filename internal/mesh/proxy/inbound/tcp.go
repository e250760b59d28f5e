package inbound

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// halfOpen is how long one direction may stay silent after the other has ended.
const halfOpen = time.Hour

// serveTCP decides on the connection as a whole and, if it is permitted, joins
// it with the application. It ends the session.
func (s *Server) serveTCP(ctx context.Context, sess *session, conn net.Conn) {
	defer sess.end()
	snap := sess.cell.current.Load()
	permit := snap.port.Connection(sess.client)
	if permit == nil || sess.admin { // the admin port speaks HTTP only (B-05)
		s.denied(sess, snap)
		return
	}
	sess.mu.Lock()
	sess.permit = permit
	sess.mu.Unlock()
	if now := sess.cell.current.Load(); now != snap {
		sess.recheck(now)
	}
	s.allowed(sess, snap, permit)
	up, err := s.dial.DialContext(ctx, "tcp", sess.dst.String())
	if err != nil {
		s.cfg.Metrics.tcpError(errIO, sess.dst.Port())
		s.log.info("Application not reachable", "error", err, "target.addr", sess.dst.String())
		return
	}
	if !sess.upstream.add(up) {
		up.Close()
		return
	}
	if late, ok := conn.(*stream); ok && late.unheard && !s.cfg.Dialect.FirstReadDecides {
		conn = &lateConn{stream: late, session: sess}
	}
	splice(conn, up)
}

// splice copies both ways until both directions have ended, and closes up. conn
// is closed by the caller.
func splice(conn, up net.Conn) {
	conn, seen := unpeek(conn)
	var both sync.WaitGroup
	both.Go(func() { copyHalf(up, conn, seen) })
	copyHalf(conn, up, nil)
	both.Wait()
	up.Close()
}

// copyHalf copies one direction to its end and passes the end on. A broken
// direction ends the other too: bytes were lost, so the whole is.
func copyHalf(dst, src net.Conn, first []byte) {
	_, err := dst.Write(first)
	if err == nil {
		_, err = io.Copy(dst, src)
	}
	half, ok := dst.(halfCloser)
	if err != nil || !ok {
		dst.Close()
		src.Close()
		return
	}
	half.CloseWrite()
	dst.SetReadDeadline(time.Now().Add(halfOpen))
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
