package status

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/kube/kubetest"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience ends a test that waits for what never comes.
const patience = 20 * time.Second

// poll is between two looks.
const poll = 5 * time.Millisecond

const (
	leasePath  = "/apis/coordination.k8s.io/v1/namespaces/linkerd/leases/" + LeaseName
	serverPath = "/apis/policy.linkerd.io/v1beta3/namespaces/ns/servers/web"
	routePath  = "/apis/policy.linkerd.io/v1beta3/namespaces/ns/httproutes/r"
	otherPath  = "/apis/policy.linkerd.io/v1beta3/namespaces/ns/httproutes/s"
	grpcPath   = "/apis/gateway.networking.k8s.io/v1/namespaces/ns/grpcroutes/g"
	limitPath  = "/apis/policy.linkerd.io/v1alpha1/namespaces/ns/httplocalratelimitpolicies/l"
)

type object = map[string]any

func mkRoute(server string) object {
	return object{"metadata": object{"generation": 1}, "spec": object{"parentRefs": []any{object{"group": api.Group, "kind": "Server", "name": server}}}}
}

// running is a replica that runs until it is stopped or the test ends.
type running struct {
	*Controller
	registry *prometheus.Registry
	stop     func()
}

func start(t *testing.T, server *kubetest.Server, holder string, dialect api.Dialect) *running {
	t.Helper()
	// Connections of its own, which end with it.
	transport := &http.Transport{}
	config := rest.CopyConfig(server.Config())
	config.Transport = transport
	config.QPS = -1
	custom, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	coordination, err := kube.For(config, coordinationv1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{registry: prometheus.NewRegistry()}
	r.Controller = New(Clients{Custom: custom, Coordination: coordination}, Options{Namespace: "linkerd", Holder: holder, Dialect: dialect}, r.registry)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	r.stop = func() { cancel(); <-ended; transport.CloseIdleConnections() }
	t.Cleanup(r.stop)
	return r
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
			t.Fatalf("%s: never", what)
		}
	}
}

// reason is what an object's status says, "" when it says nothing.
func reason(t *testing.T, server *kubetest.Server, path string) string {
	t.Helper()
	var read struct {
		Status struct {
			Conditions []metav1.Condition      `json:"conditions"`
			Parents    []api.RouteParentStatus `json:"parents"`
		} `json:"status"`
	}
	server.Get(path, &read)
	conditions := read.Status.Conditions
	for _, parent := range read.Status.Parents {
		if parent.ControllerName == api.RouteControllerName {
			conditions = parent.Conditions
		}
	}
	for _, c := range conditions {
		return c.Reason
	}
	return ""
}

func say(t *testing.T, server *kubetest.Server, path, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s says %q", path, want), func() bool { return reason(t, server, path) == want })
}

func patchesIn(server *kubetest.Server) (all []string) {
	for _, request := range server.Requests() {
		if path, ok := strings.CutPrefix(request, "PATCH "); ok {
			all = append(all, path)
		}
	}
	return all
}

// S-02 to S-04, S-09, M-14: from objects to their statuses.
func TestStatusesAreWrittenAndFollow(t *testing.T) {
	server := kubetest.New(t)
	server.Put(routePath, mkRoute("web"))
	server.Put(limitPath, object{"spec": object{"targetRef": object{"group": api.Group, "kind": "Server", "name": "web"}}})
	r := start(t, server, "a", api.Documented())
	say(t, server, routePath, ReasonNoMatchingParent)
	say(t, server, limitPath, ReasonNoMatchingTarget)
	server.Put(serverPath, object{})
	say(t, server, routePath, ReasonAccepted)
	say(t, server, limitPath, ReasonAccepted)
	server.Put(grpcPath, mkRoute("web"))
	say(t, server, routePath, ReasonConflicted)
	say(t, server, grpcPath, ReasonAccepted)
	server.Delete(serverPath)
	say(t, server, routePath, ReasonNoMatchingParent)
	if path := patchesIn(server)[0]; !strings.HasSuffix(path, "/status") {
		t.Errorf("%s is patched, not its status", path)
	}
	if r.value("resource_status_patch_succeeded_total") < 8 || r.value("resource_status_lease_holder") != 1 {
		t.Errorf("%v patches are counted, holder %v", r.value("resource_status_patch_succeeded_total"), r.value("resource_status_lease_holder"))
	}
}

