// Package load makes as many calls as a target takes, or as many a second as
// were asked for, and says how long they took.
//
// A Plan goes in, a Result comes out. Requests are encoded once and answers are
// read no further than to find their end, so that what is measured is the target
// and not the client: a request costs one write and one read, or less where many
// share a connection.
//
// It refuses to classify: an answer is as expected or an error, and it is package
// clients that finds out which kind of error. It draws no conclusion from its
// figures, and it never makes up for what was late by leaving it out: at a fixed
// rate a call that had to wait for a free connection is counted from when it was
// due.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Protocol is what is spoken to the target.
type Protocol string

const (
	// HTTP1 sends GET requests, one at a time on each connection.
	HTTP1 Protocol = "http1"
	// Frames sends unary gRPC calls as frames encoded beforehand.
	Frames Protocol = "frames"
	// GRPC sends unary gRPC calls with grpc-go.
	GRPC Protocol = "grpc"
	// Bulk writes bytes that the target swallows; a request is one write.
	Bulk Protocol = "bulk"
	// Connect opens a connection, sends one HTTP/1 request and closes it.
	Connect Protocol = "connect"
)

// Method is the gRPC method that Frames and GRPC call. Its messages are those of
// google.protobuf.BytesValue.
const Method = "/meshproof.bench.Echo/Unary"

// Path is what HTTP1 and Connect ask for.
const Path = "/load"

// Plan is what to do.
type Plan struct {
	Protocol Protocol
	// Address is host:port, Authority what requests call it; empty means Address.
	Address, Authority string
	// From is the address calls come from; the zero value leaves it to the kernel.
	From netip.Addr
	// TLS is nil for cleartext. Its protocol names are set here.
	TLS *tls.Config
	// Connections is how many there are, Streams how many calls each has in
	// flight at most; zero means 1. HTTP1, Bulk and Connect have 1.
	Connections, Streams int
	// Rate is how many calls are begun each second, zero for as many as are
	// answered.
	Rate int
	// Payload is the size of a gRPC message's bytes, or of a bulk write.
	Payload int
	// Header are lines added to each HTTP/1 request or gRPC call.
	Header map[string]string
	// Warm is how long calls flow before they are counted, For how long after.
	Warm, For time.Duration
	// Counting and Counted are called when counting begins and ends, while calls
	// flow; nil for nothing.
	Counting, Counted func()
}

// Result is what was seen while calls were counted.
type Result struct {
	// Requests were answered as expected, Errors were not.
	Requests, Errors int64
	// Bytes were written by Bulk.
	Bytes   int64
	Elapsed time.Duration
	// P50 and P99 are from when a call was due to its answer's end.
	P50, P99 time.Duration
	// Late is the median of how late this client itself was at a fixed rate.
	// It is no part of P50.
	Late time.Duration
	// Failure is the first error, nil without.
	Failure error
}

// PerSecond is the rate of answers.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Gbit is the rate of bytes in Gbit/s.
func (r Result) Gbit() float64 { return float64(r.Bytes) * 8 / r.Elapsed.Seconds() / 1e9 }

const (
	// dialLimit bounds the opening of a connection, handshake included.
	dialLimit = 10 * time.Second
	// settleLimit bounds the wait for answers after the last request.
	settleLimit = 5 * time.Second
	// bufferSize of each connection in each direction.
	bufferSize = 64 << 10
)

// ErrPlan is the cause when a plan makes no sense.
var ErrPlan = errors.New("this load makes no sense")

// Validate names what keeps the plan from being carried out.
func (p Plan) Validate() error {
	switch {
	case p.Address == "":
		return fmt.Errorf("%w: no address", ErrPlan)
	case p.For <= 0 || p.Warm < 0:
		return fmt.Errorf("%w: it lasts %v after %v", ErrPlan, p.For, p.Warm)
	case p.Connections < 0 || p.Streams < 0 || p.Rate < 0 || p.Payload < 0:
		return fmt.Errorf("%w: negative count", ErrPlan)
	case p.Rate > 0 && (p.Protocol == Bulk || p.Protocol == Connect):
		return fmt.Errorf("%w: %s has no rate", ErrPlan, p.Protocol)
	}
	switch p.Protocol {
	case HTTP1, Frames, GRPC, Bulk, Connect:
		return nil
	}
	return fmt.Errorf("%w: protocol %q", ErrPlan, p.Protocol)
}

// Run carries the plan out. An error means that no load was made, or none of it
// was answered; calls that failed among others are counted in the result.
func Run(ctx context.Context, p Plan) (Result, error) {
	if err := p.Validate(); err != nil {
		return Result{}, err
	}
	p.Connections, p.Streams = max(p.Connections, 1), max(p.Streams, 1)
	if p.Authority == "" {
		p.Authority = p.Address
	}
	g := &gauge{plan: p, begun: time.Now()}
	var err error
	switch p.Protocol {
	case HTTP1, Frames:
		err = g.overConnections(ctx)
	case GRPC:
		err = g.overGRPC(ctx)
	default:
		err = g.byWorkers(ctx, map[Protocol]func(context.Context) error{Bulk: g.bulk, Connect: g.connectOver}[p.Protocol])
	}
	result := g.result()
	if err == nil && result.Requests == 0 {
		if err = result.Failure; err == nil {
			err = errors.New("nothing was answered")
		}
	}
	if err != nil {
		return result, fmt.Errorf("load %s with %s: %w", p.Address, p.Protocol, err)
	}
	return result, nil
}

// open dials, and does the handshake when the plan has TLS.
func (p Plan) open(ctx context.Context, protocols ...string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	raw, err := p.dial(ctx, p.Address)
	if err != nil || p.TLS == nil {
		return raw, err
	}
	config := p.TLS.Clone()
	config.NextProtos = protocols
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return secure, nil
}

func (p Plan) dial(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1}
	if p.From.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// openAll opens the plan's connections, all or none.
func (p Plan) openAll(ctx context.Context, protocols ...string) ([]net.Conn, error) {
	conns := make([]net.Conn, 0, p.Connections)
	for range p.Connections {
		conn, err := p.open(ctx, protocols...)
		if err != nil {
			for _, conn := range conns {
				conn.Close()
			}
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// byWorkers runs one worker per connection until the time is over.
func (g *gauge) byWorkers(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	for range g.plan.Connections {
		workers.Go(func() {
			if err := work(ctx); err != nil && ctx.Err() == nil {
				g.failed(err)
			}
		})
	}
	err := g.count(ctx)
	cancel()
	workers.Wait()
	return err
}
