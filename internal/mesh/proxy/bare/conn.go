package bare

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Conn is a TCP connection that is read and written by bare calls; all the rest is the
// *net.TCPConn's, the errors' forms included: a *net.OpError around the errno, io.EOF
// alone.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out half
}

// half is one direction.
type half struct {
	// mu makes concurrent calls wait for each other, as those of package net do.
	mu    sync.Mutex
	calls Calls
	// try is what the poller asks again and again; it is made once, since making it
	// allocates. It works on p and tells n and err.
	try func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

// New takes the connection over for reading and writing. Closing either closes both.
func New(conn *net.TCPConn) *Conn {
	c := &Conn{TCPConn: conn}
	c.raw, _ = conn.SyscallConn() // fails for what is no connection, as reading from it will
	c.in.try, c.out.try = c.in.read, c.out.write
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 || c.raw == nil {
		return c.TCPConn.Read(p)
	}
	h := &c.in
	h.mu.Lock()
	h.p = p
	err := c.raw.Read(h.try)
	n, err := h.told(err)
	h.mu.Unlock()
	switch {
	case err != nil:
		return n, c.explain("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 || c.raw == nil {
		return c.TCPConn.Write(p)
	}
	h := &c.out
	h.mu.Lock()
	h.p = p
	err := c.raw.Write(h.try)
	n, err := h.told(err)
	h.mu.Unlock()
	if err != nil {
		return n, c.explain("write", err)
	}
	return n, nil
}

// told returns what came of a call, and forgets it; err is the poller's.
func (h *half) told(err error) (int, error) {
	n := h.n
	if err == nil {
		err = h.err
	}
	h.p, h.n, h.err = nil, 0, nil
	return n, err
}

// read reads once; false: wait for something to read.
func (h *half) read(fd uintptr) bool {
	n, err := h.calls.Read(fd, h.p)
	if err == syscall.EAGAIN {
		return false
	}
	h.n, h.err = n, err
	return true
}

// write writes what is left; false: wait for room.
func (h *half) write(fd uintptr) bool {
	for h.n < len(h.p) {
		n, err := h.calls.Write(fd, h.p[h.n:])
		if err == syscall.EAGAIN {
			return false
		}
		h.n += n
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			h.err = err
			break
		}
	}
	return true
}

// explain gives an error the form that package net gives it.
func (c *Conn) explain(op string, err error) error {
	if said, ok := errors.AsType[*net.OpError](err); ok { // of the poller: a deadline, or closed
		said.Op = op
		return said
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
