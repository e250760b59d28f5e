package abuse

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/proxytest"
	"github.com/meshproof/meshproof/internal/proxytest/readers"
)

// The names of clients.
const (
	adminID = "admin.apps.serviceaccount.identity.linkerd.cluster.local"
	webID   = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
)

// world is an application behind a proxy.
type world struct {
	*T
	app   *app
	plane *proxytest.Plane
	proxy *proxytest.Proxy
	// at is where clients connect to.
	at  string
	log *lines
	// ending is set by cases that end the proxy themselves.
	ending atomic.Bool
	// keeps tells which views of a path the oracle does not allow; by default /admin's.
	keeps func(p string) bool
}

// lines is the proxy's log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// guarded is the policy that most cases have: /admin is for one identity,
// everything else for everybody. Nothing is granted on the Server, which would
// open every route.
func guarded(protocol func(...*pb.HttpRoute) *pb.ProxyProtocol) *pb.Server {
	return proxytest.Server(protocol(
		proxytest.Route("admin", []string{"/admin"}, proxytest.Identities("admins", adminID)),
		proxytest.Route("open", []string{"/"}, proxytest.Anyone("everybody")),
	))
}

// detect is detection within a time that tests wait for.
func detect(routes ...*pb.HttpRoute) *pb.ProxyProtocol { return proxytest.Detect(soon, routes...) }

// newWorld starts a proxy with a policy; edit may change how.
func newWorld(t *T, server *pb.Server, edit ...func(*proxytest.Options)) *world {
	t.Helper()
	w := &world{T: t, app: newApp(t), log: &lines{}, keeps: func(p string) bool { return readers.Under(p, "/admin") }}
	var err error
	if w.plane, err = proxytest.NewPlane(); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(w.plane.Close)
	options := proxytest.Options{Program: *program, Apps: []netip.AddrPort{w.app.addr}, Stderr: w.log}
	for _, e := range edit {
		e(&options)
	}
	if w.proxy, err = w.plane.Start(t.Context(), options); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	_, port, _ := net.SplitHostPort(w.proxy.Pairs[0].String())
	w.at = net.JoinHostPort("127.0.0.1", port)
	t.Cleanup(func() {
		select {
		case <-w.proxy.Ended():
			if !w.ending.Load() {
				t.Errorf("the proxy ended: %s", tail(w.log.String()))
			}
		default:
		}
		w.proxy.Kill()
		w.oracle()
	})
	w.apply(server)
	return w
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

func (w *world) apply(server *pb.Server) {
	w.Helper()
	if err := w.proxy.Apply(context.Background(), w.app.addr.Port(), server); err != nil {
		w.Fatalf("%v", err)
	}
}

// oracle fails when the application saw what nobody but the admin may ask for.
func (w *world) oracle() {
	for _, r := range w.app.seen() {
		if r.header.Get("L5d-Client-Id") == adminID && !w.Failed() {
			continue
		}
		for who, p := range readers.Of(r.target) {
			if w.keeps(p) && r.header.Get("L5d-Client-Id") != adminID {
				w.Errorf("the application saw %s %q, which %s reads as %q", r.method, r.target, who, p)
			}
		}
	}
}

// untouched fails when anything at all reached the application.
func (w *world) untouched() {
	w.Helper()
	if seen := w.app.bytes(); len(bytes.Trim(seen, "\n-")) > 0 {
		w.Errorf("the application got %.200q", seen)
	}
}

// patience is how long a client waits for anything; what takes longer says so.
const patience = 4 * time.Second

// client is a connection with its reader.
type client struct {
	net.Conn
	in *bufio.Reader
	t  *T
}

func newClient(t *T, conn net.Conn) *client {
	return &client{Conn: conn, in: bufio.NewReader(conn), t: t}
}

func (w *world) dial() *client { w.Helper(); return w.dialFrom(proxytest.Neighbour) }

func (w *world) dialFrom(from string) *client {
	w.Helper()
	conn, err := proxytest.Dialer(from).Dial("tcp", w.at)
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	w.Cleanup(func() { conn.Close() })
	return &client{Conn: conn, in: bufio.NewReader(conn), t: w.T}
}

// leaf is a client's certificate.
func (w *world) leaf(identity string) tls.Certificate {
	w.Helper()
	leaf, err := w.plane.CA.MakeLeaf(identity, nil, nil)
	if err != nil {
		w.Fatalf("%v", err)
	}
	return leaf
}

// tlsConfig is that of a meshed client.
func (w *world) tlsConfig(leaf *tls.Certificate, alpn ...string) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: proxytest.ProxyName, NextProtos: alpn}
	if leaf != nil {
		config.Certificates = []tls.Certificate{*leaf}
	}
	return config
}

