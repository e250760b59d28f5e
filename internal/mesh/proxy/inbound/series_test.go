package inbound

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tick is a clock that a test sets.
type tick struct{ at atomic.Int64 }

func (c *tick) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *tick) advance(d time.Duration) { c.at.Add(int64(d)) }

// M-12: ten minutes after its last use a series is no longer shown, and one that
// is used or held stays.
func TestIdleSeriesAreForgottenAfterTenMinutes(t *testing.T) {
	var clock tick
	registry := prometheus.NewRegistry()
	v := newCounters(clock.now, prometheus.CounterOpts{Name: "uses_total"}, []string{"who"})
	registry.MustRegister(v)
	shown := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				all[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return all
	}
	expect := func(when string, want map[string]float64) {
		t.Helper()
		if got := shown(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	held := v.hold([]string{"held"})
	held.metric.Inc()
	v.with([]string{"idle"}, inc)
	v.with([]string{"busy"}, inc)
	clock.advance(6 * time.Minute)
	v.with([]string{"busy"}, inc)
	clock.advance(4 * time.Minute)
	expect("after ten minutes", map[string]float64{"held": 1, "idle": 1, "busy": 2})
	clock.advance(1)
	expect("a moment later", map[string]float64{"held": 1, "busy": 2})
	clock.advance(time.Hour)
	expect("much later", map[string]float64{"held": 1})
	held.release()
	clock.advance(10 * time.Minute)
	expect("ten minutes after it was let go", map[string]float64{"held": 1})
	clock.advance(1)
	expect("in the end", map[string]float64{})
	v.with([]string{"idle"}, inc)
	expect("used anew", map[string]float64{"idle": 1})
}

func TestNoUseIsLostToASeriesThatIsForgotten(t *testing.T) {
	var clock tick
	v := newCounters(clock.now, prometheus.CounterOpts{Name: "uses_total"}, []string{"who"})
	const users, uses = 4, 500
	var wait, sweeping sync.WaitGroup
	stop := make(chan struct{})
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				ch := make(chan prometheus.Metric, 8)
				v.Collect(ch)
			}
		}
	})
	for range users {
		wait.Go(func() {
			for range uses {
				s := v.hold([]string{"one"})
				clock.advance(time.Hour) // idle at once, but for its holder
				v.with([]string{"one"}, func(c prometheus.Counter) {
					if c != s.metric {
						t.Error("a held series was forgotten")
					}
				})
				s.release()
			}
		})
	}
	wait.Wait()
	close(stop)
	sweeping.Wait()
}

// M-12 through the proxy: an open connection keeps its series, a closed one does not.
func TestTheSeriesOfAConnectionOutliveItByTenMinutes(t *testing.T) {
	var clock tick
	w := newWorld(t, application(t, whoami()), func(c *Config) {})
	registry := prometheus.NewRegistry()
	w.registry, w.server.cfg.Metrics = registry, newMetrics(registry, clock.now)
	w.apply(server(http1Protocol(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c net.Conn) {
		c.SetDeadline(time.Now().Add(soon))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
		rawHead(t, c)
	}
	ask(conn)
	names := []string{"inbound_http_authz_allow_total", "request_total", "response_total", "response_latency_ms"}
	eventually(t, "all counted", func() bool { return w.counter("response_total", nil) == 1 })
	clock.advance(2 * seriesRetention)
	for _, name := range names {
		if got := w.counter(name, map[string]string{"authz_name": "all"}); got != 1 {
			t.Errorf("%s while the connection is open: %v", name, got)
		}
	}
	conn.Close()
	eventually(t, "connection's end noticed", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.live) == 0
	})
	clock.advance(2 * seriesRetention)
	for _, name := range names {
		if got := w.counter(name, nil); got != 0 {
			t.Errorf("%s long after its end: %v", name, got)
		}
	}
	if res, _ := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
}
