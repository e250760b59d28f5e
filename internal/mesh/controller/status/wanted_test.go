package status

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// fixture is a world that tests put sentences into. Everything is in namespace
// ns unless its name says otherwise.
type fixture struct{ World }

func mkWorld(servers ...string) *fixture {
	f := &fixture{newWorld()}
	for _, server := range servers {
		f.Servers[mkName(server)] = true
	}
	return f
}

func mkName(text string) types.NamespacedName {
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	return types.NamespacedName{Namespace: "ns", Name: text}
}

// mkParent reads KIND.GROUP NAMESPACE/NAME:PORT, of which only the name must be
// there: a Server of policy.linkerd.io in the route's namespace.
func mkParent(text string) api.ParentReference {
	group, kind := api.Group, api.ServerKind
	if what, name, ok := strings.Cut(text, " "); ok {
		kind, group, _ = strings.Cut(what, ".")
		text = name
	}
	parent := api.ParentReference{Group: &group, Kind: &kind}
	if text, port, ok := strings.Cut(text, ":"); ok {
		var number int32
		fmt.Sscan(port, &number)
		parent.Port = &number
		return withName(parent, text)
	}
	return withName(parent, text)
}

func withName(parent api.ParentReference, text string) api.ParentReference {
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		parent.Namespace, parent.Name = &namespace, name
	} else {
		parent.Name = text
	}
	return parent
}

func (f *fixture) route(resource schema.GroupVersionResource, name string, parents ...string) Key {
	key := Key{resource, mkName(name)}
	route := f.Routes[key]
	route.Generation++
	route.Parents = nil
	for _, parent := range parents {
		route.Parents = append(route.Parents, mkParent(parent))
	}
	f.Routes[key] = route
	return key
}

