// Package admin is the small HTTP server beside a control plane role: /live,
// /ready and /metrics.
//
// /live answers as soon as the process listens, /ready only while every check
// the role has named passes; a failing check is told in the answer, so that
// "not ready" always comes with its reason. It serves nothing else and changes
// nothing.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// headerTimeout bounds the reading of a request's head.
	headerTimeout = 5 * time.Second
	// closeTimeout is what running requests get when the role ends.
	closeTimeout = time.Second
)

// Server is made by New.
type Server struct {
	// Registry is where the role registers its metrics.
	Registry *prometheus.Registry

	mu     sync.Mutex
	checks map[string]func() error
	mux    *http.ServeMux
}

// New returns a server without checks, which is ready once it runs.
func New() *Server {
	s := &Server{Registry: prometheus.NewRegistry(), checks: map[string]func() error{}, mux: http.NewServeMux()}
	s.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{Registry: s.Registry}))
	s.mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	s.mux.HandleFunc("GET /ready", s.ready)
	return s
}

// Check adds a condition of readiness: nil is met, an error says what is missing.
func (s *Server) Check(name string, check func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[name] = check
}

// Await adds a condition of readiness that is met for good once done is closed.
func (s *Server) Await(name string, done <-chan struct{}) {
	s.Check(name, func() error {
		select {
		case <-done:
			return nil
		default:
			return errors.New("not yet")
		}
	})
}

// Run serves on the address until ctx ends.
func (s *Server) Run(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for admin requests: %w", err)
	}
	server := &http.Server{Handler: s.mux, ReadHeaderTimeout: headerTimeout}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	})
	err = server.Serve(listener)
	if stop() {
		return fmt.Errorf("serve admin requests on %s: %w", address, err)
	}
	<-stopped
	return nil
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []string
	for name, check := range s.checks {
		if err := check(); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if len(missing) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	slices.Sort(missing)
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, line := range missing {
		fmt.Fprintln(w, line)
	}
}
