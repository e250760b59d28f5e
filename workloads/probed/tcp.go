package probed

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/peer"

	"github.com/meshproof/meshproof/workloads/serve"
)

// tcpProbe listens for TCP probes, which connect and leave.
func (b *board) tcpProbe(group *serve.Group, address, name string) (net.Addr, error) {
	first, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w", name, address, err)
	}
	l := &tcpListener{address: first.Addr().String(), hit: func(peer string) { b.hit(name, peer) }}
	if b.listeners == nil {
		b.listeners = map[string]*tcpListener{}
	}
	b.listeners[name] = l
	l.serve(first)
	group.Task(func(ctx context.Context) error {
		<-ctx.Done()
		l.close()
		return nil
	})
	return first.Addr(), nil
}

// tcpListener accepts while its probe is healthy; otherwise its port is closed,
// since that is the only way for a TCP probe to fail.
type tcpListener struct {
	address string
	hit     func(peer string)

	mu      sync.Mutex
	current net.Listener
	wait    sync.WaitGroup
}

func (l *tcpListener) serve(listener net.Listener) {
	l.current = listener
	l.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.hit(conn.RemoteAddr().String())
			conn.Close()
		}
	})
}

func (l *tcpListener) set(open bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if open == (l.current != nil) {
		return nil
	}
	if !open {
		l.current.Close()
		l.current = nil
		return nil
	}
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		return fmt.Errorf("listen again on %s: %w", l.address, err)
	}
	l.serve(listener)
	return nil
}

func (l *tcpListener) close() {
	l.mu.Lock()
	if l.current != nil {
		l.current.Close()
		l.current = nil
	}
	l.mu.Unlock()
	l.wait.Wait()
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
