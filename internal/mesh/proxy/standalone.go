package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Pair is one way through a proxy that nothing redirects to: what is accepted on
// Listen counts as meant for Destination.
type Pair struct {
	Listen, Destination netip.AddrPort
}

// Listening is what Standalone writes, as one line of JSON, when it accepts.
type Listening struct {
	// Pairs are the addresses of the pairs, in their order.
	Pairs []netip.AddrPort `json:"pairs"`
}

// Standalone is Main in a place where nothing redirects, such as loopback: the
// pairs say what the kernel would have said. All else is as in a pod, and comes
// from the environment; its inbound address is listened on too, for direct
// connections. Suites and benchmarks run it as a process; no role of the agent does.
func Standalone(ctx context.Context, pairs []Pair, out io.Writer) error {
	cfg, log, err := prepare()
	if err != nil {
		return err
	}
	merged, err := merge(cfg.Inbound, pairs)
	if err != nil {
		return err
	}
	defer merged.Close()
	cfg.Listener, cfg.OriginalDst = merged, merged.originalDst
	if err := json.NewEncoder(out).Encode(Listening{Pairs: merged.listening()}); err != nil {
		return fmt.Errorf("tell where the proxy listens: %w", err)
	}
	return Run(ctx, cfg, log)
}

// merged is several listeners as one; which of them took a connection tells its destination.
type merged struct {
	listeners []*net.TCPListener
	dsts      map[uint16]netip.AddrPort // by the port listened on
	direct    net.Addr
	conns     chan net.Conn
	failed    chan error
	closed    chan struct{}
	once      sync.Once
	accepting sync.WaitGroup
}

func merge(direct netip.AddrPort, pairs []Pair) (*merged, error) {
	m := &merged{
		dsts: map[uint16]netip.AddrPort{}, conns: make(chan net.Conn),
		failed: make(chan error, len(pairs)+1), closed: make(chan struct{}),
	}
	for _, pair := range append(slices.Clone(pairs), Pair{Listen: direct, Destination: direct}) {
		listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(pair.Listen))
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("listen on %s: %w", pair.Listen, err)
		}
		m.listeners = append(m.listeners, listener)
		m.dsts[listener.Addr().(*net.TCPAddr).AddrPort().Port()] = pair.Destination
		m.direct = listener.Addr()
	}
	for _, listener := range m.listeners {
		m.accepting.Go(func() { m.accept(listener) })
	}
	return m, nil
}

func (m *merged) accept(listener *net.TCPListener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case m.failed <- err:
				continue
			case <-m.closed:
				return
			}
		}
		select {
		case m.conns <- conn:
		case <-m.closed:
			conn.Close()
			return
		}
	}
}

// listening are the addresses of the pairs.
func (m *merged) listening() []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(m.listeners)-1)
	for _, listener := range m.listeners[:len(m.listeners)-1] {
		addrs = append(addrs, listener.Addr().(*net.TCPAddr).AddrPort())
	}
	return addrs
}

func (m *merged) originalDst(conn *net.TCPConn) (netip.AddrPort, error) {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	dst, ok := m.dsts[local.Port()]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("nothing is paired with %s", local)
	}
	return dst, nil
}

// Accept implements net.Listener.
func (m *merged) Accept() (net.Conn, error) {
	select {
	case conn := <-m.conns:
		return conn, nil
	case err := <-m.failed:
		return nil, err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it is idempotent and waits.
func (m *merged) Close() error {
	m.once.Do(func() {
		close(m.closed)
		for _, listener := range m.listeners {
			listener.Close()
		}
	})
	m.accepting.Wait()
	return nil
}

// Addr implements net.Listener.
func (m *merged) Addr() net.Addr { return m.direct }
