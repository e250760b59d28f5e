package generate

import (
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// object is a Kubernetes object as it stands in a manifest.
type object = map[string]any

// kind is one kind of policy object that is generated.
type kind struct {
	// ref is how scenarios name the kind, with its group where two have the name.
	ref   string
	group string
	kind  string
	// versions that are served, the storage version last.
	versions []string
	// stem begins the names of the kind's objects.
	stem string
	// most is how many objects of the kind a world has at most, and least how many it
	// begins with.
	most, least int
	// spec makes one by chance, for a version.
	spec func(b *builder, version string) object
}

// kinds are those that are generated, in the order in which worlds are made:
// what is referred to first.
func kinds() []kind {
	return []kind{
		{ref: api.ServerKind, group: api.Group, kind: api.ServerKind, versions: []string{"v1alpha1", "v1beta1", "v1beta2", "v1beta3"}, stem: "server", most: 4, least: 1, spec: (*builder).server},
		{ref: api.HTTPRouteKind, group: api.Group, kind: api.HTTPRouteKind, versions: []string{"v1alpha1", "v1beta1", "v1beta2", "v1beta3"}, stem: "route", most: 2, spec: (*builder).httpRoute},
		{ref: api.HTTPRouteKind + "." + api.GatewayGroup, group: api.GatewayGroup, kind: api.HTTPRouteKind, versions: []string{"v1beta1", "v1"}, stem: "gateway-route", most: 1, spec: (*builder).httpRoute},
		{ref: api.GRPCRouteKind, group: api.GatewayGroup, kind: api.GRPCRouteKind, versions: []string{"v1"}, stem: "grpc-route", most: 1, spec: (*builder).grpcRoute},
		{ref: api.MeshTLSAuthenticationKind, group: api.Group, kind: api.MeshTLSAuthenticationKind, versions: []string{"v1alpha1"}, stem: "identities", most: 2, least: 1, spec: (*builder).meshTLS},
		{ref: api.NetworkAuthenticationKind, group: api.Group, kind: api.NetworkAuthenticationKind, versions: []string{"v1alpha1"}, stem: "networks", most: 2, least: 1, spec: (*builder).networkAuthentication},
		{ref: api.ServerAuthorizationKind, group: api.Group, kind: api.ServerAuthorizationKind, versions: []string{"v1alpha1", "v1beta1"}, stem: "grant", most: 3, spec: (*builder).serverAuthorization},
		{ref: api.AuthorizationPolicyKind, group: api.Group, kind: api.AuthorizationPolicyKind, versions: []string{"v1alpha1"}, stem: "policy", most: 3, least: 1, spec: (*builder).authorizationPolicy},
	}
}

func (k kind) storage() string { return k.versions[len(k.versions)-1] }

// kindOf finds the kind of an object; false for one that is not generated.
func kindOf(o object) (kind, bool) {
	group, _, _ := strings.Cut(text(o, "apiVersion"), "/")
	for _, k := range kinds() {
		if k.kind == text(o, "kind") && k.group == group {
			return k, true
		}
	}
	return kind{}, false
}

// kindNamed finds the kind that a reference of a scenario names: of two with one
// name the mesh's own comes first.
func kindNamed(ref string) (kind, bool) {
	for _, k := range kinds() {
		if k.ref == ref {
			return k, true
		}
	}
	name, _, _ := strings.Cut(ref, ".")
	for _, k := range kinds() {
		if k.kind == name && !strings.Contains(ref, ".") {
			return k, true
		}
	}
	return kind{}, false
}

// suffixes tell apart the objects of one kind.
var suffixes = []string{"a", "b", "c", "d"}

// text is a field of an object that is a string; empty when it is none.
func text(o object, path ...string) string {
	var at any = o
	for _, key := range path {
		fields, ok := at.(object)
		if !ok {
			return ""
		}
		at = fields[key]
	}
	value, _ := at.(string)
	return value
}
