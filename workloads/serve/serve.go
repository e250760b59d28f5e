// Package serve runs the listeners of a workload until its context ends.
//
// A workload hands over its HTTP and gRPC servers together with the address
// each is to listen on; all are opened before any is served, so that a port in
// use is an error at start and not a half-working pod. It decides nothing about
// the requests and logs none of them.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// drainTime is what requests in flight get once the context has ended. It is
// below a pod's usual grace period of 30 s and above the life of any call made
// here; streams held open on purpose are cut when it has passed.
const drainTime = 500 * time.Millisecond

// headTime bounds how long a client may take for a request's head. Clients that
// speak late on purpose stay well below it.
const headTime = time.Minute

// Group is a set of servers that start and end together. The zero value is
// ready for Add calls; it is not for concurrent use before Run.
type Group struct {
	entries []entry
	tasks   []func(context.Context) error
}

type entry struct {
	listener net.Listener
	run      func(net.Listener) error
	stop     func()
}

// HTTP listens on address and serves handler, as HTTP/1 and, when h2c is set,
// as HTTP/2 with prior knowledge too.
func (g *Group) HTTP(address string, handler http.Handler, h2c bool) (net.Addr, error) {
	server := newHTTP(handler)
	server.Protocols.SetUnencryptedHTTP2(h2c)
	return g.http(address, server, server.Serve)
}

// HTTPS listens on address and serves handler over TLS, as HTTP/1 or HTTP/2 as
// the client asks.
func (g *Group) HTTPS(address string, handler http.Handler, config *tls.Config) (net.Addr, error) {
	server := newHTTP(handler)
	server.Protocols.SetHTTP2(true)
	server.TLSConfig = config
	return g.http(address, server, func(l net.Listener) error { return server.ServeTLS(l, "", "") })
}

func (g *Group) http(address string, server *http.Server, run func(net.Listener) error) (net.Addr, error) {
	listener, err := g.listen(address)
	if err != nil {
		return nil, err
	}
	g.entries = append(g.entries, entry{listener,
		func(l net.Listener) error {
			if err := run(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		func() {
			ctx, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			if server.Shutdown(ctx) != nil {
				server.Close()
			}
		}})
	return listener.Addr(), nil
}

// GRPC listens on address and serves server.
func (g *Group) GRPC(address string, server *grpc.Server) (net.Addr, error) {
	listener, err := g.listen(address)
	if err != nil {
		return nil, err
	}
	g.entries = append(g.entries, entry{listener, server.Serve, func() {
		cut := time.AfterFunc(drainTime, server.Stop)
		defer cut.Stop()
		server.GracefulStop()
	}})
	return listener.Addr(), nil
}

// Conns listens on address and calls handle for each connection, which is
// closed when handle returns or the group ends.
func (g *Group) Conns(address string, handle func(net.Conn)) (net.Addr, error) {
	listener, err := g.listen(address)
	if err != nil {
		return nil, err
	}
	c := &conns{handle: handle, open: map[net.Conn]struct{}{}}
	g.entries = append(g.entries, entry{listener, c.serve, func() {
		listener.Close()
		c.closeAll()
	}})
	return listener.Addr(), nil
}

// Task adds something that runs beside the servers until its context ends.
func (g *Group) Task(run func(context.Context) error) { g.tasks = append(g.tasks, run) }

// Close gives up listeners of a group that is never run.
func (g *Group) Close() {
	for _, e := range g.entries {
		e.listener.Close()
	}
}

// Run serves until ctx ends or one server fails, then stops them all and waits.
// It returns nil when ctx was the reason.
func (g *Group) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range g.tasks {
		group.Go(func() error { return task(ctx) })
	}
	for _, e := range g.entries {
		group.Go(func() error {
			if err := e.run(e.listener); err != nil {
				return fmt.Errorf("serve %s: %w", e.listener.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			e.stop()
			return nil
		})
	}
	return group.Wait()
}

func (g *Group) listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

func newHTTP(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return NewHTTP(handler, protocols)
}

// NewHTTP is a server with this package's limits that its caller serves.
func NewHTTP(handler http.Handler, protocols *http.Protocols) *http.Server {
	return &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: headTime, ErrorLog: log.New(io.Discard, "", 0)}
}

type conns struct {
	handle func(net.Conn)
	wait   sync.WaitGroup
	mu     sync.Mutex
	ended  bool
	open   map[net.Conn]struct{}
}

func (c *conns) serve(listener net.Listener) error {
	defer c.wait.Wait()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if !c.add(conn) {
			conn.Close()
			return nil
		}
		c.wait.Go(func() {
			defer c.remove(conn)
			c.handle(conn)
		})
	}
}

func (c *conns) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.open[conn] = struct{}{}
	}
	return !c.ended
}

func (c *conns) remove(conn net.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *conns) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for conn := range c.open {
		conn.Close()
	}
}
