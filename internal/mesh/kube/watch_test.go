package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience ends a test that waits for what never comes.
const patience = 20 * time.Second

// apiServer serves one kind by list and watch, in JSON. Each list, and each
// watch that begins with one, shows the names that are current then; a watch goes
// on with what is told and ends on command.
type apiServer struct {
	t      *testing.T
	kind   string
	server *httptest.Server

	mu      sync.Mutex
	names   []string
	version int
	queries []string
	watches []chan func(w http.ResponseWriter)
	// watching is closed with the first watch.
	watching chan struct{}
}

func mkServer(t *testing.T, apiVersion, kind string, names ...string) *apiServer {
	t.Helper()
	s := &apiServer{t: t, kind: kind, names: names, version: 1, watching: make(chan struct{})}
	object := func(name, version string) map[string]any {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name, "namespace": "a", "resourceVersion": version}}
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		version := fmt.Sprint(s.version)
		names := slices.Clone(s.names)
		s.queries = append(s.queries, r.URL.Path+"?fieldSelector="+r.URL.Query().Get("fieldSelector"))
		commands := make(chan func(http.ResponseWriter))
		watch := r.URL.Query().Get("watch") != ""
		if watch {
			if s.watches = append(s.watches, commands); len(s.watches) == 1 {
				close(s.watching)
			}
		}
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if !watch {
			items := []any{}
			for _, name := range names {
				items = append(items, object(name, version))
			}
			json.NewEncoder(w).Encode(map[string]any{"apiVersion": apiVersion, "kind": kind + "List",
				"metadata": map[string]any{"resourceVersion": version}, "items": items})
			return
		}
		event := func(kind string, object any) {
			json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
			w.(http.Flusher).Flush()
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			for _, name := range names {
				event("ADDED", object(name, version))
			}
			end := object("", version)
			end["metadata"].(map[string]any)["annotations"] = map[string]any{metav1.InitialEventsAnnotationKey: "true"}
			event("BOOKMARK", end)
		}
		w.(http.Flusher).Flush()
		for {
			select {
			case command := <-commands:
				if command == nil {
					return
				}
				command(w)
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(s.server.Close)
	return s
}

// tell sends an event on the current watch.
func (s *apiServer) tell(kind, name, apiVersion string) {
	s.t.Helper()
	s.command(func(w http.ResponseWriter) {
		s.mu.Lock()
		s.version++
		version := s.version
		s.mu.Unlock()
		json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": map[string]any{"apiVersion": apiVersion, "kind": s.kind,
			"metadata": map[string]any{"name": name, "namespace": "a", "resourceVersion": fmt.Sprint(version)}}})
		w.(http.Flusher).Flush()
	})
}

// expire ends the current watch as a server does that has forgotten where the
// client was; the next one shows names.
func (s *apiServer) expire(names ...string) {
	s.mu.Lock()
	s.names, s.version = names, s.version+100
	s.mu.Unlock()
	s.command(func(w http.ResponseWriter) {
		json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: http.StatusGone, Reason: metav1.StatusReasonExpired}})
		w.(http.Flusher).Flush()
	})
}

func (s *apiServer) command(c func(http.ResponseWriter)) {
	s.t.Helper()
	s.mu.Lock()
	current := s.watches[len(s.watches)-1]
	s.mu.Unlock()
	select {
	case current <- c:
	case <-time.After(patience):
		s.t.Fatal("nobody watches")
	}
}

// calls records what a sink is told.
type calls[T metav1.Object] chan string

func (c calls[T]) Put(t T)    { c <- "put " + t.GetName() }
func (c calls[T]) Remove(t T) { c <- "remove " + t.GetName() }
func (c calls[T]) Replace(all []T) {
	var names []string
	for _, t := range all {
		names = append(names, t.GetName())
	}
	slices.Sort(names)
	c <- fmt.Sprint("replace ", names)
}

