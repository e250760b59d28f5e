package inbound_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ns = "emojivoto"
	// budget is what anything here may take; it is never waited for in full.
	budget = 20 * time.Second
)

// served is a service over an index that holds pod "web" with port http 8080.
type served struct {
	index   *index.Index
	service *inbound.Service
	client  inboundpb.InboundServerPoliciesClient
	// stop ends the service; ended is closed when it has.
	stop  context.CancelFunc
	ended chan struct{}
}

func serve(t *testing.T, synced <-chan struct{}) served {
	t.Helper()
	x := index.New(index.Config{Dialect: api.Documented()})
	ctx, stop := context.WithCancel(context.Background())
	s := served{index: x, service: &inbound.Service{Index: x, Synced: synced, Stopping: ctx.Done()}, stop: stop, ended: make(chan struct{})}
	listener := bufconn.Listen(1 << 16)
	go func() {
		defer close(s.ended)
		if err := inbound.Serve(ctx, listener, nil, s.service); err != nil {
			t.Error(err)
		}
	}()
	connection, err := grpc.NewClient("passthrough:policy", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	s.client = inboundpb.NewInboundServerPoliciesClient(connection)
	t.Cleanup(func() { stop(); <-s.ended; connection.Close(); listener.Close() })
	s.update(func(tx *index.Tx) { tx.SetPod(ns, "web", mkPod("web")) })
	return s
}

func (s served) update(change func(*index.Tx)) { s.index.Update(change) }

func mkPod(uid types.UID) index.PodSpec {
	return index.NewPodSpec(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: uid, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}, api.Documented())
}

func mkServer(protocol api.ProxyProtocol) index.ServerSpec {
	return index.NewServerSpec(&api.Server{Spec: api.ServerSpec{
		PodSelector: &api.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Port: intstr.FromString("http"), ProxyProtocol: protocol,
	}})
}

// receive returns the name of the next policy that the stream tells.
func receive(t *testing.T, stream grpc.ServerStreamingClient[inboundpb.Server]) string {
	t.Helper()
	message, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return message.GetLabels()["name"]
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	t.Cleanup(cancel)
	return ctx
}