func (r *running) value(name string) float64 {
	families, _ := r.registry.Gather()
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

// nothing is written that stands there already.
func TestWhatStandsIsNotWrittenAgain(t *testing.T) {
	server := kubetest.New(t)
	server.Put(serverPath, object{})
	server.Put(routePath, mkRoute("web"))
	start(t, server, "a", api.Documented())
	say(t, server, routePath, ReasonAccepted)
	server.Put(serverPath, object{"metadata": object{"labels": object{"a": "b"}}})
	server.Put(otherPath, mkRoute("web"))
	say(t, server, otherPath, ReasonAccepted)
	if got := patchesIn(server); len(got) != 2 {
		t.Errorf("patched are %v", got)
	}
}

// S-07: a GRPCRoute that goes makes HTTPRoutes count again.
func TestADeletedRouteIsACauseToLook(t *testing.T) {
	server := kubetest.New(t)
	server.Put(serverPath, object{})
	server.Put(routePath, mkRoute("web"))
	server.Put(grpcPath, mkRoute("web"))
	start(t, server, "a", api.Documented())
	say(t, server, routePath, ReasonConflicted)
	server.Delete(grpcPath)
	say(t, server, routePath, ReasonAccepted)
}

// S-07: in Linkerd's dialect the end of a route is no cause to look, and what
// follows from it is found up to a resync later; all else is one.
func TestADeletedRouteIsACauseToLookAsTheDialectSays(t *testing.T) {
	gone := &unstructured.Unstructured{Object: object{"metadata": object{"namespace": "ns", "name": "r"}}}
	for name, dialect := range map[string]api.Dialect{"documented": api.Documented(), "linkerd": api.Linkerd()} {
		c := New(Clients{}, Options{Dialect: dialect}, prometheus.NewRegistry())
		for what, row := range map[string]struct {
			happens func()
			cause   bool
		}{
			"a route ends":             {func() { c.routes(api.GatewayGRPCRoutes).Remove(gone) }, dialect.StatusAtOnce},
			"a route is there":         {func() { c.routes(api.HTTPRoutes).Put(gone) }, true},
			"routes are listed":        {func() { c.routes(api.HTTPRoutes).Replace(nil) }, true},
			"a Server ends":            {func() { c.servers().Remove(gone) }, true},
			"a Server is there":        {func() { c.servers().Put(gone) }, true},
			"a rate limit ends":        {func() { c.limits().Remove(gone) }, true},
			"somebody holds the lease": {c.note, true},
		} {
			row.happens()
			woken := false
			select {
			case <-c.wake:
				woken = true
			default:
			}
			if woken != row.cause {
				t.Errorf("%s, %s: a cause to look: %v", name, what, woken)
			}
		}
	}
}

// S-01: of two replicas one writes, and the other does once the first has gone.
func TestOneReplicaWritesAndTheNextTakesOver(t *testing.T) {
	server := kubetest.New(t)
	server.Put(serverPath, object{})
	first := start(t, server, "a", api.Documented())
	<-first.Settled()
	second := start(t, server, "b", api.Documented())
	<-second.Settled()
	server.Put(routePath, mkRoute("web"))
	say(t, server, routePath, ReasonAccepted)
	if !first.Holds() || second.Holds() || second.value("resource_status_patch_succeeded_total") != 0 || second.value("resource_status_lease_holder") != 0 {
		t.Errorf("holders are a: %v, b: %v, which has patched %v", first.Holds(), second.Holds(), second.value("resource_status_patch_succeeded_total"))
	}
	first.stop()
	eventually(t, "the second holds the lease", second.Holds)
	server.Put(otherPath, mkRoute("web"))
	say(t, server, otherPath, ReasonAccepted)
}

// S-01: with a leader that is silent nothing is accepted, until it gives up.
func TestWithoutALeaderNothingIsAccepted(t *testing.T) {
	server := kubetest.New(t)
	server.Put(leasePath, mkLease("somebody", time.Now(), time.Hour))
	server.Put(serverPath, object{})
	server.Put(routePath, mkRoute("web"))
	r := start(t, server, "a", api.Documented())
	<-r.Settled()
	eventually(t, "the route is known", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.world.Routes)*len(r.world.Servers) == 1
	})
	if got := reason(t, server, routePath); got != "" || r.Holds() {
		t.Errorf("the status is %q, holds: %v", got, r.Holds())
	}
	server.Put(leasePath, mkLease("", time.Now(), time.Hour))
	say(t, server, routePath, ReasonAccepted)
}