// meshed connects with mesh TLS as an identity; "" presents no certificate.
func (w *world) meshed(identity string, alpn ...string) *client {
	w.Helper()
	var leaf *tls.Certificate
	if identity != "" {
		l := w.leaf(identity)
		leaf = &l
	}
	c, err := w.handshake(w.dial(), w.tlsConfig(leaf, alpn...))
	if err != nil {
		w.Fatalf("handshake: %v", err)
	}
	return c
}

func (w *world) handshake(raw *client, config *tls.Config) (*client, error) {
	session := tls.Client(raw.Conn, config)
	if err := session.Handshake(); err != nil {
		return nil, err
	}
	return &client{Conn: session, in: bufio.NewReader(session), t: w.T}, nil
}

// send writes raw bytes; a proxy that has closed already is no failure.
func (c *client) send(raw string) { io.WriteString(c.Conn, raw) }

// answer is one HTTP/1 answer; status 0 means that the connection ended without one.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// read takes the answer to a request of this method; 1xx are passed over.
func (c *client) read(method string) answer {
	for {
		res, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			return answer{err: err}
		}
		if method == http.MethodConnect && res.StatusCode == http.StatusOK || res.StatusCode == http.StatusSwitchingProtocols {
			return answer{status: res.StatusCode, header: res.Header}
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode >= http.StatusOK {
			return answer{res.StatusCode, res.Header, string(body), err}
		}
	}
}

// closed fails when anything comes before the end.
func (c *client) closed(what string) {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	if len(b) > 0 {
		c.t.Errorf("%s: the connection carried %.100q, want that it closes", what, b)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("%s: the connection was not closed", what)
	}
}

// ask sends raw bytes over a connection of its own and returns the first answer.
func (w *world) ask(raw string) answer {
	w.Helper()
	c := w.dial()
	defer c.Close()
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	return c.read(method)
}

// get is a well-formed request for a target.
func get(target string, fields ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: app\r\n" + lined(fields) + "\r\n"
}

func lined(fields []string) string {
	text := ""
	for _, f := range fields {
		text += f + "\r\n"
	}
	return text
}

// want asks and fails when the status is none of these.
func (w *world) want(raw string, statuses ...int) answer {
	w.Helper()
	a := w.ask(raw)
	w.is(fmt.Sprintf("%.120q", raw), a, statuses...)
	return a
}

func (w *world) is(what string, a answer, statuses ...int) {
	w.Helper()
	if !slices.Contains(statuses, a.status) {
		w.Errorf("%s: status %d (%v), want one of %v", what, a.status, a.err, statuses)
	}
}

// alive fails when an ordinary client is not served, over a new connection.
func (w *world) alive() {
	w.Helper()
	w.want(get("/alive"), http.StatusOK)
}

// eventually waits for a fact that follows what the test has seen.
func (w *world) eventually(what string, ok func() bool) bool {
	w.Helper()
	deadline := time.Now().Add(soon)
	for !ok() {
		if time.Now().After(deadline) {
			w.Errorf("never happened: %s", what)
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

func env(entries ...string) func(*proxytest.Options) {
	return func(o *proxytest.Options) { o.Env = append(o.Env, entries...) }
}
