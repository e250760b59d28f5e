package index

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// PolicySpec is all that policy depends on in an AuthorizationPolicy.
type PolicySpec struct {
	UID string
	// target is the zero value when the object names nothing usable.
	target target
	// meshTLS and networks are the authentications that must exist for the policy
	// to grant anything; nil where none is asked for.
	meshTLS, networks *mention
	// account is the ServiceAccount that clients must run under, nil if none. It
	// need not exist.
	account *mention
	// identity is the account's name in certificates.
	identity string
	// Problems, if any, make the object grant nothing, unless kept is set.
	Problems Problems
	// kept means that the rest is the previous version, still in force although
	// the object now has Problems.
	kept bool
}

// NewPolicySpec reads an AuthorizationPolicy. One that Linkerd's webhook would
// refuse grants nothing, since it asks for what cannot be checked.
func (c Config) NewPolicySpec(policy *api.AuthorizationPolicy) PolicySpec {
	spec := PolicySpec{UID: string(policy.UID)}
	spec.readTarget(policy)
	if policy.Spec.RequiredAuthenticationRefs == nil {
		spec.Problems.add("spec.requiredAuthenticationRefs", "is missing, want a list, which may be empty")
	}
	for i, ref := range policy.Spec.RequiredAuthenticationRefs {
		spec.readAuthentication(c, fmt.Sprintf("spec.requiredAuthenticationRefs[%d]", i), ref, policy.Namespace)
	}
	return spec
}

// NewUnreadablePolicySpec stands for an object whose fields have other types than
// they should: it grants nothing.
func NewUnreadablePolicySpec(uid string, err error) PolicySpec {
	return PolicySpec{UID: uid, Problems: Problems{{"spec", err.Error()}}}
}

// readTarget reads what is granted access to.
func (s *PolicySpec) readTarget(policy *api.AuthorizationPolicy) {
	ref := policy.Spec.TargetRef
	switch {
	case ref.Name == "":
		s.Problems.add("spec.targetRef.name", "is empty")
	case refers(ref.Group, ref.Kind, api.Group, api.ServerKind):
		s.target = target{Server, ref.Name}
	case refers(ref.Group, ref.Kind, "", api.NamespaceKind):
		if ref.Name != policy.Namespace {
			s.Problems.add("spec.targetRef.name", fmt.Sprintf("%q is not the policy's own namespace, %q", ref.Name, policy.Namespace))
			return
		}
		s.target = target{kind: namespaceTarget}
	default:
		for _, kind := range RouteKinds() {
			if group, name := kind.GroupKind(); refers(ref.Group, ref.Kind, group, name) {
				s.target = target{kind, strings.ToLower(ref.Name)}
				return
			}
		}
		s.Problems.add("spec.targetRef", fmt.Sprintf("%s cannot be a target, want a Server, the Namespace, an HTTPRoute or a GRPCRoute of group %s",
			written(ref.Group, ref.Kind), api.GatewayGroup))
	}
}

// readAuthentication takes one of the references, at most one of each sort and
// not both sorts that ask for an identity: there is no way to
// check two of them at once.
func (s *PolicySpec) readAuthentication(c Config, field string, ref api.AuthenticationReference, own string) {
	named := &mention{namespace: orOwn(ref.Namespace, own), name: ref.Name}
	identities := s.meshTLS != nil || s.account != nil
	switch {
	case ref.Name == "":
		s.Problems.add(field+".name", "is empty")
	case refers(ref.Group, ref.Kind, api.Group, api.MeshTLSAuthenticationKind):
		if identities {
			s.Problems.add(field, "asks for an identity once more, want at most one MeshTLSAuthentication or ServiceAccount")
			return
		}
		named.kind, s.meshTLS = api.MeshTLSAuthenticationKind, named
	case refers(ref.Group, ref.Kind, "", api.ServiceAccountKind):
		if identities {
			s.Problems.add(field, "asks for an identity once more, want at most one MeshTLSAuthentication or ServiceAccount")
			return
		}
		named.kind, s.account = api.ServiceAccountKind, named
		s.identity = c.serviceAccountIdentity(named.namespace, named.name)
	case refers(ref.Group, ref.Kind, api.Group, api.NetworkAuthenticationKind):
		if s.networks != nil {
			s.Problems.add(field, "asks for a network once more, want at most one NetworkAuthentication")
			return
		}
		named.kind, s.networks = api.NetworkAuthenticationKind, named
	default:
		s.Problems.add(field, fmt.Sprintf("%s is no authentication, want a MeshTLSAuthentication, a NetworkAuthentication or a ServiceAccount",
			written(ref.Group, ref.Kind)))
	}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old: in Linkerd's dialect an unusable update leaves that in force.
func (s PolicySpec) inForce(old *PolicySpec, dialect api.Dialect) PolicySpec {
	if len(s.Problems) == 0 || dialect.InvalidRevokes || old == nil || !old.usable() {
		return s
	}
	kept := *old
	kept.Problems, kept.kept = s.Problems, true
	return kept
}

func (s *PolicySpec) usable() bool { return len(s.Problems) == 0 || s.kept }

// mentions are the objects of any namespace that the policy names.
func (s *PolicySpec) mentions() []mention {
	var all []mention
	for _, m := range []*mention{s.meshTLS, s.networks, s.account} {
		if m != nil {
			all = append(all, *m)
		}
	}
	return all
}

// grant is what the policy grants under its name, nothing while an authentication
// that it requires is missing or unusable.
func (x *Index) grant(name string, s *PolicySpec) (Authorization, bool) {
	granted := Authorization{
		Reference: Reference{AuthorizationPolicy, name}, Networks: whole(everywhere), Authentication: Authentication{Kind: Unauthenticated},
	}
	if !s.usable() {
		return granted, false
	}
	if s.account != nil {
		granted.Authentication = Authentication{Kind: Identified, Identities: []string{s.identity}}
	}
	if s.meshTLS != nil {
		ns := x.namespaces[s.meshTLS.namespace]
		if ns == nil || ns.meshTLS[s.meshTLS.name] == nil || !ns.meshTLS[s.meshTLS.name].usable() {
			return granted, false
		}
		granted.Authentication = ns.meshTLS[s.meshTLS.name].Authentication
	}
	if s.networks != nil {
		ns := x.namespaces[s.networks.namespace]
		if ns == nil || ns.networks[s.networks.name] == nil || !ns.networks[s.networks.name].usable() {
			return granted, false
		}
		granted.Networks = ns.networks[s.networks.name].Networks
	}
	return granted, true
}