// S-03: a patch that fails is tried again; one that another writer was faster
// than is made anew from what that one wrote (S-05).
func TestAPatchThatFailsIsMadeAnew(t *testing.T) {
	server := kubetest.New(t)
	server.Put(serverPath, object{})
	failed := false
	server.Fail(func(method, path string) int {
		if method == http.MethodPatch && !failed {
			failed = true
			return http.StatusInternalServerError
		}
		return 0
	})
	r := start(t, server, "a", api.Documented())
	server.Put(routePath, mkRoute("web"))
	eventually(t, "a failure is counted", func() bool { return r.value("resource_status_patch_failed_total") == 1 })
	other := mkRoute("web")
	other["status"] = object{"parents": []any{object{"controllerName": "other", "parentRef": object{"name": "gw"}}}}
	server.Put(routePath, other)
	say(t, server, routePath, ReasonAccepted)
	var read struct{ Status api.RouteStatus }
	server.Get(routePath, &read)
	var controllers []string
	for _, parent := range read.Status.Parents {
		controllers = append(controllers, parent.ControllerName)
	}
	if !slices.Equal(controllers, []string{"other", api.RouteControllerName}) {
		t.Errorf("parents are of %v", controllers)
	}
}

// C-30: a kind that is not there when the controller starts is not watched, and
// keeps nobody waiting.
func TestKindsThatAreNotInstalledAreLeftOut(t *testing.T) {
	server := kubetest.New(t)
	server.Fail(func(_, path string) int {
		if strings.Contains(path, "gateway.networking.k8s.io") {
			return http.StatusNotFound
		}
		return 0
	})
	server.Put(serverPath, object{})
	server.Put(routePath, mkRoute("web"))
	start(t, server, "a", api.Documented())
	say(t, server, routePath, ReasonAccepted)
	for _, request := range server.Requests() {
		if strings.HasPrefix(request, "WATCH /apis/gateway.networking.k8s.io") {
			t.Errorf("%s", request)
		}
	}
}

// S-05: what was decided on an older version is not written over what another
// controller has said since.
func TestAChangeOfAnOlderVersionIsNotWritten(t *testing.T) {
	server := kubetest.New(t)
	server.Put(serverPath, object{})
	server.Put(leasePath, mkLease("somebody", time.Now(), time.Hour)) // so that nothing is written but by the test
	r := start(t, server, "a", api.Documented())
	server.Put(routePath, mkRoute("web"))
	var first struct {
		Metadata struct{ ResourceVersion string }
	}
	server.Get(routePath, &first)
	other := mkRoute("web")
	other["status"] = object{"parents": []any{object{"controllerName": "other", "parentRef": object{"name": "gw"}}}}
	server.Put(routePath, other)
	key := Key{api.HTTPRoutes, mkName("r")}
	r.patch(t.Context(), Change{key, first.Metadata.ResourceVersion, object{"parents": []any{}}})
	var now struct{ Status api.RouteStatus }
	server.Get(routePath, &now)
	if len(now.Status.Parents) != 1 || r.value("resource_status_patch_failed_total") != 1 {
		t.Errorf("parents are %v, %v failures counted", now.Status.Parents, r.value("resource_status_patch_failed_total"))
	}
}

// The answer to a patch may come after the watch has told of the object's end.
func TestTheAnswerToAPatchBringsNoObjectBack(t *testing.T) {
	c := New(Clients{}, Options{Dialect: api.Documented()}, prometheus.NewRegistry())
	answer := func(version string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: object{"metadata": object{"namespace": "ns", "name": "r", "resourceVersion": version}, "spec": object{}}}
	}
	sink := c.routes(api.HTTPRoutes)
	sink.Put(answer("1"))
	c.take(api.HTTPRoutes, answer("2"))
	if got := c.world.Routes[Key{api.HTTPRoutes, mkName("r")}].Version; got != "2" {
		t.Errorf("the answer is not taken: version %q", got)
	}
	sink.Remove(answer("3"))
	c.take(api.HTTPRoutes, answer("2"))
	if len(c.world.Routes) != 0 {
		t.Errorf("a route that is gone is back: %v", c.world.Routes)
	}
}
