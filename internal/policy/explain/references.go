package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Misreferences tells of references that name nothing among what was read. They
// are no errors: a cluster takes such objects without a word, and what they name
// may be in other manifests. But it is what most often makes policies do nothing.
// ServiceAccounts need not exist for their names to count, so they are not
// looked for.
func Misreferences(set *objects.Set) []string {
	w := set.World
	var told []string
	tell := func(kind, namespace, name, format string, args ...any) {
		told = append(told, fmt.Sprintf("%s %s/%s %s", kind, namespace, name, fmt.Sprintf(format, args...)))
	}
	const notRead = "which is not among what was read"
	for _, s := range w.Servers {
		if s.Spec.PodSelector != nil && len(set.Workloads) > 0 && !selectsSomething(set, s) {
			tell(api.ServerKind, s.Namespace, s.Name, "selects no port %s of any workload that was read", s.Spec.Port.String())
		}
	}
	for _, a := range w.ServerAuthorizations {
		named := slices.ContainsFunc(w.Servers, func(s *api.Server) bool {
			if s.Namespace != a.Namespace {
				return false
			}
			names, _ := oracle.NamesServer(a.Spec.Server, s)
			return names
		})
		switch {
		case named:
		case a.Spec.Server.Name != "":
			tell(api.ServerAuthorizationKind, a.Namespace, a.Name, "is for Server %s, %s", a.Spec.Server.Name, notRead)
		default:
			tell(api.ServerAuthorizationKind, a.Namespace, a.Name, "selects none of the Servers that were read")
		}
	}
	for _, p := range w.AuthorizationPolicies {
		if ref := p.Spec.TargetRef; !exists(w, ref.Group, ref.Kind, p.Namespace, ref.Name) {
			tell(api.AuthorizationPolicyKind, p.Namespace, p.Name, "is for %s %s of group %q, %s", ref.Kind, ref.Name, ref.Group, notRead)
		}
		for _, ref := range p.Spec.RequiredAuthenticationRefs {
			if namespace := cmp.Or(ref.Namespace, p.Namespace); !exists(w, ref.Group, ref.Kind, namespace, ref.Name) {
				tell(api.AuthorizationPolicyKind, p.Namespace, p.Name, "asks for %s %s/%s, %s: it grants nothing", ref.Kind, namespace, ref.Name, notRead)
			}
		}
	}
	for _, r := range w.HTTPRoutes {
		parents(w, r.Spec.ParentRefs, r.Namespace, func(format string, args ...any) {
			tell(api.HTTPRouteKind, r.Namespace, r.Name, format, args...)
		})
	}
	for _, r := range w.GRPCRoutes {
		parents(w, r.Spec.ParentRefs, r.Namespace, func(format string, args ...any) {
			tell(api.GRPCRouteKind, r.Namespace, r.Name, format, args...)
		})
	}
	for _, p := range w.RateLimits {
		if ref := p.Spec.TargetRef; !exists(w, ref.Group, ref.Kind, p.Namespace, ref.Name) {
			tell(api.HTTPLocalRateLimitPolicyKind, p.Namespace, p.Name, "is for %s %s, %s", ref.Kind, ref.Name, notRead)
		}
	}
	return told
}

// selectsSomething asks in the dialect that selects more.
func selectsSomething(set *objects.Set, s *api.Server) bool {
	for _, workload := range set.Workloads {
		if workload.Pod.Namespace != s.Namespace {
			continue
		}
		if labels, _ := oracle.LabelsMatch(s.Spec.PodSelector, workload.Pod.Labels); !labels {
			continue
		}
		if s.Spec.Port.StrVal == "" {
			return true
		}
		for _, port := range oracle.Ports(workload.Pod) {
			if port.Name == s.Spec.Port.StrVal {
				return true
			}
		}
	}
	return false
}

// parents tells of parents that are no Servers although they look like some
// (C-27), and of Servers that are not there.
func parents(w oracle.World, refs []api.ParentReference, namespace string, tell func(string, ...any)) {
	for _, ref := range refs {
		server := exists(w, api.Group, api.ServerKind, namespace, ref.Name)
		isServer := ref.Kind != nil && strings.EqualFold(*ref.Kind, api.ServerKind)
		policies := ref.Group == nil || strings.EqualFold(*ref.Group, api.Group)
		switch {
		case isServer && !policies:
			tell("has Server %s of group %s for a parent: Servers are of group %s", ref.Name, *ref.Group, api.Group)
		case isServer && !server:
			tell("has Server %s for a parent, which is not among what was read", ref.Name)
		case !isServer && policies && server:
			tell("has %s %s for a parent, and not the Server of that name: write kind: Server", *ref.Kind, ref.Name)
		}
	}
}

// exists reports whether what a reference names was read; what is not looked for
// exists.
func exists(w oracle.World, group, kind, namespace, name string) bool {
	switch {
	case strings.EqualFold(group, api.Group) && strings.EqualFold(kind, api.ServerKind):
		return has(w.Servers, namespace, name)
	case strings.EqualFold(group, api.Group) && strings.EqualFold(kind, api.MeshTLSAuthenticationKind):
		return has(w.MeshTLSAuthentications, namespace, name)
	case strings.EqualFold(group, api.Group) && strings.EqualFold(kind, api.NetworkAuthenticationKind):
		return has(w.NetworkAuthentications, namespace, name)
	case strings.EqualFold(kind, api.HTTPRouteKind):
		return slices.ContainsFunc(w.HTTPRoutes, func(r *api.HTTPRoute) bool {
			return r.Namespace == namespace && strings.EqualFold(r.Name, name) && strings.EqualFold(strings.Split(r.APIVersion, "/")[0], group)
		})
	case strings.EqualFold(kind, api.GRPCRouteKind):
		return has(w.GRPCRoutes, namespace, name)
	default:
		return true
	}
}

func has[T interface {
	GetNamespace() string
	GetName() string
}](list []T, namespace, name string) bool {
	return slices.ContainsFunc(list, func(o T) bool { return o.GetNamespace() == namespace && o.GetName() == name })
}
