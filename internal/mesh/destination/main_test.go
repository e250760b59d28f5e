package destination

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/kube/kubetest"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const poll = 10 * time.Millisecond

// The whole role: objects of every kind come in by watches, answers go out.
func TestTheRoleAnswersFromWhatItWatches(t *testing.T) {
	api := kubetest.New(t)
	api.Put("/api/v1/namespaces/emojivoto", corev1.Namespace{})
	feed := mkCluster(t) // only to make objects
	pod := feed.pod("a", "10.244.0.5", nil)
	pod.UID = ""
	api.Put("/api/v1/namespaces/emojivoto/pods/a", pod)
	address, admin := startRole(t, api, "--plaintext")

	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ready(t, admin)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := &cluster{t, ctx, nil, pb.NewDestinationClient(conn)}
	s := c.profile(podIP)
	s.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", nil)})
	api.Put("/apis/policy.linkerd.io/v1beta3/namespaces/emojivoto/servers/s", server("s", "grpc", "opaque").Object)
	s.expect(&pb.DestinationProfile{OpaqueProtocol: true, Endpoint: addr(votingIP, 8080, "a", opaqueHint)})
	api.Delete("/api/v1/namespaces/emojivoto/pods/a")
	s.expect(&pb.DestinationProfile{})
}

// What is served is what was watched: nothing before every kind has been listed.
func TestTheRoleServesNothingBeforeItKnowsEverything(t *testing.T) {
	api := kubetest.New(t)
	const servers = "/apis/policy.linkerd.io/v1beta3/servers"
	api.Fail(func(_, path string) int {
		if path == servers {
			return http.StatusNotFound
		}
		return 0
	})
	address, admin := startRole(t, api, "--plaintext")
	tries := func() (n int) {
		for _, request := range api.Requests() {
			if request == "WATCH "+servers || request == "GET "+servers {
				n++
			}
		}
		return n
	}
	eventually(t, "a second attempt", func() bool { return tries() > 1 })
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("serves without having seen any Server")
	}
	api.Fail(nil)
	ready(t, admin)
}

// Clients learn where others are only from whom they can verify.
func TestServingOverMeshTLS(t *testing.T) {
	ca := identitytest.NewCA(t, "root")
	name := values.Default().Identity(serviceAccount, "linkerd")
	index, err := NewIndex(values.Default())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	address, serving, done := freeAddress(t), make(chan struct{}), make(chan error, 1)
	creds := grpc.Creds(credentials.NewTLS(ca.Client(t, name).ServerConfig("h2")))
	go func() {
		done <- serve(ctx, address, &Server{Index: index, Done: ctx.Done()}, []grpc.ServerOption{creds}, serving)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-serving
	web := ca.Client(t, values.Default().Identity("web", "emojivoto"))
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(web.ClientConfig(name, "h2"))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	within, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	c := &cluster{t, within, nil, pb.NewDestinationClient(conn)}
	c.profile("192.0.2.1:80").expect(&pb.DestinationProfile{})
}

func startRole(t *testing.T, api *kubetest.Server, flags ...string) (address, admin string) {
	t.Helper()
	dir := t.TempDir()
	config, err := values.Default().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	address, admin = freeAddress(t), freeAddress(t)
	flags = append(flags, "--kubeconfig", write("kubeconfig", api.Kubeconfig()), "--config", write("values", config), "--listen", address, "--admin", admin)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Main(ctx, flags) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return address, admin
}

func ready(t *testing.T, admin string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "readiness", func() bool {
		response, err := client.Get("http://" + admin + "/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + " never came true")
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
