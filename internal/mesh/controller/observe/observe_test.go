package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/observe"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ns             = "emojivoto"
	servers        = "/apis/policy.linkerd.io/v1beta3/servers"
	authorizations = "/apis/policy.linkerd.io/v1beta1/serverauthorizations"
	// budget is what anything here may take; it is never waited for in full.
	budget = 20 * time.Second
)

type object = apistub.Object

// answer is the body of a response, with the server's name instead of the server.
type answer struct {
	Code     int
	Observed map[string]string
	Hash     bool
	Server   string
	Error    string
}

type asked struct {
	stub    *apistub.Server
	handler http.Handler
}

// start runs the watches over a stub that holds pod "web" and serves what it is
// given the paths of.
func start(t *testing.T, served ...string) asked {
	t.Helper()
	stub := apistub.New(t)
	stub.Serve(served...)
	stub.Put("/api/v1/pods", object{"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"namespace": ns, "name": "web", "uid": "1", "labels": object{"app": "web", api.ControlPlaneLabel: "linkerd"}},
		"spec":     object{"containers": []any{object{"name": "app", "ports": []any{object{"name": "http", "containerPort": 8080}}}}}})
	core, err := kube.For(stub.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := dynamic.NewForConfig(stub.Config())
	if err != nil {
		t.Fatal(err)
	}
	x := index.New(index.Config{Dialect: api.Documented()})
	watcher := watch.New(x, watch.Clients{Core: core, Custom: custom})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { watcher.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return asked{stub, &observe.Handler{Index: x, Watcher: watcher}}
}

func (a asked) ask(t *testing.T, query string) answer {
	t.Helper()
	recorder := httptest.NewRecorder()
	a.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/observed?"+query, nil))
	var body struct {
		Observed map[string]string
		Hash     string
		Server   struct{ Labels map[string]string }
		Error    string
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v in %s", query, err, recorder.Body)
	}
	return answer{recorder.Code, body.Observed, len(body.Hash) == 64, body.Server.Labels["name"], body.Error}
}

func (a asked) putServer() string {
	return a.stub.Put(servers, object{"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": object{"namespace": ns, "name": "http"},
		"spec": object{"podSelector": object{}, "port": "http"}})
}

const web = "ns=emojivoto&pod=web&port=8080"

func TestAWriteIsObservedTogetherWithWhatItMakes(t *testing.T) {
	a := start(t)
	got := a.ask(t, web)
	for kind, version := range got.Observed {
		if version != a.stub.Version() {
			t.Errorf("%s is observed at %s, the server is at %s", kind, version, a.stub.Version())
		}
	}
	want := answer{Code: http.StatusOK, Observed: got.Observed, Hash: true, Server: "all-unauthenticated"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	version := a.putServer()
	got = a.ask(t, web+"&min=servers:"+version+"&timeout=20s")
	want = answer{Code: http.StatusOK, Observed: got.Observed, Hash: true, Server: "http"}
	if diff := cmp.Diff(want, got); diff != "" || got.Observed["servers"] != version {
		t.Errorf("servers observed at %s, written at %s; -want +got\n%s", got.Observed["servers"], version, diff)
	}
	if len(got.Observed) != 4 {
		t.Errorf("observed %v", got.Observed)
	}
}

func TestAQuestionWaitsForTheWrite(t *testing.T) {
	a := start(t)
	a.ask(t, web)
	next, _ := strconv.Atoi(a.stub.Version())
	answered := make(chan answer)
	go func() { answered <- a.ask(t, fmt.Sprintf("%s&min=servers:%d&timeout=20s", web, next+1)) }()
	select {
	case got := <-answered:
		t.Fatalf("answered before the write: %+v", got)
	case <-time.After(50 * time.Millisecond):
	}
	a.putServer()
	select {
	case got := <-answered:
		if got.Code != http.StatusOK || got.Server != "http" {
			t.Errorf("got %+v", got)
		}
	case <-time.After(budget):
		t.Fatal("never answered")
	}
}

// A version that a list was answered with may belong to another kind's write: no
// event tells of it.
func TestAVersionThatNoEventTellsOfIsReached(t *testing.T) {
	a := start(t)
	a.ask(t, web)
	version := a.putServer()
	got := a.ask(t, web+"&min=serverauthorizations:"+version+"&timeout=20s")
	if got.Code != http.StatusOK || got.Observed["serverauthorizations"] != version {
		t.Errorf("got %+v", got)
	}
}

func TestQuestionsThatCannotBeAnsweredSayWhy(t *testing.T) {
	a := start(t)
	a.ask(t, web)
	observed := a.ask(t, "").Observed
	kinds := fmt.Sprint(watch.Kinds())
	for query, want := range map[string]answer{
		"":                              {Code: http.StatusOK},
		"ns=emojivoto&pod=web":          {Code: http.StatusBadRequest, Error: `port "" is not between 1 and 65535`},
		"ns=emojivoto&pod=web&port=0":   {Code: http.StatusBadRequest, Error: `port "0" is not between 1 and 65535`},
		"ns=emojivoto&port=1":           {Code: http.StatusBadRequest, Error: "want ns, pod and port together"},
		"pod=web&port=1":                {Code: http.StatusBadRequest, Error: "want ns, pod and port together"},
		"ns=emojivoto&pod=other&port=1": {Code: http.StatusNotFound, Error: "emojivoto/other: unknown pod"},
		web + "&min=servers:x":          {Code: http.StatusBadRequest, Error: `min "servers:x": resourceVersion "x" is not a number`},
		web + "&min=servers":            {Code: http.StatusBadRequest, Error: `min "servers" is not KIND:RESOURCEVERSION with a kind of ` + kinds},
		web + "&min=bystanders:1":       {Code: http.StatusBadRequest, Error: `min "bystanders:1" is not KIND:RESOURCEVERSION with a kind of ` + kinds},
		"min=httproutes:1&timeout=10s": {Code: http.StatusConflict,
			Error: "httproutes: is not watched, its CRD did not exist when the controller started"},
		"min=servers:99999&min=servers:1&timeout=100ms": {Code: http.StatusGatewayTimeout, Error: "await [servers]: context deadline exceeded"},
		web + "&timeout=x":                {Code: http.StatusBadRequest, Error: `timeout "x" is not a duration such as 5s`},
		web + "&timeout=-1s":              {Code: http.StatusBadRequest, Error: `timeout "-1s" is not a duration such as 5s`},
		"min=servers:99999&timeout=100ms": {Code: http.StatusGatewayTimeout, Error: "await [servers]: context deadline exceeded"},
	} {
		got := a.ask(t, query)
		want.Observed = observed
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", query, diff)
		}
	}
}

// Every kind can be waited for under the name that its mark has.
func TestEveryWatchedKindCanBeWaitedFor(t *testing.T) {
	paths := map[watch.Kind]string{
		watch.AuthorizationPolicies:      "/apis/policy.linkerd.io/v1alpha1/authorizationpolicies",
		watch.MeshTLSAuthentications:     "/apis/policy.linkerd.io/v1alpha1/meshtlsauthentications",
		watch.NetworkAuthentications:     "/apis/policy.linkerd.io/v1alpha1/networkauthentications",
		watch.HTTPLocalRateLimitPolicies: "/apis/policy.linkerd.io/v1alpha1/httplocalratelimitpolicies",
		watch.HTTPRoutes:                 "/apis/policy.linkerd.io/v1beta3/httproutes",
		watch.GatewayHTTPRoutes:          "/apis/gateway.networking.k8s.io/v1/httproutes",
		watch.GatewayGRPCRoutes:          "/apis/gateway.networking.k8s.io/v1/grpcroutes",
		watch.Servers:                    servers, watch.ServerAuthorizations: authorizations, watch.Pods: "/api/v1/pods", watch.Namespaces: "/api/v1/namespaces",
	}
	a := start(t, slices.Collect(maps.Values(paths))...)
	for _, kind := range watch.Kinds() {
		version := a.stub.Put(paths[kind], object{"apiVersion": "v1", "kind": "Any", "metadata": object{"namespace": ns, "name": "any"}, "spec": object{}})
		got := a.ask(t, "min="+string(kind)+":"+version+"&timeout=20s")
		if got.Code != http.StatusOK || got.Observed[string(kind)] != version {
			t.Errorf("%s: written %s, got %+v", kind, version, got)
		}
	}
}

func TestNothingIsAnsweredBeforeEverythingIsKnown(t *testing.T) {
	stub := apistub.New(t)
	release := stub.Hold(authorizations)
	defer release()
	core, err := kube.For(stub.Config(), corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := dynamic.NewForConfig(stub.Config())
	if err != nil {
		t.Fatal(err)
	}
	x := index.New(index.Config{Dialect: api.Documented()})
	watcher := watch.New(x, watch.Clients{Core: core, Custom: custom})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { watcher.Run(ctx) })
	defer running.Wait()
	defer cancel()
	got := asked{stub, &observe.Handler{Index: x, Watcher: watcher}}.ask(t, "timeout=50ms")
	if got.Code != http.StatusGatewayTimeout || got.Error != "await the first list of every kind: context deadline exceeded" {
		t.Errorf("got %+v", got)
	}
}
