package probed_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshproof/meshproof/workloads/probed"
	"github.com/meshproof/meshproof/workloads/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) map[int]net.Addr {
	var group serve.Group
	addresses, err := probed.Listen(&group, func(int) string { return "127.0.0.1:0" })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return addresses
}

// ask probes as a kubelet does and reports success.
func ask(t *testing.T, addresses map[int]net.Addr, probe probed.Probe) bool {
	t.Helper()
	address := ""
	if probe.Port != 0 {
		address = addresses[probe.Port].String()
	}
	switch probe.Kind {
	case probed.HTTP:
		return status(t, http.MethodGet, "http://"+address+probed.Path) == http.StatusOK
	case probed.TCP:
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	case probed.GRPC:
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err == nil && answer.GetStatus() == healthpb.HealthCheckResponse_SERVING
	case probed.Exec:
		err := probed.Check(t.Context(), addresses[probed.PortControl].String(), probe.Name)
		if err != nil && !errors.Is(err, probed.ErrUnhealthy) {
			t.Errorf("error %v, want ErrUnhealthy", err)
		}
		return err == nil
	}
	t.Fatalf("no kubelet asks %q", probe.Kind)
	return false
}

func status(t *testing.T, method, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestEachProbeSucceedsUntilItAloneIsMadeUnhealthy(t *testing.T) {
	addresses := start(t)
	control := "http://" + addresses[probed.PortControl].String()
	for _, probe := range probed.Probes() {
		t.Run(probe.Name, func(t *testing.T) {
			set := func(healthy bool) {
				if got := status(t, http.MethodPost, control+"/probes?name="+probe.Name+"&healthy="+strconv.FormatBool(healthy)); got != 200 {
					t.Fatalf("setting %s answers %d", probe.Name, got)
				}
			}
			if !ask(t, addresses, probe) {
				t.Error("fails from the start")
			}
			set(false)
			if ask(t, addresses, probe) {
				t.Error("succeeds although unhealthy")
			}
			for _, other := range probed.Probes() {
				if other != probe && !ask(t, addresses, other) {
					t.Errorf("%s fails with it", other.Name)
				}
			}
			set(true)
			if !ask(t, addresses, probe) {
				t.Error("does not recover")
			}
		})
	}
	response, err := http.Get(control + "/probes")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var states map[string]probed.State
	if err := json.NewDecoder(response.Body).Decode(&states); err != nil {
		t.Fatal(err)
	}
	for _, probe := range probed.Probes() {
		if state := states[probe.Name]; !state.Healthy || state.Hits == 0 || state.Peer == "" {
			t.Errorf("%s is %+v in the end, want healthy with hits", probe.Name, state)
		}
	}
}

func TestAProbeThatDoesNotExistIsNotHealthy(t *testing.T) {
	addresses := start(t)
	control := addresses[probed.PortControl].String()
	if err := probed.Check(t.Context(), control, "nobody"); !errors.Is(err, probed.ErrUnhealthy) {
		t.Errorf("error %v, want ErrUnhealthy", err)
	}
	if got := status(t, http.MethodPost, "http://"+control+"/probes?name=nobody&healthy=true"); got != 404 {
		t.Errorf("status %d, want 404", got)
	}
	if got := status(t, http.MethodPost, "http://"+control+"/probes?name=http-live&healthy=perhaps"); got != 400 {
		t.Errorf("status %d, want 400", got)
	}
}

func TestThereIsAProbeOfEachKindForReadinessAndForLiveness(t *testing.T) {
	seen := map[string]bool{}
	for _, probe := range probed.Probes() {
		seen[string(probe.Kind)+strconv.FormatBool(probe.Liveness)] = true
		if found, ok := probed.Find(probe.Name); !ok || found != probe {
			t.Errorf("%s is found as %+v", probe.Name, found)
		}
	}
	if len(seen) != 8 || len(probed.Probes()) != 8 {
		t.Errorf("%d probes of %d sorts, want 8", len(probed.Probes()), len(seen))
	}
}
