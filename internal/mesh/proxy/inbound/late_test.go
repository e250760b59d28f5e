package inbound

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that waits out its detection is opaque; where routes are stricter than
// the port's list, it is not so with HTTP.
func TestWhoWaitsOutDetectionGetsNoWeakerVerdict(t *testing.T) {
	for _, c := range []client{{from: neighbourIP}, {from: neighbourIP, tls: true, identity: webName}} {
		t.Run(c.String(), func(t *testing.T) { waitsOutDetection(t, c) })
	}
}

func waitsOutDetection(t *testing.T, c client) {
	app := application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	echo := application(t, nil)
	w := newWorld(t, app, func(config *Config) {
		if !c.tls { // a handshake takes its time
			config.Timeouts.Detect = short
		}
	})
	strict := server(detectWithin(short, httpRoute("public", []string{"/public"})), anyone(t, "all"))
	loose := server(detectWithin(short), anyone(t, "all"))
	w.apply(strict)
	waits := func(parts ...string) string {
		t.Helper()
		before := w.counter("inbound_tcp_authz_allow_total", nil)
		conn, err := w.dial(c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		eventually(t, "the connection is opaque", func() bool { return w.counter("inbound_tcp_authz_allow_total", nil) > before })
		for _, part := range parts {
			io.WriteString(conn, part)
		}
		b := make([]byte, 1<<10)
		n, _ := conn.Read(b)
		return string(b[:n])
	}
	for _, parts := range [][]string{
		{"GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"}, {"GET /public HTTP/1.1\r\nHost: app\r\n\r\n"}, {"G", "ET /secret HTTP/1.1\r\nHost: app\r\n\r\n"},
		{"\r\n", "GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"}, {preface},
	} {
		if got := waits(parts...); got != "" {
			t.Errorf("%q: answered %q", parts, got)
		}
	}
	w.apply(loose) // whose requests are judged as its bytes are
	if got := waits("GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"); got == "" {
		t.Error("not answered where nothing is stricter")
	}
	before := w.counter("inbound_tcp_authz_allow_total", nil)
	for _, heard := range []string{"", "G"} { // before its detection is over
		w.apply(loose)
		conn, err := w.dial(c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, heard)
		eventually(t, "the connection is opaque", func() bool { return w.counter("inbound_tcp_authz_allow_total", nil) > before })
		before = w.counter("inbound_tcp_authz_allow_total", nil)
		conn.SetDeadline(time.Now().Add(soon))
		read, ask := bufio.NewReader(conn), "GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"
		io.WriteString(conn, strings.TrimPrefix(ask, heard))
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatalf("%q: %v", heard, err)
		}
		io.Copy(io.Discard, res.Body)
		w.apply(strict) // now they are not
		io.WriteString(conn, ask)
		if res, err := http.ReadResponse(read, nil); err == nil {
			t.Errorf("%q: then it was answered %d", heard, res.StatusCode)
		}
	}
	w.redirectTo(echo)
	w.applyTo(echo.Port(), strict)
	for _, bytes := range []string{"EHLO x\r\n", "\x00\x01\x02"} {
		if got := waits(bytes); got != bytes {
			t.Errorf("%q came back as %q", bytes, got)
		}
	}
}
