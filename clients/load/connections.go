package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// wire is a protocol on one connection. Its methods are called under the lane's
// lock.
type wire interface {
	// begin appends a request to what is to be written; false when the peer
	// leaves no room for one now.
	begin(due time.Duration) bool
	// feed takes bytes that arrived and calls done for each answer that is over,
	// in any order.
	feed(arrived []byte, done func(due time.Duration, err error)) error
	// take returns what is to be written, which is valid until the next call.
	take() []byte
}

// wire begins the plan's protocol on a connection.
func (p Plan) wire(conn net.Conn) (wire, error) {
	if p.Protocol == Frames {
		return greet(conn, p)
	}
	return newHTTP1(p), nil
}

// lane is a connection and the calls on it.
type lane struct {
	conn net.Conn

	// mu guards wire and inFlight.
	mu       sync.Mutex
	wire     wire
	inFlight int
}

// send begins up to n calls that are due, and writes them at once.
func (l *lane) send(n int, due time.Duration) (begun int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for begun < n && l.wire.begin(due) {
		begun++
	}
	l.inFlight += begun
	return begun, l.flush()
}

func (l *lane) flush() error {
	out := l.wire.take()
	if len(out) == 0 {
		return nil
	}
	_, err := l.conn.Write(out)
	return err
}

// overConnections keeps lanes busy, each with its own reader.
func (g *gauge) overConnections(ctx context.Context) error {
	protocol := "http/1.1"
	if g.plan.Protocol == Frames {
		protocol = "h2"
	}
	conns, err := g.plan.openAll(ctx, protocol)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lanes := make([]*lane, len(conns))
	for i, conn := range conns {
		lanes[i] = &lane{conn: conn}
		if lanes[i].wire, err = g.plan.wire(conn); err != nil {
			break
		}
	}
	closeAll := func() {
		for _, conn := range conns {
			conn.Close()
		}
	}
	if err != nil {
		closeAll()
		return err
	}
	free := make(chan *lane, len(lanes)*g.plan.Streams)
	var readers sync.WaitGroup
	for _, l := range lanes {
		readers.Go(func() {
			if err := g.read(ctx, l, free); err != nil && ctx.Err() == nil {
				g.failed(err)
			}
		})
	}
	if g.plan.Rate > 0 {
		for range g.plan.Streams {
			for _, l := range lanes {
				free <- l
			}
		}
		readers.Go(func() { g.pace(ctx, func(due time.Duration) { g.dispatch(ctx, free, due) }) })
	} else {
		for _, l := range lanes {
			if _, err := l.send(g.plan.Streams, g.now()); err != nil {
				g.failed(err)
			}
		}
	}
	err = g.count(ctx)
	cancel()
	closeAll()
	readers.Wait()
	return err
}

// dispatch sends a call on the first lane with room.
func (g *gauge) dispatch(ctx context.Context, free chan *lane, due time.Duration) {
	select {
	case l := <-free:
		if n, err := l.send(1, due); err != nil || n == 0 {
			g.failed(errors.Join(errors.New("a connection took no request"), err))
		}
	case <-ctx.Done():
	}
}

// read takes in answers until the connection ends. Without a rate each makes
// room for a new request on the same connection; with one it frees a place.
func (g *gauge) read(ctx context.Context, l *lane, free chan *lane) error {
	buffer := make([]byte, bufferSize)
	for {
		n, err := l.conn.Read(buffer)
		if err != nil {
			return fmt.Errorf("read answers: %w", err)
		}
		over := 0
		l.mu.Lock()
		err = l.wire.feed(buffer[:n], func(due time.Duration, err error) {
			over++
			if err != nil {
				g.failed(err)
				return
			}
			g.answered(due)
		})
		l.inFlight -= over
		if g.plan.Rate == 0 && ctx.Err() == nil {
			for l.inFlight < g.plan.Streams && l.wire.begin(g.now()) {
				l.inFlight++
			}
		}
		if err == nil {
			err = l.flush()
		}
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if g.plan.Rate > 0 {
			for range over {
				free <- l // has room: there are as many places as calls
			}
		}
	}
}
