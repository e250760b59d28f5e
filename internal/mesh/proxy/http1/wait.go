package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/bare"
)

// end is one connection as it is read from and written to. One goroutine at a
// time reads, and one writes.
type end struct {
	conn net.Conn
	// buf holds what was read and not used; nil when there is nothing.
	buf *buffer

	// raw lets the end wait without a buffer; nil if the connection cannot. The
	// function it is given is made once, since making it allocates.
	raw   syscall.RawConn
	calls bare.Calls
	read  func(fd uintptr) bool
	look  func(fd uintptr)
	// failed is what read and look have to say.
	failed error
	// one is what look reads into.
	one [1]byte
	// small is what ends wait with that cannot wait without a buffer.
	small []byte

	// readBy and writeBy are the deadlines in force. They are moved only when a
	// good part of them has passed: a timer per request would cost as much as the
	// rest of the relay.
	readBy, writeBy time.Time
}

func (e *end) init(conn net.Conn) {
	*e = end{conn: conn}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			e.raw, e.read, e.look = raw, e.readInto, e.lookInto
			return
		}
	}
	e.small = make([]byte, smallSize)
}

// readInto reads into a new buffer, which it keeps only when there is something
// in it.
func (e *end) readInto(fd uintptr) bool {
	b := getBuffer()
	n, err := e.calls.Read(fd, b.data)
	switch {
	case err == syscall.EAGAIN:
		b.put()
		return false
	case n > 0:
		b.w, e.buf = n, b
		return true
	case err == nil:
		err = io.EOF
	}
	b.put()
	e.failed = err
	return true
}

// smallSize holds many a request's head.
const smallSize = 1 << 10

// fill reads more bytes; what is there already may move.
func (e *end) fill() error {
	if e.buf == nil && e.raw != nil {
		e.failed = nil
		if err := e.raw.Read(e.read); err != nil {
			return err
		}
		return e.failed
	}
	if e.buf == nil {
		n, err := e.conn.Read(e.small)
		if n > 0 {
			e.buf = getBuffer()
			e.buf.w = copy(e.buf.data, e.small[:n])
			return nil
		}
		return orEOF(err)
	}
	n, err := e.conn.Read(e.buf.room())
	e.buf.w += n
	if n > 0 {
		return nil
	}
	return orEOF(err)
}

// fillMore is fill for who does not wait long, and wants much.
func (e *end) fillMore() error {
	if e.buf == nil && e.raw == nil {
		e.buf = getBuffer()
	}
	err := e.fill()
	e.use(0)
	return err
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// bytes are those read and not used.
func (e *end) bytes() []byte {
	if e.buf == nil {
		return nil
	}
	return e.buf.bytes()
}

// use takes n bytes off, and gives the buffer back with the last.
func (e *end) use(n int) {
	if e.buf == nil {
		return
	}
	if e.buf.r += n; e.buf.r == e.buf.w {
		e.buf.put()
		e.buf = nil
	}
}

// write writes with a deadline of at least three quarters of stall.
func (e *end) write(b []byte, now time.Time, stall time.Duration) error {
	if len(b) == 0 {
		return nil
	}
	if left := e.writeBy.Sub(now); left < stall-stall/4 {
		e.writeBy = now.Add(stall)
		if err := e.conn.SetWriteDeadline(e.writeBy); err != nil {
			return err
		}
	}
	_, err := e.conn.Write(b)
	return err
}

// readWithin moves the read deadline, if need be, to between three quarters of d
// and d from now.
func (e *end) readWithin(now time.Time, d time.Duration) {
	if left := e.readBy.Sub(now); left < d-d/4 || left > d {
		e.readBy = now.Add(d)
		e.conn.SetReadDeadline(e.readBy)
	}
}

// silent reports whether nothing has come, not even the end. Only an end that
// was left open without anything to read may be asked.
func (e *end) silent() bool {
	if e.raw == nil {
		return true
	}
	e.failed = nil
	err := e.raw.Control(e.look)
	return err == nil && e.failed == syscall.EAGAIN
}

func (e *end) lookInto(fd uintptr) {
	_, e.failed = e.calls.Read(fd, e.one[:])
}

// early takes a deadline that Drain set just too late, when it was no longer one
// for who reads now, for what it is, and sets the right one again.
func (e *end) early(err error) bool {
	if !isTimeout(err) || !time.Now().Before(e.readBy) {
		return false
	}
	return e.conn.SetReadDeadline(e.readBy) == nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
