package http2

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/meshproof/meshproof/internal/mesh/proxy/bare"
)

// reader keeps what has been read and not handled. While there is nothing it has no
// buffer: it waits for the first bytes without one, since it cannot know whether they
// come at once or never.
type reader struct {
	conn net.Conn
	seen []byte // not yet given out
	in   *buffer
	// r and w bound what is unread.
	r, w int

	raw   syscall.RawConn
	calls bare.Calls
	wake  func(fd uintptr) bool
	err   error
	peek  *[peekSize]byte
}

// peekSize is what a connection that cannot be waited for otherwise (TLS) is read
// with first; most calls fit in.
const peekSize = 1 << 10

func (r *reader) unread() []byte {
	if r.in == nil {
		return nil
	}
	return r.in.b[r.r:r.w]
}

func (r *reader) take(n int) { r.r += n }

func (r *reader) release() {
	if r.in != nil {
		readBuffers.Put(r.in)
		r.in = nil
	}
	r.r, r.w = 0, 0
}

// more reads once.
func (r *reader) more() error {
	if r.r == r.w {
		r.release()
		if len(r.seen) == 0 {
			return r.first()
		}
	}
	if r.in == nil {
		r.in = readBuffers.Get().(*buffer)
	}
	if r.r > 0 && len(r.in.b)-r.r < maxFrame+frameHeader {
		r.w = copy(r.in.b, r.in.b[r.r:r.w])
		r.r = 0
	}
	if len(r.seen) > 0 {
		n := copy(r.in.b[r.w:], r.seen)
		r.w, r.seen = r.w+n, r.seen[n:]
		return nil
	}
	n, err := r.conn.Read(r.in.b[r.w:])
	r.w += n
	return err
}

// first waits for the connection to have something to read, and only then takes a
// buffer.
func (r *reader) first() error {
	if r.raw == nil && r.peek == nil {
		r.prepare()
	}
	if r.raw == nil {
		n, err := r.conn.Read(r.peek[:])
		r.in = readBuffers.Get().(*buffer)
		r.w = copy(r.in.b, r.peek[:n])
		return err
	}
	r.err = nil
	if err := r.raw.Read(r.wake); err != nil {
		return err
	}
	return r.err
}

func (r *reader) prepare() {
	if s, ok := r.conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw, r.wake = raw, r.readable
			return
		}
	}
	r.peek = new([peekSize]byte)
}

// readable reads from a connection that may have nothing; false: wait for it.
func (r *reader) readable(fd uintptr) bool {
	in := readBuffers.Get().(*buffer)
	n, err := r.calls.Read(fd, in.b)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		readBuffers.Put(in)
		return false
	case err == nil && n == 0:
		r.err = io.EOF
	case err != nil:
		r.err = err
	}
	r.in, r.w = in, n
	return true
}

// linger drops what still comes, within bounds.
func (r *reader) linger() error {
	if r.in == nil {
		r.in = readBuffers.Get().(*buffer)
	}
	for dropped := 0; dropped < lingerBytes; {
		n, err := r.conn.Read(r.in.b)
		dropped += n
		if err != nil {
			break
		}
	}
	return nil
}
