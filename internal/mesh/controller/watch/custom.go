package watch

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// optional is a kind that is watched if its CRD exists when the controller starts
// (C-30).
type optional struct {
	kind     Kind
	resource schema.GroupResource
	// add makes the feed, of the version that is served.
	add func(w *Watcher, lists cache.ListerWatcher) *feed
}

// optionals lists them.
func optionals(c index.Config) []optional {
	return []optional{
		following(api.AuthorizationPolicies, adapter[index.PolicySpec]{
			kind: AuthorizationPolicies,
			read: decode(c.NewPolicySpec, func(uid string, _ time.Time, err error) index.PolicySpec {
				return index.NewUnreadablePolicySpec(uid, err)
			}),
			set: (*index.Tx).SetPolicy, remove: (*index.Tx).DeletePolicy,
		}),
		following(api.MeshTLSAuthentications, adapter[index.MeshTLSSpec]{
			kind: MeshTLSAuthentications,
			read: decode(c.NewMeshTLSSpec, func(uid string, _ time.Time, err error) index.MeshTLSSpec {
				return index.NewUnreadableMeshTLSSpec(uid, err)
			}),
			set: (*index.Tx).SetMeshTLS, remove: (*index.Tx).DeleteMeshTLS,
		}),
		following(api.NetworkAuthentications, adapter[index.NetworksSpec]{
			kind: NetworkAuthentications,
			read: decode(index.NewNetworksSpec, func(uid string, _ time.Time, err error) index.NetworksSpec {
				return index.NewUnreadableNetworksSpec(uid, err)
			}),
			set: (*index.Tx).SetNetworks, remove: (*index.Tx).DeleteNetworks,
		}),
		following(api.HTTPLocalRateLimitPolicies, adapter[index.RateLimitSpec]{
			kind: HTTPLocalRateLimitPolicies, read: decode(c.NewRateLimitSpec, index.NewUnreadableRateLimitSpec),
			set: (*index.Tx).SetRateLimit, remove: (*index.Tx).DeleteRateLimit,
		}),
		following(api.HTTPRoutes, routeAdapter(HTTPRoutes, index.PolicyHTTPRoute, httpRoutes(c, index.PolicyHTTPRoute))),
		following(api.GatewayHTTPRoutes, routeAdapter(GatewayHTTPRoutes, index.GatewayHTTPRoute, httpRoutes(c, index.GatewayHTTPRoute))),
		following(api.GatewayGRPCRoutes, routeAdapter(GatewayGRPCRoutes, index.GatewayGRPCRoute, decode(c.NewGRPCRouteSpec, index.NewUnreadableRouteSpec))),
	}
}

func following[S any](resource schema.GroupVersionResource, a adapter[S]) optional {
	return optional{a.kind, resource.GroupResource(), func(w *Watcher, lists cache.ListerWatcher) *feed {
		return newFeed(w, a, true, &unstructured.Unstructured{}, lists)
	}}
}

func httpRoutes(c index.Config, kind index.Kind) func(any) (index.RouteSpec, error) {
	return decode(func(route *api.HTTPRoute) index.RouteSpec { return c.NewHTTPRouteSpec(kind, route) }, index.NewUnreadableRouteSpec)
}

func routeAdapter(kind Kind, as index.Kind, read func(any) (index.RouteSpec, error)) adapter[index.RouteSpec] {
	return adapter[index.RouteSpec]{
		kind: kind, read: read,
		set: func(tx *index.Tx, namespace, name string, spec index.RouteSpec) {
			tx.SetRoute(as, namespace, name, spec)
		},
		remove: func(tx *index.Tx, namespace, name string) { tx.DeleteRoute(as, namespace, name) },
	}
}

// decode makes a reader of custom resources out of one of T. An object whose
// fields have other types than they should is read by unreadable.
func decode[T, S any](read func(*T) S, unreadable func(uid string, created time.Time, err error) S) func(any) (S, error) {
	return typed(func(object *unstructured.Unstructured) S {
		t := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, t); err != nil {
			return unreadable(string(object.GetUID()), object.GetCreationTimestamp().Time, err)
		}
		return read(t)
	})
}
