// Package twin is one listener made of two sockets: one inside the cluster's
// network namespace and one outside.
//
// Connections flow in from both. It relays nothing and opens nothing by itself
// outside: that socket is inherited.
package twin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// listener accepts from two sockets: one inside the cluster's network, and one
// that was opened on the host's loopback before the cluster's network
// namespace was entered. A socket stays in the namespace it was made in, so
// the host reaches the API server without any relay, and the cluster reaches
// nothing of the host: a listening socket only accepts.
type listener struct {
	net.Listener
	other    net.Listener
	accepted chan accepted
	done     chan struct{}
	close    sync.Once
	loops    sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// Listen listens on address and, when fd is not negative, on that socket
// too. The listener's address is the inside one.
func Listen(address string, fd int) (net.Listener, error) {
	inside, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	if fd < 0 {
		return inside, nil
	}
	file := os.NewFile(uintptr(fd), "api-listener")
	outside, err := net.FileListener(file)
	if closeErr := file.Close(); err != nil || closeErr != nil {
		return nil, errors.Join(fmt.Errorf("use inherited listener %d: %w", fd, errors.Join(err, closeErr)), inside.Close())
	}
	t := &listener{Listener: inside, other: outside, accepted: make(chan accepted), done: make(chan struct{})}
	for _, l := range []net.Listener{inside, outside} {
		t.loops.Go(func() { t.accept(l) })
	}
	return t, nil
}

func (t *listener) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case t.accepted <- accepted{conn, err}:
		case <-t.done:
			if conn != nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

func (t *listener) Accept() (net.Conn, error) {
	select {
	case a := <-t.accepted:
		return a.conn, a.err
	case <-t.done:
		return nil, net.ErrClosed
	}
}

func (t *listener) Close() error {
	var err error
	t.close.Do(func() {
		close(t.done)
		err = errors.Join(t.Listener.Close(), t.other.Close())
		t.loops.Wait()
	})
	return err
}
