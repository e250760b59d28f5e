package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin answers permitted requests to port 4191 (B-04 to B-07).
type admin struct {
	registry *prometheus.Registry
	// ready is closed with the first certificate; ending when the proxy drains.
	ready    <-chan struct{}
	ending   <-chan struct{}
	shutdown func()
	log      *Log
}

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", a.readiness)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{DisableCompression: true}))
	mux.HandleFunc("GET /env.json", environJSON)
	mux.HandleFunc("/shutdown", loopbackOnly(a.stop))
	mux.HandleFunc("/proxy-log-level", loopbackOnly(a.logLevel))
	mux.HandleFunc("/logs.json", loopbackOnly(a.logs))
	return mux
}

// readiness is about the certificate, not about policy (B-07); a draining proxy is not ready.
func (a *admin) readiness(w http.ResponseWriter, _ *http.Request) {
	select {
	case <-a.ending:
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	default:
	}
	select {
	case <-a.ready:
		io.WriteString(w, "ready\n")
	default:
		http.Error(w, "not certified yet", http.StatusServiceUnavailable)
	}
}

func (a *admin) stop(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	}
	io.WriteString(w, "shutting down\n")
	a.shutdown()
}

func (a *admin) logLevel(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet:
		fmt.Fprintln(w, strings.ToLower(a.log.level.Level().String()))
	case r.Method == http.MethodPut:
		const longest = 64
		body, err := io.ReadAll(io.LimitReader(r.Body, longest))
		if err == nil {
			err = a.log.level.UnmarshalText([]byte(strings.TrimSpace(string(body))))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, PUT")
		http.Error(w, "use GET or PUT", http.StatusMethodNotAllowed)
	}
}

// loopbackOnly answers others with 403 and a body that tells it from a policy's (B-06).
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.Error(w, "only localhost may ask for "+r.URL.Path, http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// environJSON shows how the proxy was configured.
func environJSON(w http.ResponseWriter, _ *http.Request) {
	env := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix) || strings.HasPrefix(name, "MESHPROOF_") {
			env[name] = value
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(env)
}

// processMetrics are the process_* series; the Go runtime's own would double the page.
func processMetrics() []prometheus.Collector {
	return append(heapMetrics(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}