func (c calls[T]) expect(t *testing.T, wants ...string) {
	t.Helper()
	for _, want := range wants {
		select {
		case got := <-c:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("%q never came", want)
		}
	}
}

// running calls f until the test ends.
func running(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestAWatchTellsEveryChangeAndWhatItMissed(t *testing.T) {
	server := mkServer(t, "v1", "ConfigMap", "a", "b")
	client, err := For(&rest.Config{Host: server.server.URL}, corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Client.CloseIdleConnections)
	sink, synced := make(calls[*corev1.ConfigMap]), make(chan struct{})
	running(t, func(ctx context.Context) {
		Watch(ctx, client, "configmaps", Scope{Namespace: "a", Fields: "metadata.name=a"}, sink, func() { close(synced) })
	})
	sink.expect(t, "replace [a b]")
	<-synced
	server.tell("ADDED", "c", "v1")
	server.tell("MODIFIED", "a", "v1")
	server.tell("DELETED", "b", "v1")
	sink.expect(t, "put c", "put a", "remove b")
	server.expire("a")
	sink.expect(t, "replace [a]")
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, query := range server.queries {
		if want := "/api/v1/namespaces/a/configmaps?fieldSelector=metadata.name=a"; query != want {
			t.Errorf("asked %s, want %s", query, want)
		}
	}
}

func TestAnAPIServerThatIsBackIsAskedWithinSecondsHoweverLongItWasAway(t *testing.T) {
	pause := delays()
	for range 100 {
		if wait := pause.Step(); wait <= 0 || float64(wait) > float64(lastRetry)*(1+watchJitter) {
			t.Fatalf("the next attempt is made after %s, want at most %s drawn out by %v", wait, lastRetry, watchJitter)
		}
	}
}

func TestAWatchOfCustomResources(t *testing.T) {
	server := mkServer(t, "policy.linkerd.io/v1beta3", "Server", "a")
	client, err := dynamic.NewForConfig(&rest.Config{Host: server.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	sink := make(calls[*unstructured.Unstructured])
	running(t, func(ctx context.Context) {
		WatchCustom(ctx, client, schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}, sink, nil)
	})
	sink.expect(t, "replace [a]")
	server.tell("MODIFIED", "a", "policy.linkerd.io/v1beta3")
	server.tell("DELETED", "a", "policy.linkerd.io/v1beta3")
	sink.expect(t, "put a", "remove a")
}

func TestTrustAnchorsAreWaitedFor(t *testing.T) {
	server := mkServer(t, "v1", "ConfigMap")
	client, err := For(&rest.Config{Host: server.server.URL}, corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Client.CloseIdleConnections)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		anchors []byte
		err     error
	}
	results := make(chan result, 1)
	go func() {
		anchors, err := TrustAnchors(ctx, client, "linkerd")
		results <- result{anchors, err}
	}()
	<-server.watching
	server.command(func(w http.ResponseWriter) {
		json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": TrustRootsName, "resourceVersion": "2"}, "data": map[string]string{TrustRootsKey: "anchors"}}})
		w.(http.Flusher).Flush()
	})
	got := <-results
	if diff := cmp.Diff("anchors", string(got.anchors)); diff != "" || got.err != nil {
		t.Errorf("%v -want +got\n%s", got.err, diff)
	}
	cancel()
	if _, err := TrustAnchors(ctx, client, "linkerd"); err == nil {
		t.Error("a wait that was ended found something")
	}
}

func TestRetryEndsWithSuccessOrWithTheContext(t *testing.T) {
	tries := 0
	if err := Retry(t.Context(), "try", func(context.Context) error {
		if tries++; tries < 3 {
			return fmt.Errorf("try %d", tries)
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := Retry(ctx, "try again", func(context.Context) error { cancel(); return fmt.Errorf("no") })
	if err == nil || err.Error() != "try again: no" {
		t.Errorf("got %v", err)
	}
}
