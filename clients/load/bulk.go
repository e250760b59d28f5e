package load

import (
	"context"
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
	return Ask(conn, g.plan)
}

// Ask makes one HTTP/1 request on the connection and reads its answer.
func Ask(conn net.Conn, p Plan) error {
	h := newHTTP1(p)
	h.begin(0)
	if _, err := conn.Write(h.take()); err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	buffer := make([]byte, 4<<10)
	for over := false; !over; {
		n, err := conn.Read(buffer)
		if err == nil {
			err = h.feed(buffer[:n], func(time.Duration, error) { over = true })
		}
		if err != nil {
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
		if err = Ask(conn, p); err != nil {
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
