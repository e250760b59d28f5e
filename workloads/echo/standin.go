package echo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshproof/meshproof/workloads/serve"
)

// A stand-in is what runs in place of an image that this project does not have:
// it listens on the ports that its container declares, answers each connection as
// what arrives on it asks for, and records deliveries as an echo does. Probes are
// answered like everything else: with yes.

// StandInMain is the role stand-in. With -once it has nothing to do, as an init
// container whose work nobody needs.
func StandInMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("stand-in", flag.ContinueOnError)
	image := flags.String("image", "", "the image in whose place this runs")
	list := flags.String("ports", "", "ports to listen on, separated by commas")
	once := flags.Bool("once", false, "end at once, in good order")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var ports []int
	for text := range strings.FieldsFuncSeq(*list, func(r rune) bool { return r == ',' }) {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("%q is no port", text)
		}
		ports = append(ports, int(port))
	}
	slog.Info("a stand-in runs in place of an image", "image", *image, "ports", ports)
	if *once {
		return nil
	}
	var group serve.Group
	place := func(port int) string {
		if port == PortControl {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
		return net.JoinHostPort("", strconv.Itoa(port))
	}
	if _, err := StandIn(&group, os.Stdout, ports, place); err != nil {
		return err
	}
	group.Task(func(ctx context.Context) error { <-ctx.Done(); return nil }) // without ports it runs, too
	return group.Run(ctx)
}

// StandIn adds servers at these ports to group, each at the address that place
// gives for it, and the control port, unless another container of the pod has
// that. It returns the addresses by port.
func StandIn(group *serve.Group, out io.Writer, ports []int, place func(port int) string) (map[int]net.Addr, error) {
	recorder := NewRecorder(out)
	config, err := ownTLS()
	if err != nil {
		return nil, err
	}
	control := http.NewServeMux()
	control.Handle("GET /deliveries", recorder)
	addresses := map[int]net.Addr{}
	switch address, err := group.HTTP(place(PortControl), control, false); {
	case errors.Is(err, syscall.EADDRINUSE):
		slog.Warn("another container of the pod tells of deliveries", "port", PortControl)
	case err != nil:
		return nil, err
	default:
		addresses[PortControl] = address
	}
	for _, port := range ports {
		s := newAnyServer(recorder, port, config)
		if addresses[port], err = group.Conns(place(port), s.handle); err != nil {
			return nil, err
		}
		group.Task(s.run)
	}
	return addresses, nil
}

// anyServer answers the connections of one port by what arrives on them: HTTP of
// either version, gRPC, any of them in TLS, or lines.
type anyServer struct {
	recorder *Recorder
	port     int
	tls      *tls.Config
	grpc     *grpc.Server
	plain    *handedListener
	secure   *handedListener
}

func newAnyServer(recorder *Recorder, port int, config *tls.Config) *anyServer {
	config = config.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	return &anyServer{recorder: recorder, port: port, tls: config, grpc: newAnyGRPC(recorder, port),
		plain: newHandedListener(), secure: newHandedListener()}
}

// run serves what connections turn out to speak, until ctx ends.
func (s *anyServer) run(ctx context.Context) error {
	var serving sync.WaitGroup
	for listener, secure := range map[*handedListener]bool{s.plain: false, s.secure: true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(!secure)
		protocols.SetHTTP2(secure)
		server := serve.NewHTTP(s.handler(secure), protocols)
		serving.Go(func() {
			if secure {
				server.TLSConfig = s.tls
				_ = server.ServeTLS(listener, "", "")
				return
			}
			_ = server.Serve(listener)
		})
		serving.Go(func() {
			<-ctx.Done()
			listener.Close()
			server.Close()
		})
	}
	serving.Wait()
	return nil
}

// handler answers requests, and calls of gRPC.
func (s *anyServer) handler(secure bool) http.Handler {
	plain := httpHandler(s.recorder, s.port, secure)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.grpc.ServeHTTP(w, r)
			return
		}
		plain.ServeHTTP(w, r)
	})
}

// methods are what requests begin with, and what connections of HTTP/2 do.
var methods = [][]byte{[]byte("GET "), []byte("HEAD "), []byte("POST "), []byte("PUT "), []byte("PATCH "), []byte("DELETE "),
	[]byte("OPTIONS "), []byte("TRACE "), []byte("CONNECT "), []byte("PRI * ")}

const (
	// handshake and tlsMajor begin a connection of TLS.
	handshake, tlsMajor = 0x16, 3
	// peekAtMost is the longest of methods.
	peekAtMost = 8
)

// handle finds out what a connection speaks, and hands it on. It returns when
// the connection has ended.
func (s *anyServer) handle(conn net.Conn) {
	reader := bufio.NewReaderSize(conn, lineLimit)
	peeked := &peekedConn{Conn: conn, reader: reader, closed: make(chan struct{})}
	for n := 1; ; n++ {
		head, err := reader.Peek(n)
		switch {
		case err == nil && head[0] == handshake && n == 1:
			continue
		case err == nil && head[0] == handshake && head[1] == tlsMajor:
			s.secure.hand(peeked)
			return
		case slices.ContainsFunc(methods, func(m []byte) bool { return bytes.HasPrefix(head, m) }):
			s.plain.hand(peeked)
			return
		case err == nil && n < peekAtMost && slices.ContainsFunc(methods, func(m []byte) bool { return bytes.HasPrefix(m, head) }):
			continue
		}
		s.lines(peeked)
		return
	}
}

// lines echoes lines, as an echo's raw port does.
func (s *anyServer) lines(conn *peekedConn) {
	base := Delivery{Protocol: "tcp", Port: s.port, Peer: conn.RemoteAddr().String()}
	add := func(event, id string, bytes int) {
		d := base
		d.Event, d.ID, d.Bytes = event, id, bytes
		s.recorder.Add(d)
	}
	add(EventOpen, "", 0)
	defer add(EventClose, "", 0)
	echoLines(conn, conn.reader, func(id string, bytes int) { add(EventLine, id, bytes) })
}

// newAnyGRPC is the echo's service, and one that sends back what it is sent for
// every other.
func newAnyGRPC(recorder *Recorder, port int) *grpc.Server {
	return newGRPC(recorder, port, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			// Fields that a message does not know it keeps.
			message := &emptypb.Empty{}
			if err := stream.RecvMsg(message); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if err := stream.SendMsg(message); err != nil {
				return err
			}
		}
	}))
}

// peekedConn is a connection of which something was read already, and put back.
type peekedConn struct {
	net.Conn
	reader *bufio.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *peekedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (c *peekedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// handedListener accepts connections that somebody else has accepted.
type handedListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// hand gives a connection to whoever accepts here, and returns when it has ended.
func (l *handedListener) hand(conn *peekedConn) {
	select {
	case l.conns <- conn:
		select {
		case <-conn.closed:
		case <-l.done:
		}
	case <-l.done:
	}
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *handedListener) Addr() net.Addr { return handedAddr{} }

type handedAddr struct{}

func (handedAddr) Network() string { return "handed" }
func (handedAddr) String() string  { return "handed" }