func (f *fixture) limit(name, target string, age time.Duration) Key {
	key := Key{api.HTTPLocalRateLimitPolicies, mkName(name)}
	f.Limits[key] = Limit{Generation: 1, Created: noon.Add(-age), Target: api.LocalTargetReference{Group: api.Group, Kind: api.ServerKind, Name: target}}
	return key
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// settle writes all that is wanted into the world, as the API server would, and
// returns it as lines "OBJECT: PARENT REASON, ...".
func (f *fixture) settle(t *testing.T, now time.Time) []string {
	t.Helper()
	var lines []string
	for _, change := range Wanted(f.World, now) {
		var said []string
		if parents, isRoute := change.Status["parents"].([]any); isRoute {
			route := f.Routes[change.Key]
			route.Own = nil
			for _, parent := range parents {
				own, ok := parent.(api.RouteParentStatus)
				if !ok {
					said = append(said, fmt.Sprint(parent.(map[string]any)["controllerName"]))
					continue
				}
				route.Own = append(route.Own, own)
				said = append(said, own.ParentRef.Name+" "+condition(t, own.Conditions, route.Generation))
			}
			f.Routes[change.Key] = route
		} else {
			limit := f.Limits[change.Key]
			about := change.Status["targetRef"].(api.LocalTargetReference)
			limit.Conditions, limit.About = change.Status["conditions"].([]metav1.Condition), &about
			f.Limits[change.Key] = limit
			said = append(said, about.Name+" "+condition(t, limit.Conditions, limit.Generation))
		}
		lines = append(lines, change.Key.Name+": "+strings.Join(said, ", "))
	}
	if left := Wanted(f.World, now); len(left) > 0 {
		t.Errorf("what is written is not what is wanted: %v", left)
	}
	return lines
}

// condition is the reason of a condition whose status goes with it.
func condition(t *testing.T, all []metav1.Condition, generation int64) string {
	t.Helper()
	c := all[len(all)-1]
	if c.Type != "Accepted" || (c.Status == metav1.ConditionTrue) != (c.Reason == "Accepted") || c.ObservedGeneration != generation || c.LastTransitionTime.IsZero() {
		t.Errorf("condition %+v of generation %d", c, generation)
	}
	return c.Reason
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// S-04.
func TestARouteIsAcceptedByTheServersThatExist(t *testing.T) {
	for _, resource := range []schema.GroupVersionResource{api.HTTPRoutes, api.GatewayHTTPRoutes, api.GatewayGRPCRoutes} {
		f := mkWorld("web")
		f.route(resource, "r", "web", "db", "Gateway.gateway.networking.k8s.io web", "Service. web")
		expect(t, f.settle(t, noon), "r: web Accepted, db NoMatchingParent")
		expect(t, f.settle(t, noon))
	}
}

// S-07: creating or deleting a Server flips its routes.
func TestStatusFollowsTheServer(t *testing.T) {
	f := mkWorld()
	key := f.route(api.HTTPRoutes, "r", "web")
	expect(t, f.settle(t, noon), "r: web NoMatchingParent")
	f.Servers[mkName("web")] = true
	expect(t, f.settle(t, noon.Add(time.Hour)), "r: web Accepted")
	if turned := f.Routes[key].Own[0].Conditions[0].LastTransitionTime; !turned.Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("turned at %s", turned)
	}
	delete(f.Servers, mkName("web"))
	expect(t, f.settle(t, noon), "r: web NoMatchingParent")
}

// A Server of another namespace is looked for there, although the index takes no
// such route.
func TestAParentIsLookedForWhereItIsSaidToBe(t *testing.T) {
	f := mkWorld("other/web")
	f.route(api.HTTPRoutes, "r", "web", "other/web")
	f.route(api.HTTPRoutes, "s", "other/web:80")
	expect(t, f.settle(t, noon), "r: web NoMatchingParent, web Accepted", "s: web Accepted")
}

// S-04: conditions are about the generation that is read, and keep their time.
func TestANewGenerationIsNotedAndTurnsNothing(t *testing.T) {
	f := mkWorld("web")
	key := f.route(api.HTTPRoutes, "r", "web")
	f.settle(t, noon)
	f.route(api.HTTPRoutes, "r", "web")
	expect(t, f.settle(t, noon.Add(time.Hour)), "r: web Accepted")
	if c := f.Routes[key].Own[0].Conditions[0]; !c.LastTransitionTime.Time.Equal(noon) || c.ObservedGeneration != 2 {
		t.Errorf("%+v", c)
	}
}

// S-05.
func TestWhatOthersHaveWrittenStays(t *testing.T) {
	f := mkWorld("web")
	foreign := map[string]any{"controllerName": "other", "parentRef": map[string]any{"name": "gw", "beyond": "us"}}
	key := f.route(api.GatewayHTTPRoutes, "r", "web")
	route := f.Routes[key]
	route.Foreign = []any{foreign}
	f.Routes[key] = route
	changes := Wanted(f.World, noon)
	if diff := cmp.Diff(foreign, changes[0].Status["parents"].([]any)[0]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	expect(t, f.settle(t, noon), "r: other, web Accepted")
	f.route(api.GatewayHTTPRoutes, "r")
	expect(t, f.settle(t, noon), "r: other")
	expect(t, f.settle(t, noon))
}

// S-05: without parents a route has no status of ours, and gets none.
func TestARouteWithoutParentsHasNoStatus(t *testing.T) {
	f := mkWorld("web")
	f.route(api.HTTPRoutes, "r")
	expect(t, f.settle(t, noon))
	f.route(api.HTTPRoutes, "r", "web")
	f.settle(t, noon)
	f.route(api.HTTPRoutes, "r")
	expect(t, f.settle(t, noon), "r: ")
}

// S-06.
func TestAnHTTPRouteConflictsWithAGRPCRouteAndNeverTheOtherWay(t *testing.T) {
	for _, resource := range []schema.GroupVersionResource{api.HTTPRoutes, api.GatewayHTTPRoutes} {
		f := mkWorld("web", "db")
		f.route(resource, "http", "web", "db")
		f.route(resource, "other", "web")
		expect(t, f.settle(t, noon), "http: web Accepted, db Accepted", "other: web Accepted")
		grpc := f.route(api.GatewayGRPCRoutes, "rpc", "web")
		expect(t, f.settle(t, noon), "rpc: web Accepted", "http: web RouteReasonConflicted, db Accepted", "other: web RouteReasonConflicted")
		delete(f.Routes, grpc)
		expect(t, f.settle(t, noon), "http: web Accepted, db Accepted", "other: web Accepted")
	}
}

// S-09.
func TestTheOldestRateLimitOfAServerIsAccepted(t *testing.T) {
	f := mkWorld("web", "db")
	f.limit("young", "web", time.Minute)
	old := f.limit("old", "web", time.Hour)
	f.limit("old-b", "web", time.Hour)
	f.limit("else", "db", 0)
	f.limit("lost", "nothing", time.Hour)
	f.limit("far/other", "web", 24*time.Hour)
	expect(t, f.settle(t, noon), "other: web NoMatchingTarget", "else: db Accepted", "lost: nothing NoMatchingTarget",
		"old: web Accepted", "old-b: web RateLimitReasonAlreadyExists", "young: web RateLimitReasonAlreadyExists")
	expect(t, f.settle(t, noon))
	delete(f.Limits, old)
	// The message of the others names the one that counts.
	expect(t, f.settle(t, noon), "old-b: web Accepted", "young: web RateLimitReasonAlreadyExists")
	// C-23: the status tells what it is about, and follows it.
	f.limit("old-b", "db", 2*time.Hour)
	expect(t, f.settle(t, noon), "else: db RateLimitReasonAlreadyExists", "old-b: db Accepted", "young: web Accepted")
}

func TestARateLimitOfSomethingElseIsNotAccepted(t *testing.T) {
	f := mkWorld("web")
	key := f.limit("a", "web", 0)
	limit := f.Limits[key]
	limit.Target.Kind = api.HTTPRouteKind
	limit.Conditions = []metav1.Condition{{Type: "Another", Status: metav1.ConditionTrue, Reason: "Theirs"}}
	f.Limits[key] = limit
	expect(t, f.settle(t, noon), "a: web NoMatchingTarget")
	if all := f.Limits[key].Conditions; len(all) != 2 || all[0].Type != "Another" {
		t.Errorf("conditions are %v", all)
	}
}
