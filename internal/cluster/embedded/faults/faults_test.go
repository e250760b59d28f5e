package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/internal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakePods notes what it is told; the pod ns/gone is not there, and no pod has a
// network here.
type fakePods struct {
	mu   sync.Mutex
	told []string
}

func (f *fakePods) tell(pod cluster.Pod, format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pod.Name == "gone" {
		return fmt.Errorf("there is no pod %s: %w", pod, cluster.ErrNotFound)
	}
	f.told = append(f.told, fmt.Sprintf(format, args...))
	return nil
}

func (f *fakePods) Signal(pod cluster.Pod, container string, signal syscall.Signal) error {
	return f.tell(pod, "%s to %s of %s", signal, container, pod)
}

func (f *fakePods) Limit(pod cluster.Pod, container string, more int) error {
	return f.tell(pod, "%d for %s of %s", more, container, pod)
}

func (f *fakePods) Network(pod cluster.Pod) (*os.File, error) {
	if err := f.tell(pod, "network of %s", pod); err != nil {
		return nil, err
	}
	return nil, errors.New("no network here")
}

// serve takes orders at a socket whose path is longer than an address can be.
func serve(t *testing.T) (*fakePods, *Client) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	inside, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/s", inside.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	pods := &fakePods{}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, listener, pods) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return pods, NewClient(filepath.Join(folder, "s"))
}

func TestOrdersArriveAndRefusalsComeBack(t *testing.T) {
	pods, client := serve(t)
	here, gone := cluster.Pod{Namespace: "ns", Name: "app"}, cluster.Pod{Namespace: "ns", Name: "gone"}
	slow := cluster.Disturbance{Port: 8090, How: cluster.Delayed, Delay: time.Second}
	for what, err := range map[string]error{
		"signal": client.Signal(t.Context(), here, "policy", syscall.SIGSTOP), "limit": client.Limit(t.Context(), here, "proxy", 4),
		"calm what is calm": client.Calm(t.Context(), here), "calm what is gone": client.Calm(t.Context(), gone),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"signal": client.Signal(t.Context(), gone, "policy", syscall.SIGSTOP), "limit": client.Limit(t.Context(), gone, "proxy", 4), "disturb": client.Disturb(t.Context(), gone, slow),
	} {
		if !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("%s a pod that is gone: %v", what, err)
		}
	}
	if err := client.Disturb(t.Context(), here, slow); err == nil || !strings.Contains(err.Error(), "no network here") {
		t.Errorf("disturb a pod without network: %v", err)
	}
	if err := client.Disturb(t.Context(), here, cluster.Disturbance{How: "loud"}); err == nil {
		t.Error("an order that makes no sense was sent")
	}
	slices.Sort(pods.told)
	if want := []string{"4 for proxy of ns/app", "network of ns/app", "stopped (signal) to policy of ns/app"}; !slices.Equal(pods.told, want) {
		t.Errorf("told %q, want %q", pods.told, want)
	}
}

func TestWithoutAClusterNothingIsHarmed(t *testing.T) {
	err := NewClient(filepath.Join(t.TempDir(), "nobody")).Signal(t.Context(), cluster.Pod{}, "", syscall.SIGKILL)
	if err == nil || errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("nobody there: %v", err)
	}
}
