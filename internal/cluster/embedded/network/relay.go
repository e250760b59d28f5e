package network

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// relayChunk is how much is read at once, and relayQueue how many such parts
	// are under way in one direction before the sender is held up.
	relayChunk = 32 << 10
	relayQueue = 256
	// relayDial bounds the connection to where somebody wanted to go.
	relayDial = 5 * time.Second
)

// relay passes on what it gets after a delay: what a slow network does, where
// the kernel has nothing to slow one with.
type relay struct {
	listener *net.TCPListener
	delay    time.Duration
	// inside runs in the network namespace whose connections these are.
	inside func(func() error) error

	mu      sync.Mutex
	closed  bool
	open    map[net.Conn]bool
	running sync.WaitGroup
}

// newRelay listens in the calling thread's network namespace.
func newRelay(delay time.Duration, inside func(func() error) error) (*relay, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listen for delayed connections: %w", err)
	}
	r := &relay{listener: listener, delay: delay, inside: inside, open: map[net.Conn]bool{}}
	r.running.Go(r.serve)
	return r, nil
}

func (r *relay) port() uint16 { return uint16(r.listener.Addr().(*net.TCPAddr).Port) }

func (r *relay) serve() {
	for {
		conn, err := r.listener.AcceptTCP()
		if err != nil {
			return // closed
		}
		r.running.Go(func() { r.pass(conn) })
	}
}

// pass carries one connection, until either side has gone.
func (r *relay) pass(near *net.TCPConn) {
	if !r.keep(near) {
		return
	}
	defer r.drop(near)
	to, err := originalDestination(near)
	if err != nil {
		return
	}
	var far net.Conn
	if err := r.inside(func() (err error) {
		dialer := net.Dialer{Timeout: relayDial, Control: mark}
		far, err = dialer.Dial("tcp4", to.String())
		return err
	}); err != nil {
		_ = near.SetLinger(0) // refused, as it was
		return
	}
	if !r.keep(far) {
		return
	}
	defer r.drop(far)
	var both sync.WaitGroup
	both.Go(func() { r.copy(far, near) })
	both.Go(func() { r.copy(near, far) })
	both.Wait()
}

// mark marks what a relay sends.
func mark(_, _ string, raw syscall.RawConn) error {
	var failure error
	if err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, relayMark)
	}); err != nil {
		return err
	}
	return failure
}

// copy passes on what it reads, each part after the delay, and the end too.
func (r *relay) copy(to, from net.Conn) {
	type part struct {
		data []byte
		due  time.Time
	}
	parts := make(chan part, relayQueue)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(parts)
		for {
			buffer := make([]byte, relayChunk)
			n, err := from.Read(buffer)
			if n > 0 {
				parts <- part{buffer[:n], time.Now().Add(r.delay)}
			}
			if err != nil {
				return
			}
		}
	})
	var failed error
	for p := range parts {
		if failed != nil {
			continue // what else was read has nowhere to go
		}
		timer := time.NewTimer(time.Until(p.due))
		<-timer.C
		if _, failed = to.Write(p.data); failed != nil {
			_ = from.Close()
		}
	}
	reading.Wait()
	if half, ok := to.(interface{ CloseWrite() error }); ok && failed == nil {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}

// keep notes a connection, or closes it when the relay is closed already.
func (r *relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return false
	}
	r.open[conn] = true
	return true
}

func (r *relay) drop(conn net.Conn) {
	_ = conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, conn)
}

// close ends every connection, and waits for what carried them: for one delay
// at most.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for conn := range r.open {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