func TestWhoDoesNotReadHoldsUpNobodyAndFindsTheLatest(t *testing.T) {
	s := serve(t, nil)
	// A policy of a size of which not many fit into what is sent ahead of a reader.
	const changes, size = 300, 8 << 10
	name := func(i int) string { return fmt.Sprint(strings.Repeat("x", size), i) }
	grant := s.index.Config().NewAuthorizationSpec(&api.ServerAuthorization{
		Spec: api.ServerAuthorizationSpec{Server: api.ServerReference{Name: "http"}, Client: api.Client{Unauthenticated: true, Networks: []api.Network{{CIDR: "10.0.0.0/8"}}}},
	})
	change := func(i int) {
		s.update(func(tx *index.Tx) {
			tx.SetServer(ns, "http", mkServer(api.ProtocolHTTP1))
			tx.DeleteAuthorization(ns, name(i-1))
			tx.SetAuthorization(ns, name(i), grant)
		})
	}
	change(0)
	spec := &inboundpb.PortSpec{Workload: ns + ":web", Port: 8080}
	watch := func() grpc.ServerStreamingClient[inboundpb.Server] {
		stream, err := s.client.WatchPort(within(t), spec)
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	// until reads to the policy of change i, and counts the messages on the way.
	until := func(stream grpc.ServerStreamingClient[inboundpb.Server], i int) (messages int) {
		for {
			message, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			messages++
			if message.GetAuthorizations()[0].GetLabels()["name"] == name(i) {
				return messages
			}
		}
	}
	idle, brisk := watch(), watch()
	until(idle, 0)
	until(brisk, 0)
	for i := range changes {
		change(i + 1)
		until(brisk, i+1)
	}
	if messages := until(idle, changes); messages > changes/4 {
		t.Errorf("%d messages of %d were kept for who did not read", messages, changes)
	}
}

// W-02, W-03.
func TestWorkloadsAreReadInEveryForm(t *testing.T) {
	s := serve(t, nil)
	for _, row := range []struct {
		workload string
		port     uint32
		want     codes.Code
	}{
		{`{"ns":"emojivoto","pod":"web"}`, 8080, codes.OK},
		{"emojivoto:web", 8080, codes.OK},
		{"emojivoto:web", 65535, codes.OK},
		{"emojivoto:web", 1, codes.OK},
		{"emojivoto:web", 0, codes.InvalidArgument},
		{"emojivoto:web", 65536, codes.InvalidArgument},
		{"", 8080, codes.InvalidArgument},
		{"web", 8080, codes.InvalidArgument},
		{":web", 8080, codes.InvalidArgument},
		{"emojivoto:", 8080, codes.InvalidArgument},
		{"a:b:c", 8080, codes.InvalidArgument},
		{"{", 8080, codes.InvalidArgument},
		{`{"ns":"emojivoto"}`, 8080, codes.InvalidArgument},
		{`{"pod":"web"}`, 8080, codes.InvalidArgument},
		{`{"ns":"emojivoto","pod":"web","external_workload":"x"}`, 8080, codes.InvalidArgument},
		{`{"ns":"emojivoto","external_workload":"x"}`, 8080, codes.NotFound},
		{"emojivoto:other", 8080, codes.NotFound},
		{"other:web", 8080, codes.NotFound},
	} {
		spec := &inboundpb.PortSpec{Workload: row.workload, Port: row.port}
		_, err := s.client.GetPort(within(t), spec)
		if got := status.Code(err); got != row.want {
			t.Errorf("GetPort %v: %v, want %v", spec, got, row.want)
		}
		ctx, cancel := context.WithCancel(within(t))
		stream, err := s.client.WatchPort(ctx, spec)
		if err == nil {
			_, err = stream.Recv()
		}
		if got := status.Code(err); got != row.want {
			t.Errorf("WatchPort %v: %v, want %v", spec, got, row.want)
		}
		if row.want == codes.NotFound && status.Convert(err).Message() != "unknown server" {
			t.Errorf("%v: %q", spec, status.Convert(err).Message())
		}
		cancel()
	}
}

// W-05, X-62.
func TestAStreamTellsTheStateAtOnceAndThenEachEffectiveChangeOnce(t *testing.T) {
	s := serve(t, nil)
	stream, err := s.client.WatchPort(within(t), &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	got = append(got, receive(t, stream))
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	got = append(got, receive(t, stream))
	// None of these changes the port's policy.
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "b", mkServer(api.ProtocolHTTP2)) })
	s.update(func(tx *index.Tx) { tx.DeleteServer(ns, "b") })
	s.update(func(tx *index.Tx) { tx.SetPod(ns, "other", mkPod("other")) })
	s.update(func(tx *index.Tx) { tx.DeleteServer(ns, "a") })
	got = append(got, receive(t, stream))
	if diff := cmp.Diff([]string{"all-unauthenticated", "a", "all-unauthenticated"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// W-05.
func TestAStreamEndsInGoodOrder(t *testing.T) {
	for name, end := range map[string]func(served){
		"with its pod":        func(s served) { s.update(func(tx *index.Tx) { tx.DeletePod(ns, "web") }) },
		"with the controller": func(s served) { s.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil)
			stream, err := s.client.WatchPort(within(t), &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
			if err != nil {
				t.Fatal(err)
			}
			receive(t, stream)
			end(s)
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestNobodyIsAnsweredBeforeTheIndexIsComplete(t *testing.T) {
	synced := make(chan struct{})
	s := serve(t, synced)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if got, err := s.client.GetPort(ctx, &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080}); err == nil {
		t.Errorf("answered with %v", got)
	}
	stream, err := s.client.WatchPort(within(t), &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	close(synced)
	if got := receive(t, stream); got != "a" {
		t.Errorf("told %s", got)
	}
}

func TestClientsThatLeaveLeaveNoWatchBehind(t *testing.T) {
	s := serve(t, nil)
	var streams sync.WaitGroup
	for range 50 {
		streams.Go(func() {
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			stream, err := s.client.WatchPort(ctx, &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	streams.Wait()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		ports, watchers := s.index.Watched()
		if ports == 0 && watchers == 0 {
			break
		}
		if time.Since(begun) > budget {
			t.Fatalf("%d ports are still watched by %d", ports, watchers)
		}
	}
}

func TestMeshTLSIsServedToClientsThatOfferNoApplicationProtocol(t *testing.T) {
	const name = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
	ca := identitytest.NewCA(t, "root")
	self := ca.Client(t, name)
	web := ca.Client(t, "web.emojivoto.serviceaccount.identity.linkerd.cluster.local")
	foreign := identitytest.NewCA(t, "other").Client(t, "web.emojivoto.serviceaccount.identity.linkerd.cluster.local")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := index.New(index.Config{Dialect: api.Documented()})
	x.Update(func(tx *index.Tx) { tx.SetPod(ns, "web", mkPod("web")) })
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- inbound.Serve(ctx, listener, self.ServerConfig("h2"), &inbound.Service{Index: x, Stopping: ctx.Done()})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	anonymous := web.ClientConfig(name)
	anonymous.GetClientCertificate = nil
	for _, row := range []struct {
		name   string
		config *tls.Config
		served bool
	}{
		{"with h2", web.ClientConfig(name, "h2"), true},
		{"without", web.ClientConfig(name), true},
		{"without a certificate", anonymous, true},
		{"of a foreign root", foreignTo(foreign, name), false},
		{"plaintext", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
					raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
					if err != nil || row.config == nil {
						return raw, err
					}
					secured := tls.Client(raw, row.config)
					if err := secured.HandshakeContext(ctx); err != nil {
						raw.Close()
						return nil, err
					}
					return secured, nil
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			_, err = inboundpb.NewInboundServerPoliciesClient(connection).GetPort(within(t), &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
			if served := err == nil; served != row.served {
				t.Errorf("served %v (%v), want %v", served, err, row.served)
			}
		})
	}
}

// foreignTo presents the client's own leaf and does not look at the server's.
func foreignTo(client *identity.Client, name string) *tls.Config {
	config := client.ClientConfig(name)
	config.VerifyConnection = nil
	return config
}
