package admission

import (
	"fmt"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeAuthorizationPolicy is.
func judgeAuthorizationPolicy(r review, v *verdict) error {
	var spec struct {
		TargetRef                  api.LocalTargetReference       `json:"targetRef"`
		RequiredAuthenticationRefs *[]api.AuthenticationReference `json:"requiredAuthenticationRefs"`
	}
	if err := r.read(&spec); err != nil {
		return err
	}
	judgePolicyTarget(spec.TargetRef, r.namespace, v)
	if spec.RequiredAuthenticationRefs == nil {
		v.refuse("spec.requiredAuthenticationRefs", "is missing, and an empty list would ask for no authentication")
		return nil
	}
	judgeAuthenticationRefs(*spec.RequiredAuthenticationRefs, v)
	return nil
}

// judgePolicyTarget is.
func judgePolicyTarget(target api.LocalTargetReference, own string, v *verdict) {
	switch {
	case namespace.is(target.Group, target.Kind):
		if target.Name != own {
			v.refuse("spec.targetRef.name", "is namespace %q, want the policy's own, %q", target.Name, own)
		}
		return
	case server.is(target.Group, target.Kind), httpRoute.is(target.Group, target.Kind),
		gatewayHTTPRoute.is(target.Group, target.Kind), gatewayGRPCRoute.is(target.Group, target.Kind):
	default:
		v.refuse("spec.targetRef.kind", "%s cannot be a target, want Server.%[2]s, HTTPRoute.%[2]s, HTTPRoute.%[3]s, GRPCRoute.%[3]s or Namespace",
			written(target.Group, target.Kind), api.Group, api.GatewayGroup)
	}
	if target.Name == "" {
		v.refuse("spec.targetRef.name", "is missing")
	}
}

// judgeAuthenticationRefs is. Complaints about a second reference
// name that one.
func judgeAuthenticationRefs(refs []api.AuthenticationReference, v *verdict) {
	first := map[kind]int{}
	for i, ref := range refs {
		at := fmt.Sprintf("spec.requiredAuthenticationRefs[%d]", i)
		var found kind
		for _, k := range []kind{meshTLSAuthentication, networkAuthentication, serviceAccount} {
			if k.is(ref.Group, ref.Kind) {
				found = k
			}
		}
		if found == (kind{}) {
			v.refuse(at+".kind", "%s is no authentication, want MeshTLSAuthentication.%[2]s, NetworkAuthentication.%[2]s or ServiceAccount", written(ref.Group, ref.Kind), api.Group)
			continue
		}
		if ref.Name == "" {
			v.refuse(at+".name", "is missing")
		}
		if other, there := first[found]; there {
			v.refuse(at, "is a second %s beside requiredAuthenticationRefs[%d], want at most one", found.name, other)
			continue
		}
		first[found] = i
		for one, other := range map[kind]kind{meshTLSAuthentication: serviceAccount, serviceAccount: meshTLSAuthentication} {
			if before, there := first[other]; there && found == one {
				v.refuse(at, "is a %s beside the %s of requiredAuthenticationRefs[%d], want one of them", one.name, other.name, before)
			}
		}
	}
}
