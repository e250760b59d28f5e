package http1

import (
	"io"
	"net"
	"sync"
	"time"
)

// tunnel sends the head that opens it, and joins the connections until both
// directions have ended (H-03). What was read past the heads goes first.
func (c *Conn) tunnel(status int) bool {
	x := c.x
	if err := c.client.write(x.out, time.Now(), c.limits.Stall); err != nil {
		return c.broken(status, c.blame(err))
	}
	c.handler.Responded(x.action.Token, status, -1, nil)
	c.x = nil
	x.put()
	begun := c.unwatch()
	c.client.conn.SetDeadline(time.Time{})
	c.app.conn.SetDeadline(time.Time{})
	var toApp sync.WaitGroup
	toApp.Go(func() { c.copyHalf(c.app.conn, &c.client, begun) })
	c.copyHalf(c.client.conn, &c.app, nil)
	toApp.Wait()
	return false
}

// copyHalf copies one direction to its end and passes the end on. A direction
// that breaks ends the other: bytes were lost, so the whole is.
func (c *Conn) copyHalf(dst net.Conn, src *end, err error) {
	if err == nil {
		_, err = dst.Write(src.bytes())
	}
	src.use(len(src.bytes()))
	for err == nil {
		// There is a deadline once the other direction has ended. It is for silence: as
		// long as bytes come it is moved.
		var n int64
		if n, err = io.Copy(dst, src.conn); !isTimeout(err) {
			break
		} else if n == 0 {
			c.bite(HalfOpenLimit)
			break
		}
		err = src.conn.SetReadDeadline(time.Now().Add(c.limits.HalfOpen))
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil && !isEnd(err) || !ok {
		dst.Close()
		src.conn.Close()
		return
	}
	half.CloseWrite()
	dst.SetReadDeadline(time.Now().Add(c.limits.HalfOpen))
}
