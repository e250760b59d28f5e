package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// defaultBulk is the size of one write without a payload in the plan.
const defaultBulk = 64 << 10

// bulk writes zeros as fast as they are taken.
func (g *gauge) bulk(ctx context.Context) error {
	conn, err := g.plan.open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	size := g.plan.Payload
	if size == 0 {
		size = defaultBulk
	}
	for block := make([]byte, size); ; {
		due := g.now()
		n, err := conn.Write(block)
		if g.counting.Load() {
			g.bytes.Add(int64(n))
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		g.answered(due)
	}
}

// connectOver opens connections one after the other, each for one request.
func (g *gauge) connectOver(ctx context.Context) error {
	for ctx.Err() == nil {
		due := g.now()
		if err := g.connectOnce(ctx); err != nil {
			if ctx.Err() == nil {
				g.failed(err)
			}
			if g.errors.Load() > connectErrors {
				return err
			}
			continue
		}
		g.answered(due)
	}
	return nil
}

// connectErrors ends a load whose target takes no connections.
const connectErrors = 1000

func (g *gauge) connectOnce(ctx context.Context) error {
	conn, err := g.plan.open(ctx, "http/1.1")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	return exchange(conn, newHTTP1(g.plan))
}

// Repeat makes n calls one after the other on one connection, and ends with the
// first that fails. Of the plan it takes HTTP1 and Frames, without a rate.
func Repeat(ctx context.Context, p Plan, n int) error {
	protocol := map[Protocol]string{HTTP1: "http/1.1", Frames: "h2"}[p.Protocol]
	if protocol == "" || p.Rate > 0 {
		return fmt.Errorf("%w: %s at %d/s, repeated", ErrPlan, p.Protocol, p.Rate)
	}
	if p.Authority == "" {
		p.Authority = p.Address
	}
	conn, err := p.open(ctx, protocol)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	w, err := p.wire(conn)
	for i := 0; i < n && err == nil; i++ {
		if err = exchange(conn, w); err != nil {
			err = fmt.Errorf("call %d of %d: %w", i+1, n, err)
		}
	}
	return err
}

// exchange makes one call.
func exchange(conn net.Conn, w wire) error {
	if !w.begin(0) {
		return errors.New("no room for a request")
	}
	buffer := make([]byte, 4<<10)
	for over := false; !over; {
		if out := w.take(); len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return fmt.Errorf("write a request: %w", err)
			}
		}
		n, err := conn.Read(buffer)
		var failed error
		if err == nil {
			err = w.feed(buffer[:n], func(_ time.Duration, err error) { over, failed = true, err })
		}
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
	}
	return nil
}

// Idle opens the plan's connections, makes one HTTP/1 request on each and leaves
// them open. The caller closes them.
func Idle(ctx context.Context, p Plan) ([]net.Conn, error) {
	if p.Authority == "" {
		p.Authority = p.Address
	}
	conns, err := p.openAll(ctx, "http/1.1")
	for i, conn := range conns {
		conn.SetDeadline(time.Now().Add(dialLimit))
		if err = exchange(conn, newHTTP1(p)); err != nil {
			err = fmt.Errorf("connection %d of %d: %w", i+1, len(conns), err)
			break
		}
		conn.SetDeadline(time.Time{})
	}
	if err != nil {
		for _, conn := range conns {
			conn.Close()
		}
		return nil, err
	}
	return conns, nil
}
