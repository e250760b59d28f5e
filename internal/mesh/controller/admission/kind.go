package admission

import (
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// kind is a kind of objects. The group of Kubernetes' own is empty.
type kind struct{ group, name string }

// The kinds that references may be to.
var (
	server                = kind{api.Group, api.ServerKind}
	httpRoute             = kind{api.Group, api.HTTPRouteKind}
	gatewayHTTPRoute      = kind{api.GatewayGroup, api.HTTPRouteKind}
	gatewayGRPCRoute      = kind{api.GatewayGroup, api.GRPCRouteKind}
	meshTLSAuthentication = kind{api.Group, api.MeshTLSAuthenticationKind}
	networkAuthentication = kind{api.Group, api.NetworkAuthenticationKind}
	serviceAccount        = kind{"", api.ServiceAccountKind}
	namespace             = kind{"", api.NamespaceKind}
	service               = kind{"", "Service"}
)

// is compares without regard to case. References may write core for the
// group that is empty.
func (k kind) is(group, name string) bool {
	return strings.EqualFold(k.name, name) && (strings.EqualFold(k.group, group) || k.group == "" && strings.EqualFold(group, "core"))
}

// written is the kind as messages name it.
func written(group, name string) string {
	if group == "" {
		return name
	}
	return name + "." + group
}
