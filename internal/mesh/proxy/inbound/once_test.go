package inbound

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/linkerd/linkerd2-proxy-api/go/meta"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// verdicts are those of the records, in their order.
func (w *world) verdicts() (all []string) {
	for _, d := range w.server.cfg.Decisions.List(DecisionFilter{}).Decisions {
		all = append(all, d.Verdict)
	}
	return all
}

// noneFor is a policy that permits nobody.
func noneFor(tb testing.TB) *policy.Port {
	tb.Helper()
	port, err := policy.Parse(server(opaque()), policy.Dialect{}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// A connection that a policy ends is told of once, however often it is found before
// it has gone.
func TestARevokedConnectionIsNotedOnce(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(opaque(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	var open []*session
	w.server.eachLive(func(sess *session) { open = append(open, sess) })
	for range 2 { // as when a message comes while serveTCP looks for one
		open[0].recheck(&snapshot{port: noneFor(t)})
	}
	if got := w.counter("inbound_tcp_authz_terminate_total", nil); got != 1 {
		t.Errorf("terminate counter: %v", got)
	}
	if got := w.verdicts(); !slices.Equal(got, []string{"allow", "terminate"}) {
		t.Errorf("recorded %q", got)
	}
}

// duringAllow does something while a connection is being allowed.
type duringAllow struct {
	slog.Handler
	do atomic.Pointer[func()]
}

func (h *duringAllow) Enabled(context.Context, slog.Level) bool { return true }

func (h *duringAllow) WithAttrs(attrs []slog.Attr) slog.Handler { return h }

func (h *duringAllow) Handle(ctx context.Context, r slog.Record) error {
	if do := h.do.Load(); do != nil && r.Message == "Connection allowed" {
		(*do)()
	}
	return nil
}

// A policy that comes while a connection is being allowed ends it, and the records
// say so in the order in which it happened.
func TestAPolicyThatComesWithAConnectionEndsItAfterItWasAllowed(t *testing.T) {
	h := &duringAllow{Handler: slog.DiscardHandler}
	w := newWorld(t, application(t, nil), func(cfg *Config) { cfg.Logger = slog.New(h) })
	audited := anyone(t, "all")
	audited.Metadata = &meta.Metadata{Kind: &meta.Metadata_Default{Default: "audit"}}
	w.apply(server(opaque(), audited))
	port, err := w.server.store.acquire(w.app.Port())
	if err != nil {
		t.Fatal(err)
	}
	defer w.server.store.release(port)
	denied := noneFor(t)
	revoke := func() { port.put(denied) }
	h.do.Store(&revoke)
	if conn, err := w.dial(client{from: neighbourIP}); err == nil { // the reset may be there first
		defer conn.Close()
		refusal(t, conn)
	}
	eventually(t, "both are recorded", func() bool { return len(w.verdicts()) == 2 })
	if got := w.verdicts(); !slices.Equal(got, []string{"allow", "terminate"}) {
		t.Errorf("recorded %q", got)
	}
}
