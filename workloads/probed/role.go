package probed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/workloads/serve"
)

// checkTimeout bounds an exec probe's question, below the second after which
// the kubelet gives up on it.
const checkTimeout = 500 * time.Millisecond

// State is what is known of one probe.
type State struct {
	Healthy bool `json:"healthy"`
	// Hits counts what reached the application, Last when and Peer from where.
	Hits int64     `json:"hits"`
	Last time.Time `json:"last,omitzero"`
	Peer string    `json:"peer,omitempty"`
}

// Main is the role probed: without arguments all probes' ports and the loopback
// port; with `check NAME` an exec probe.
func Main(ctx context.Context, args []string) error {
	control := net.JoinHostPort("127.0.0.1", strconv.Itoa(PortControl))
	if len(args) > 0 {
		if len(args) != 2 || args[0] != "check" {
			return fmt.Errorf("arguments %q are neither none nor: check NAME", args)
		}
		return Check(ctx, control, args[1])
	}
	var group serve.Group
	_, err := Listen(&group, func(port int) string {
		if port == PortControl {
			return control
		}
		return net.JoinHostPort("", strconv.Itoa(port))
	})
	if err != nil {
		return err
	}
	return group.Run(ctx)
}

// Listen adds all servers to group, each at the address that place gives for its
// port, and returns the addresses by port.
func Listen(group *serve.Group, place func(port int) string) (map[int]net.Addr, error) {
	b := &board{states: map[string]*State{}}
	addresses := map[int]net.Addr{}
	var err error
	add := func(port int, listen func(address string) (net.Addr, error)) {
		if err == nil {
			addresses[port], err = listen(place(port))
		}
	}
	add(PortControl, func(a string) (net.Addr, error) { return group.HTTP(a, b, false) })
	for _, probe := range Probes() {
		b.states[probe.Name] = &State{Healthy: true}
		switch probe.Kind {
		case HTTP:
			add(probe.Port, func(a string) (net.Addr, error) { return group.HTTP(a, b.httpProbe(probe.Name), false) })
		case GRPC:
			add(probe.Port, func(a string) (net.Addr, error) { return group.GRPC(a, b.grpcProbe(probe.Name)) })
		case TCP:
			add(probe.Port, func(a string) (net.Addr, error) { return b.tcpProbe(group, a, probe.Name) })
		}
	}
	return addresses, err
}

// board is the health and the counts of all probes.
type board struct {
	mu     sync.Mutex
	states map[string]*State
	// listeners of TCP probes, by name; open as long as the probe is healthy.
	listeners map[string]*tcpListener
}

// hit counts an arrival and returns the probe's health.
func (b *board) hit(name, peer string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.states[name]
	state.Hits++
	state.Last, state.Peer = time.Now(), peer
	return state.Healthy
}

func (b *board) httpProbe(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.hit(name, r.RemoteAddr) {
			http.Error(w, "unhealthy", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "healthy\n")
	})
}

// ServeHTTP is the loopback port: GET /probes, POST /probes?name=N&healthy=B,
// and GET /check?name=N for exec probes.
func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("name")
	_, known := b.states[name]
	switch {
	case r.URL.Path == "/probes" && r.Method == http.MethodGet:
		b.mu.Lock()
		defer b.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(b.states)
	case !known:
		http.Error(w, fmt.Sprintf("there is no probe %q", name), http.StatusNotFound)
	case r.URL.Path == "/check":
		if !b.hit(name, r.RemoteAddr) {
			http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		}
	case r.URL.Path == "/probes" && r.Method == http.MethodPost:
		healthy, err := strconv.ParseBool(r.FormValue("healthy"))
		if err == nil {
			err = b.set(name, healthy)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	default:
		http.NotFound(w, r)
	}
}

func (b *board) set(name string, healthy bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if listener := b.listeners[name]; listener != nil {
		if err := listener.set(healthy); err != nil {
			return err
		}
	}
	b.states[name].Healthy = healthy
	return nil
}

// Check is what an exec probe runs: it asks the loopback port, at address control,
// about a probe. A probe that is unhealthy or unknown is ErrUnhealthy.
func Check(ctx context.Context, control, name string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+control+"/check?name="+url.QueryEscape(name), nil)
	if err != nil {
		return fmt.Errorf("make the question for %s: %w", name, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("check %s: %w: status %d", name, ErrUnhealthy, response.StatusCode)
	}
	return nil
}

// ErrUnhealthy is what an exec probe fails with when the probe is unhealthy or
// there is none of its name.
var ErrUnhealthy = errors.New("unhealthy")

// grpcProbe serves the health service for every service name.
func (b *board) grpcProbe(name string) *grpc.Server {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, &grpcHealth{board: b, name: name})
	return server
}

type grpcHealth struct {
	healthpb.UnimplementedHealthServer
	board *board
	name  string
}

func (h *grpcHealth) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	answer := healthpb.HealthCheckResponse_NOT_SERVING
	if h.board.hit(h.name, peerOf(ctx)) {
		answer = healthpb.HealthCheckResponse_SERVING
	}
	return &healthpb.HealthCheckResponse{Status: answer}, nil
}

func (h *grpcHealth) Watch(*healthpb.HealthCheckRequest, grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return status.Error(codes.Unimplemented, "kubelets do not watch")
}
