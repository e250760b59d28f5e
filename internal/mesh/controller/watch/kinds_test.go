package watch_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/mesh/controller/apistub"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/policy/api"
)

const (
	policies      = "/apis/policy.linkerd.io/v1alpha1/authorizationpolicies"
	meshTLS       = "/apis/policy.linkerd.io/v1alpha1/meshtlsauthentications"
	netAuth       = "/apis/policy.linkerd.io/v1alpha1/networkauthentications"
	limits        = "/apis/policy.linkerd.io/v1alpha1/httplocalratelimitpolicies"
	routes        = "/apis/policy.linkerd.io/v1beta3/httproutes"
	gatewayRoutes = "/apis/gateway.networking.k8s.io/v1/httproutes"
	grpcRoutes    = "/apis/gateway.networking.k8s.io/v1/grpcroutes"
	accounts      = "/api/v1/serviceaccounts"
)

// everything is where each optional kind is served.
var everything = map[watch.Kind]string{
	watch.AuthorizationPolicies: policies, watch.MeshTLSAuthentications: meshTLS, watch.NetworkAuthentications: netAuth,
	watch.HTTPLocalRateLimitPolicies: limits, watch.HTTPRoutes: routes, watch.GatewayHTTPRoutes: gatewayRoutes, watch.GatewayGRPCRoutes: grpcRoutes,
}

func serveAll(stub *apistub.Server) {
	for _, path := range everything {
		stub.Serve(path)
	}
}

