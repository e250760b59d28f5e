package inbound

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
)

// ownApplication answers HTTP on the address that stands for the pod's own.
func ownApplication(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", neighbourIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: whoami()}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// B-02: a pod that calls itself is a client without TLS from the pod's address:
// neither its own identity nor localhost's grant helps it.
func TestAPodThatCallsItselfIsAStrangerFromItsOwnAddress(t *testing.T) {
	app := ownApplication(t)
	w := newWorld(t, app, nil)
	call := func() int {
		conn, err := w.server.DialOwn(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	inside, outside := anyone(t, "inside"), anyone(t, "outside")
	inside.Networks, outside.Networks = []*pb.Network{network(t, neighbourIP+"/32")}, []*pb.Network{network(t, outsideIP+"/32")}
	for _, row := range []struct {
		grant *pb.Authz
		want  int
	}{{identities(t, "all-authenticated", "*"), 403}, {identities(t, "itself", serverName), 403}, {inside, 200}, {outside, 403}} {
		w.apply(server(detect(), row.grant))
		if got := call(); got != row.want {
			t.Errorf("granted to %s: %d, want %d", row.grant.Metadata.GetResource().Name, got, row.want)
		}
	}
	if got := w.counter("inbound_http_authz_allow_total", map[string]string{"tls": "no_identity", "no_tls_reason": "loopback", "client_id": ""}); got != 1 {
		t.Errorf("allowed as loopback: %v", got)
	}
	for _, d := range w.server.cfg.Decisions.List(DecisionFilter{}).Decisions {
		if !sameClient(d.Client, neighbourIP) {
			t.Errorf("decided about %s, want %s", d.Client, neighbourIP)
		}
	}
}

func TestThePortsOfTheProxyAreNotReachedThroughIt(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	for _, port := range []uint16{w.server.cfg.AdminPort, w.server.cfg.InboundPort} {
		if conn, err := w.server.DialOwn(t.Context(), netip.AddrPortFrom(w.app.Addr(), port)); !errors.Is(err, ErrOwnPort) {
			t.Errorf("port %d: %v, %v", port, conn, err)
		}
	}
}

// What connects to the inner listener without having been made by DialOwn is
// closed, and cannot take the place of what was.
func TestAStrangerAtTheInnerListenerGetsNothing(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(opaque(), anyone(t, "all")))
	w.server.loop.mu.Lock()
	address := w.server.loop.listener.Addr().String()
	w.server.loop.mu.Unlock()
	stranger, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	conn, err := w.server.DialOwn(t.Context(), w.app)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "mine"); err != nil {
		t.Error(err)
	}
	refusal(t, stranger)
}
