package inbound

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// A client that waits out its detection is opaque; where routes are stricter than
// the port's list, it is not so with HTTP.
func TestWhoWaitsOutDetectionGetsNoWeakerVerdict(t *testing.T) {
	app := application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	echo := application(t, nil)
	w := newWorld(t, app, func(c *Config) { c.Timeouts.Detect = short })
	strict := server(detectWithin(short, httpRoute("public", []string{"/public"})), anyone(t, "all"))
	loose := server(detectWithin(short), anyone(t, "all"))
	w.apply(strict)
	waits := func(c client, parts ...string) string {
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
	clients := []client{{from: neighbourIP}, {from: neighbourIP, tls: true, identity: webName}}
	for _, c := range clients {
		for _, parts := range [][]string{
			{"GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"}, {"GET /public HTTP/1.1\r\nHost: app\r\n\r\n"}, {"G", "ET /secret HTTP/1.1\r\nHost: app\r\n\r\n"},
			{"\r\n", "GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"}, {preface},
		} {
			if got := waits(c, parts...); got != "" {
				t.Errorf("%v, %q: answered %q", c, parts, got)
			}
		}
	}
	w.apply(loose) // whose requests are judged as its bytes are
	for _, c := range clients {
		if got := waits(c, "GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"); got == "" {
			t.Errorf("%v: not answered where nothing is stricter", c)
		}
	}
	w.redirectTo(echo)
	w.applyTo(echo.Port(), strict)
	for _, c := range clients {
		for _, bytes := range []string{"EHLO x\r\n", "\x00\x01\x02"} {
			if got := waits(c, bytes); got != bytes {
				t.Errorf("%v: %q came back as %q", c, bytes, got)
			}
		}
	}
}
