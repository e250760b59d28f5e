package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience ends a test that waits for what never comes; poll is how often it
// looks.
const (
	patience = 10 * time.Second
	poll     = 5 * time.Millisecond
)

func start(t *testing.T, s *Server) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, address) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nobody listens")
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestReadinessNamesEverythingThatIsMissing(t *testing.T) {
	s := New()
	var broken error
	done := make(chan struct{})
	s.Check("b", func() error { return broken })
	s.Await("a", done)
	url := start(t, s)
	type answer struct {
		Code int
		Body string
	}
	check := func(want answer) {
		t.Helper()
		code, body := get(t, url+"/ready")
		if diff := cmp.Diff(want, answer{code, body}); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if code, _ := get(t, url+"/live"); code != http.StatusOK {
			t.Errorf("/live says %d", code)
		}
	}
	broken = errors.New("no luck")
	check(answer{503, "a: not yet\nb: no luck\n"})
	close(done)
	check(answer{503, "b: no luck\n"})
	broken = nil
	check(answer{200, "ready\n"})
}

func TestRunTellsWhyItCannotListen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := New().Run(t.Context(), listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "listen for admin requests") {
		t.Errorf("got %v", err)
	}
}

func TestCallsAndStreamsAreCounted(t *testing.T) {
	s := New()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(GRPCMetrics(s.Registry)...)
	checks := health.NewServer()
	healthpb.RegisterHealthServer(server, checks)
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///a", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	client := healthpb.NewHealthClient(conn)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING} {
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		checks.SetServingStatus("", next)
	}
	cancel()
	conn.Close()
	server.GracefulStop()
	<-served

	_, text := get(t, start(t, s)+"/metrics")
	for _, want := range []string{
		`grpc_server_started_total{grpc_method="Check",grpc_service="grpc.health.v1.Health"} 2`,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="grpc.health.v1.Health"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="grpc.health.v1.Health"} 1`,
		`grpc_server_handled_total{grpc_code="NotFound",grpc_method="Check",grpc_service="grpc.health.v1.Health"} 1`,
		`grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="grpc.health.v1.Health"} 1`,
		`grpc_server_handling_seconds_count{grpc_method="Check",grpc_service="grpc.health.v1.Health"} 2`,
		`grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="grpc.health.v1.Health"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}
