package inbound

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// lines collects log lines from several goroutines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// find returns the first line with this message.
func (l *lines) find(msg string) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == msg {
			return fields
		}
	}
	return nil
}

func TestDenialsAreLoggedWithTheirReasons(t *testing.T) {
	var log lines
	w := newWorld(t, application(t, nil), func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	want := func(msg string, fields map[string]any) {
		t.Helper()
		got := log.find(msg)
		for name, value := range fields {
			if got[name] != value {
				t.Errorf("%s: %s is %v, want %v", msg, name, got[name], value)
			}
		}
		if got["level"] != "INFO" || got["target"] != "linkerd_app_inbound::policy" {
			t.Errorf("%s: got %v", msg, got)
		}
	}
	common := map[string]any{
		"server.group": "policy.linkerd.io", "server.kind": "server", "server.name": "srv", "client.ip": neighbourIP,
	}
	with := func(more map[string]any) map[string]any {
		for k, v := range common {
			more[k] = v
		}
		return more
	}

	w.apply(server(detect(httpRoute("r", []string{"/"}))))
	get1(t, w, client{from: neighbourIP, tls: true, identity: webName}, "GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
	want("Request denied", with(map[string]any{"route.kind": "HTTPRoute", "route.name": "r", "client.tls": "true", "client.id": webName}))

	eventually(t, "the first connection's end noticed", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.live) == 0
	})
	w.apply(server(opaque(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "x"); err != nil {
		t.Fatal(err)
	}
	w.apply(server(opaque()))
	want("Connection terminated due to policy change", with(map[string]any{"client.tls": "no_identity"}))
	second, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	refusal(t, second)
	want("Connection denied", with(map[string]any{"client.tls": "no_identity"}))
}

func TestAFloodOfDenialsIsCountedNotWritten(t *testing.T) {
	var log lines
	l := newPolicyLog(slog.New(slog.NewJSONHandler(&log, nil)))
	l.limit.SetBurst(2)
	l.limit.SetLimit(0)
	for range 10 {
		l.info("Request denied")
	}
	l.limit.SetBurst(0)
	l.limit.SetLimit(1e9)
	l.limit.SetBurst(100)
	for log.find("last") == nil {
		l.info("last")
	}
	if got := log.find("last")["suppressed"]; got == nil || got.(float64) < 8 {
		t.Errorf("suppressed: %v", got)
	}
}
