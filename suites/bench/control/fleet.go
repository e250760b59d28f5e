package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/clients/load/frame"
)

// fleet is as many proxies as were asked for, each with a connection and one
// stream. All that is kept of a message is when it came.
type fleet struct {
	conns   []net.Conn
	readers sync.WaitGroup
	// greeted counts connections on which the server's settings came, messages all
	// messages; last is when the latest came, in nanoseconds since the epoch.
	greeted  atomic.Int64
	messages atomic.Int64
	last     atomic.Int64
	ended    atomic.Int64
}

// dialers is how many connect, or begin a stream, at the same time.
const dialers = 64

// launchFleet connects n proxies and returns when each has been greeted.
func launchFleet(ctx context.Context, address string, n int) (*fleet, error) {
	f := &fleet{conns: make([]net.Conn, n)}
	err := f.each(func(i int) error { return f.enlist(ctx, address, i) })
	if err == nil && !poll(ctx, func() bool { return f.greeted.Load() == int64(n) || f.ended.Load() > 0 }) || f.ended.Load() > 0 {
		err = fmt.Errorf("%d were greeted, %d have ended", f.greeted.Load(), f.ended.Load())
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("connect %d proxies: %w", n, err)
	}
	return f, nil
}

// watch begins a stream on every connection, for pods of the namespace, and
// returns when each has its first message.
func (f *fleet) watch(ctx context.Context, namespace string) error {
	if err := f.each(func(i int) error { return f.begin(i, namespace+":"+watchedName(i)) }); err != nil {
		return fmt.Errorf("begin %d streams: %w", len(f.conns), err)
	}
	return f.await(ctx, len(f.conns))
}

// each does something for every proxy, and ends with the first error.
func (f *fleet) each(do func(i int) error) error {
	var doing sync.WaitGroup
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range dialers {
		doing.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(f.conns) && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	doing.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *fleet) enlist(ctx context.Context, address string, i int) error {
	dialer := net.Dialer{KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Control: anyPort}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	f.conns[i] = conn
	// So many ports that wait for what may still come would hold up the next fleet.
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if _, err := conn.Write(frame.Greeting(nil, true)); err != nil {
		return err
	}
	f.readers.Go(func() { f.read(conn) })
	return nil
}

// begin is WatchPort.
func (f *fleet) begin(i int, workload string) error {
	spec, err := proto.Marshal(&inboundpb.PortSpec{Workload: workload, Port: port})
	if err != nil {
		return err
	}
	head := frame.NewEncoder(4096).Encode(
		hpack.HeaderField{Name: ":method", Value: "POST"}, hpack.HeaderField{Name: ":scheme", Value: "http"},
		hpack.HeaderField{Name: ":path", Value: inboundpb.InboundServerPolicies_WatchPort_FullMethodName}, hpack.HeaderField{Name: ":authority", Value: "policy"},
		hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"})
	out := frame.Append(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, head.Next())
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(spec))), spec...)
	out = frame.Append(out, http2.FrameData, http2.FlagDataEndStream, 1, message)
	_, err = f.conns[i].Write(out)
	return err
}

// anyPort leaves the choice of the local port to connecting, when it is known what
// it must differ from: to search for one that nobody uses takes longer than all the
// rest once there are thousands.
func anyPort(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(err, failed)
}

// read counts messages to the connection's end.
func (f *fleet) read(conn net.Conn) {
	var reader frame.Reader
	var credit frame.Credit
	var out []byte
	// missing of the message that is being received; prefix gathers its length.
	missing := 0
	var prefix []byte
	buffer := make([]byte, 2<<10)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			f.ended.Add(1)
			return
		}
		out = out[:0]
		err = reader.Feed(buffer[:n], func(in frame.Frame) error {
			switch in.Type {
			case http2.FrameSettings:
				if !in.Flags.Has(http2.FlagSettingsAck) {
					f.greeted.Add(1)
					out = frame.Append(out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
				}
			case http2.FramePing:
				if !in.Flags.Has(http2.FlagPingAck) {
					out = frame.Append(out, http2.FramePing, http2.FlagPingAck, 0, in.Payload)
				}
			case http2.FrameData:
				out = credit.Swallow(out, len(in.Payload))
				for rest := in.Payload; len(rest) > 0; {
					if missing == 0 {
						const length = 5
						k := min(length-len(prefix), len(rest))
						prefix, rest = append(prefix, rest[:k]...), rest[k:]
						if len(prefix) < length {
							break
						}
						missing, prefix = int(binary.BigEndian.Uint32(prefix[1:])), prefix[:0]
						continue
					}
					k := min(missing, len(rest))
					if missing, rest = missing-k, rest[k:]; missing == 0 {
						f.last.Store(time.Now().UnixNano())
						f.messages.Add(1)
					}
				}
			}
			return nil
		})
		if err == nil && len(out) > 0 {
			_, err = conn.Write(out)
		}
		if err != nil {
			f.ended.Add(1)
			return
		}
	}
}

// await waits for so many messages since the last await, no more and no fewer.
func (f *fleet) await(ctx context.Context, n int) error {
	if !poll(ctx, func() bool { return f.messages.Load() >= int64(n) || f.ended.Load() > 0 }) || f.messages.Load() != int64(n) {
		return fmt.Errorf("%d messages, want %d; %d of %d streams have ended", f.messages.Load(), n, f.ended.Load(), len(f.conns))
	}
	f.messages.Store(0)
	return nil
}

func (f *fleet) close() {
	for _, conn := range f.conns {
		if conn != nil {
			conn.Close()
		}
	}
	f.readers.Wait()
}