// mkObject has any kind but none of its own: what it is, its path says.
func mkObject(namespace, name string, spec object) object {
	return object{"apiVersion": "v1", "kind": "Any", "metadata": object{"namespace": namespace, "name": name, "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": spec}
}

func mkPolicy(name, targetKind, target string, refs ...any) object {
	group := api.Group
	if targetKind == api.GRPCRouteKind {
		group = api.GatewayGroup
	}
	return mkObject(ns, name, object{"targetRef": object{"group": group, "kind": targetKind, "name": target}, "requiredAuthenticationRefs": append([]any{}, refs...)})
}

func ref(kind, namespace, name string) object {
	return object{"group": api.Group, "kind": kind, "namespace": namespace, "name": name}
}

// attach adds what a route of Server http needs to be accepted.
func attach(route object) object {
	parent := object{"group": api.Group, "kind": api.ServerKind, "name": "http"}
	route["spec"].(object)["parentRefs"] = []any{parent}
	route["status"] = object{"parents": []any{object{
		"parentRef": parent, "controllerName": api.RouteControllerName, "conditions": []any{object{"type": "Accepted", "status": "True"}},
	}}}
	return route
}

func mkRoute(name string) object {
	return attach(mkObject(ns, name, object{"rules": []any{object{"matches": []any{object{"path": object{"type": "Exact", "value": "/" + name}}}}}}))
}

func mkLimit(name string) object {
	limit := mkObject(ns, name, object{"targetRef": object{"group": api.Group, "kind": "Server", "name": "http"}, "total": object{"requestsPerSecond": 7}})
	limit["status"] = object{"conditions": []any{object{"type": "Accepted", "status": "True"}}, "targetRef": object{"group": api.Group, "kind": "Server", "name": "http"}}
	return limit
}

// parts names everything that is told of the pod's port 8080 beside the Server.
func (c cluster) parts(t *testing.T) (names []string) {
	t.Helper()
	snapshot, err := c.index.Lookup(ns, "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	add := func(r index.Reference) { names = append(names, string(r.Kind)+"/"+r.Name) }
	for _, a := range snapshot.Server.Authorizations {
		add(a.Reference)
	}
	for _, r := range snapshot.Server.HTTPRoutes {
		add(r.Reference)
		for _, a := range r.Authorizations {
			add(a.Reference)
		}
	}
	for _, r := range snapshot.Server.GRPCRoutes {
		add(r.Reference)
	}
	if limit := snapshot.Server.RateLimit; limit != nil {
		add(limit.Reference)
	}
	return names
}

func (c cluster) expectParts(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, c.parts(t)); diff != "" {
		t.Errorf("%s: -want +got\n%s", when, diff)
	}
}

func TestEveryKindOfPolicyIsFollowed(t *testing.T) {
	bothWays(t, func(t *testing.T, stub *apistub.Server) {
		stub.Put(pods, mkPod("web", meshed("web")))
		stub.Put(servers, mkServer("http", "web"))
		serveAll(stub)
		stub.Put(policies, mkPolicy("empty", "Server", "http"))
		c := follow(t, stub).synced(t)
		c.expectParts(t, "an empty list asks for nothing", "authorizationpolicy/empty", "default/default")
		absent := mkPolicy("empty", "Server", "http")
		delete(absent["spec"].(object), "requiredAuthenticationRefs")
		c.await(t, watch.AuthorizationPolicies, stub.Put(policies, absent))
		c.expectParts(t, "and no list grants nothing", "default/default")

		c.await(t, watch.AuthorizationPolicies, stub.Put(policies, mkPolicy("who", "Server", "http", ref("MeshTLSAuthentication", "ops", "who"), ref("NetworkAuthentication", "ops", "where"))))
		c.await(t, watch.MeshTLSAuthentications, stub.Put(meshTLS, mkObject("ops", "who", object{"identities": []any{"*"}})))
		c.expectParts(t, "with one of two authentications", "default/default")
		c.await(t, watch.NetworkAuthentications, stub.Put(netAuth, mkObject("ops", "where", object{"networks": []any{object{"cidr": "10.0.0.0/8"}}})))
		c.expectParts(t, "with both", "authorizationpolicy/who", "default/default")

		c.await(t, watch.HTTPLocalRateLimitPolicies, stub.Put(limits, mkLimit("limit")))
		c.await(t, watch.HTTPRoutes, stub.Put(routes, mkRoute("a")))
		c.await(t, watch.GatewayHTTPRoutes, stub.Put(gatewayRoutes, mkRoute("a")))
		c.await(t, watch.AuthorizationPolicies, stub.Put(policies, mkPolicy("on-route", "HTTPRoute", "a")))
		c.expectParts(t, "with routes and a limit", "authorizationpolicy/who", "HTTPRoute.gateway.networking.k8s.io/a",
			"HTTPRoute/a", "authorizationpolicy/on-route", "HTTPLocalRateLimitPolicy/limit")
		server := mkServer("http", "web")
		server["spec"].(object)["proxyProtocol"] = "gRPC"
		c.await(t, watch.Servers, stub.Put(servers, server))
		c.await(t, watch.GatewayGRPCRoutes, stub.Put(grpcRoutes, attach(mkObject(ns, "rpc", object{"rules": []any{}}))))
		c.expectParts(t, "as gRPC", "authorizationpolicy/who", "GRPCRoute.gateway.networking.k8s.io/rpc")

		c.await(t, watch.NetworkAuthentications, stub.Delete(netAuth, "ops", "where"))
		c.expectParts(t, "without an authentication", "GRPCRoute.gateway.networking.k8s.io/rpc")
		c.await(t, watch.GatewayGRPCRoutes, stub.Delete(grpcRoutes, ns, "rpc"))
		c.expectParts(t, "without the route", "default/default")
	})
}

// X-46, U-07: a deletion that no event has told revokes by the next list, in one
// step with what else has changed.
func TestAnAuthenticationThatIsGoneAfterACutRevokesAtOnce(t *testing.T) {
	for path, kind := range map[string]string{meshTLS: "MeshTLSAuthentication", netAuth: "NetworkAuthentication"} {
		bothWays(t, func(t *testing.T, stub *apistub.Server) {
			fill(stub)
			serveAll(stub)
			stub.Put(policies, mkPolicy("p", "Server", "http", ref(kind, "ops", "who")))
			stub.Put(path, mkObject("ops", "who", object{"identities": []any{"*"}, "networks": []any{object{"cidr": "10.0.0.0/8"}}}))
			c := follow(t, stub).synced(t)
			c.expect(t, "with "+kind, "web", "http", "any", "p")
			stub.Silently(path, func(objects map[string]object) { delete(objects, "ops/who") })
			stub.Expire()
			c.await(t, map[string]watch.Kind{meshTLS: watch.MeshTLSAuthentications, netAuth: watch.NetworkAuthentications}[path], stub.Version())
			c.expect(t, "without "+kind, "web", "http", "any")
		})
	}
}

// C-30: what does not exist at start is not waited for, and not watched later.
func TestKindsWithoutCRDAreLeftOutUntilARestart(t *testing.T) {
	for kind, path := range everything {
		stub := apistub.New(t)
		fill(stub)
		for _, other := range everything {
			if other != path {
				stub.Serve(other)
			}
		}
		c := follow(t, stub).synced(t)
		var left []watch.Kind
		for _, k := range watch.Kinds() {
			if !c.watcher.Watched(k) {
				left = append(left, k)
			}
		}
		if diff := cmp.Diff([]watch.Kind{kind}, left); diff != "" {
			t.Errorf("left out: -want +got\n%s", diff)
		}
		stub.Serve(path)
		for _, other := range everything {
			c.watcher.Refresh(kind)
			if other != path {
				stub.Bookmark(other)
			}
		}
		if n := stub.Lists(path); n != 0 {
			t.Errorf("%s was listed %d times", kind, n)
		}
		follow(t, stub).synced(t)
		if stub.Lists(path) == 0 {
			t.Errorf("%s is not watched after a restart", kind)
		}
	}
}

// Kinds are watched in the newest version that is served.
func TestTheNewestServedVersionIsWatched(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	old := strings.Replace(gatewayRoutes, "/v1/", "/v1beta1/", 1)
	oldest := strings.Replace(grpcRoutes, "/v1/", "/v1alpha2/", 1)
	stub.Serve(gatewayRoutes, old, oldest)
	stub.Put(gatewayRoutes, mkRoute("a"))
	server := mkServer("http", "web")
	stub.Put(servers, server)
	c := follow(t, stub).synced(t)
	c.expectParts(t, "of v1", "serverauthorization/any", "HTTPRoute.gateway.networking.k8s.io/a")
	if stub.Lists(old) > 0 || stub.Lists(oldest) == 0 {
		t.Errorf("v1beta1 was listed %d times, v1alpha2 %d times", stub.Lists(old), stub.Lists(oldest))
	}
}

// Not to know what exists is not to know that it does not.
func TestADiscoveryThatFailsIsTriedAgain(t *testing.T) {
	for _, path := range []string{"/apis/policy.linkerd.io", "/apis/gateway.networking.k8s.io/v1"} {
		stub := apistub.New(t)
		fill(stub)
		serveAll(stub)
		stub.Refuse(path, 503)
		c := follow(t, stub)
		for stub.Lists(path) < 2 {
			select {
			case <-c.watcher.Synced():
				t.Fatalf("complete although %s is not known", path)
			default:
			}
		}
		stub.Refuse(path, 0)
		c.synced(t)
		for _, kind := range watch.Kinds() {
			if !c.watcher.Watched(kind) {
				t.Errorf("%s is not watched", kind)
			}
		}
	}
}

// Every mark is of a kind that exists under its name, and the other way round.
func TestEveryKindHasItsMark(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	serveAll(stub)
	c := follow(t, stub).synced(t)
	seen := c.watcher.Marks.Seen()
	for _, kind := range watch.Kinds() {
		if seen[kind] == 0 {
			t.Errorf("%s has none", kind)
		}
		delete(seen, kind)
	}
	if len(seen) > 0 {
		t.Errorf("further marks: %v", seen)
	}
}

// ServiceAccounts matter to findings alone, and to these only once all are known.
func TestMissingAccountsAreFoundOnceAllAreKnown(t *testing.T) {
	stub := apistub.New(t)
	fill(stub)
	serveAll(stub)
	release := stub.Hold(accounts)
	stub.Put(meshTLS, mkObject(ns, "who", object{"identityRefs": []any{object{"kind": "ServiceAccount", "name": "there"}, object{"kind": "ServiceAccount", "name": "absent"}}}))
	stub.Put(accounts, object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"namespace": ns, "name": "there", "uid": "there"}})
	c := follow(t, stub).synced(t)
	told := func() (messages []string) {
		for _, f := range c.index.Findings(ns) {
			if f.Reason == index.NoSuchAccount {
				messages = append(messages, f.Message)
			}
		}
		return messages
	}
	if got := told(); got != nil {
		t.Errorf("before all are known: %v", got)
	}
	release()
	for begun := time.Now(); told() == nil && time.Since(begun) < budget; {
		time.Sleep(time.Millisecond)
	}
	if diff := cmp.Diff([]string{"there is no ServiceAccount emojivoto/absent"}, told()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
