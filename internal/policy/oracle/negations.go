package oracle

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Negation puts the contrary of one rule in the place of its function. Judged
// with it, a claim that shows the rule has to come out differently.
type Negation struct {
	// Rule is the ID of what is negated; a rule with several sides stands several
	// times.
	Rule string
	// As says what holds instead.
	As    string
	Apply func(*Rules)
}

// Negations lists one or more for every rule that a function of its own decides.
// What is not listed follows from how the functions are put together (H-10,
// H-16, P-13), from defaults of the schemas (C-06, C-28), or is no matter of a
// settled world.
func Negations() []Negation {
	return slices.Concat(podNegations, serverNegations, grantNegations, routeNegations, connectionNegations, answerNegations, paceNegations)
}

var podNegations = []Negation{
	{"D-01", "the policies that grant something grant nothing, and deny grants all", func(r *Rules) {
		is := r.BuiltIn
		r.BuiltIn = func(p api.PolicyName, s Settings) (Grant, bool) {
			if _, any := is(p, s); any {
				return Grant{}, false
			}
			return is(api.AllUnauthenticated, s)
		}
	}},
	{"D-02", "the authenticated policies want an identity of the control plane", func(r *Rules) {
		is := r.BuiltIn
		r.BuiltIn = func(p api.PolicyName, s Settings) (Grant, bool) {
			grant, any := is(p, s)
			if len(grant.Clients.Identities) > 0 {
				grant.Clients.Identities = []string{NamespaceIdentity(s.ControlPlaneNamespace, s)}
			}
			return grant, any
		}
	}},
	{"D-07", "the pod's own annotation is not read", func(r *Rules) {
		is := r.DefaultPolicy
		r.DefaultPolicy = func(s Settings, pod *corev1.Pod, n *corev1.Namespace, d api.Dialect) (api.PolicyName, string) {
			pod = pod.DeepCopy()
			delete(pod.Annotations, api.DefaultPolicyAnnotation)
			return is(s, pod, n, d)
		}
	}},
	{"D-08", "the namespace's annotation is not read", func(r *Rules) {
		is := r.DefaultPolicy
		r.DefaultPolicy = func(s Settings, pod *corev1.Pod, _ *corev1.Namespace, d api.Dialect) (api.PolicyName, string) {
			return is(s, pod, nil, d)
		}
	}},
	{"D-10", "an annotation of a pod that runs is live where it is fixed, and fixed where it is live", func(r *Rules) {
		is := r.DefaultPolicy
		r.DefaultPolicy = func(s Settings, pod *corev1.Pod, n *corev1.Namespace, d api.Dialect) (api.PolicyName, string) {
			d.DefaultFixedAtCreation = !d.DefaultFixedAtCreation
			return is(s, pod, n, d)
		}
	}},
	{"D-12", "an annotation that is no policy denies", func(r *Rules) {
		is := r.DefaultPolicy
		r.DefaultPolicy = func(s Settings, pod *corev1.Pod, n *corev1.Namespace, d api.Dialect) (api.PolicyName, string) {
			if value, there := pod.Annotations[api.DefaultPolicyAnnotation]; there && !api.PolicyName(value).Valid() {
				return api.Deny, "negated"
			}
			return is(s, pod, n, d)
		}
	}},
	{"D-15", "a name among opaque ports is resolved where it spoils the list, and spoils it where it is resolved", func(r *Rules) {
		is := r.OpaqueByDefault
		r.OpaqueByDefault = func(pod *corev1.Pod, n *corev1.Namespace, port uint16, d api.Dialect) (bool, string) {
			d.QuirksRepaired = !d.QuirksRepaired
			return is(pod, n, port, d)
		}
	}},
	{"D-16", "no port is opaque unless an annotation says so", func(r *Rules) {
		is := r.OpaqueByDefault
		r.OpaqueByDefault = func(pod *corev1.Pod, n *corev1.Namespace, port uint16, d api.Dialect) (bool, string) {
			if _, _, found := annotation(pod, n, api.OpaquePortsAnnotation); !found {
				return false, ""
			}
			return is(pod, n, port, d)
		}
	}},
	{"D-17", "a Server's protocol is what meshed clients go by", func(r *Rules) {
		is := r.HintsOpaque
		r.HintsOpaque = func(_ bool, p api.ProxyProtocol) bool { return is(false, p) }
	}},
	{"D-18", "no identity is required", func(r *Rules) {
		r.RequireIdentity = func(p api.PolicyName, _ *corev1.Pod, _ uint16) api.PolicyName { return p }
	}},
	{"D-19", "no port is skipped", func(r *Rules) {
		r.Bypassed = func(*corev1.Pod, *corev1.Namespace, uint16) (bool, string) { return false, "" }
	}},
	{"D-21", "pods without a proxy are policed, and others are not", func(r *Rules) {
		is := r.Enforced
		r.Enforced = func(pod *corev1.Pod, n *corev1.Namespace) (bool, string) {
			enforced, why := is(pod, n)
			return !enforced, why
		}
	}},
	{"X-10", "a port without a Server is under deny", func(r *Rules) {
		r.DefaultPolicy = func(Settings, *corev1.Pod, *corev1.Namespace, api.Dialect) (api.PolicyName, string) {
			return api.Deny, "negated"
		}
	}},
}

var serverNegations = []Negation{
	{"C-03", "an empty selector selects nothing", func(r *Rules) {
		is := r.LabelsMatch
		r.LabelsMatch = func(s *api.LabelSelector, l map[string]string) (bool, string) {
			if s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
				return false, "negated"
			}
			return is(s, l)
		}
	}},
	{"C-08", "selectors select what they do not match", flipLabels},
	{"C-09", "NotIn wants the label to be there", func(r *Rules) {
		is := r.LabelsMatch
		r.LabelsMatch = func(s *api.LabelSelector, l map[string]string) (bool, string) {
			if s != nil {
				for _, e := range s.MatchExpressions {
					if _, there := l[e.Key]; e.Operator == api.NotIn && !there {
						return false, "negated"
					}
				}
			}
			return is(s, l)
		}
	}},
	{"X-01", "a Server selects pods of every namespace", func(r *Rules) {
		r.SameNamespace = func(*api.Server, *corev1.Pod) bool { return true }
	}},
	{"X-01", "a number wants a declaration where it wants none, and none where it wants one", func(r *Rules) {
		is := r.NumberSelected
		r.NumberSelected = func(n int32, pod *corev1.Pod, port uint16, d api.Dialect) (bool, string) {
			d.DeclaredPortsOnly = !d.DeclaredPortsOnly
			return is(n, pod, port, d)
		}
	}},
	{"X-02", "a name means every port but those of that name", func(r *Rules) {
		is := r.NameSelected
		r.NameSelected = func(name string, pod *corev1.Pod, port uint16) (bool, string) {
			selected, why := is(name, pod, port)
			return !selected, why
		}
	}},
	{"X-03", "a name means ports of UDP too", func(r *Rules) {
		is := r.NameSelected
		r.NameSelected = func(name string, pod *corev1.Pod, port uint16) (bool, string) {
			for _, c := range containers(pod) {
				for _, p := range c.Ports {
					if p.Name == name && p.ContainerPort == int32(port) {
						return true, "negated"
					}
				}
			}
			return is(name, pod, port)
		}
	}},
	{"X-04", "the younger Server wins", func(r *Rules) {
		is := r.Precedes
		r.Precedes = func(a, b *api.Server) (bool, string) { return is(b, a) }
	}},
	{"X-11", "a Server that says nothing allows all", openServers},
	{"X-12", "the access policy is not read", func(r *Rules) {
		r.AccessPolicy = func(*api.Server) api.PolicyName { return api.Deny }
	}},
	{"X-13", "an absent access policy allows all", openServers},
}

func openServers(r *Rules) {
	is := r.AccessPolicy
	r.AccessPolicy = func(s *api.Server) api.PolicyName {
		if policy := is(s); policy != api.Deny {
			return policy
		}
		return api.AllUnauthenticated
	}
}

func flipLabels(r *Rules) {
	is := r.LabelsMatch
	r.LabelsMatch = func(s *api.LabelSelector, l map[string]string) (bool, string) {
		matches, why := is(s, l)
		return !matches, why
	}
}

var grantNegations = []Negation{
	{"C-11", "labels of a Server do not count", namesOthers},
	{"X-30", "a ServerAuthorization is for all Servers that it does not mean", namesOthers},
	{"C-15", "an account without a namespace is of namespace default", func(r *Rules) {
		is := r.GrantClients
		r.GrantClients = func(a *api.ServerAuthorization, account AccountNamer) (Clients, string) {
			a = a.DeepCopy()
			a.Namespace = "default"
			return is(a, account)
		}
	}},
	{"C-17", "a target may be in another namespace", func(r *Rules) {
		is := r.TargetsServer
		r.TargetsServer = func(p *api.AuthorizationPolicy, s *api.Server) bool {
			p = p.DeepCopy()
			p.Namespace = s.Namespace
			return is(p, s)
		}
	}},
	{"X-31", "no networks means everywhere", func(r *Rules) {
		is := r.GrantNetworks
		r.GrantNetworks = func(listed []api.Network, s Settings) []Network {
			if len(listed) == 0 {
				return networks(everywhere())
			}
			return is(listed, s)
		}
	}},
	{"X-32", "who is meant is not, and who is not is", func(r *Rules) {
		is := r.ClientsHold
		r.ClientsHold = func(c Clients, s Session, d api.Dialect, fits func(pattern, identity string, d api.Dialect) bool) (bool, string) {
			holds, why := is(c, s, d, fits)
			return !holds, why
		}
	}},
	{"X-33", "networks do not count", func(r *Rules) {
		r.NetworkHolds = func([]Network, netip.Addr) (bool, string) { return true, "negated" }
	}},
	{"X-40", "a policy for a Server is for all others", func(r *Rules) {
		is := r.TargetsServer
		r.TargetsServer = func(p *api.AuthorizationPolicy, s *api.Server) bool { return !is(p, s) }
	}},
	{"X-40", "a policy for a namespace is for no Server", func(r *Rules) {
		r.TargetsNamespace = func(*api.AuthorizationPolicy, *api.Server) bool { return false }
	}},
	{"X-40", "a policy for a route is for all others", func(r *Rules) {
		is := r.TargetsRoute
		r.TargetsRoute = func(p *api.AuthorizationPolicy, l Label, n string) bool { return !is(p, l, n) }
	}},
	{"X-41", "a NetworkAuthentication beside an identity does not count", func(r *Rules) {
		is := r.PolicyNetworks
		r.PolicyNetworks = func(p *api.AuthorizationPolicy, w World) ([]Network, string) {
			if mesh, _, accounts, _ := references(p); len(mesh)+len(accounts) > 0 {
				return networks(everywhere()), ""
			}
			return is(p, w)
		}
	}},
	{"X-42", "without an identity in the policy any identity is wanted", func(r *Rules) {
		is := r.PolicyClients
		r.PolicyClients = func(p *api.AuthorizationPolicy, w World, account AccountNamer, all func(string) string) (Clients, string) {
			clients, void := is(p, w, account, all)
			if clients.Anyone {
				clients = Clients{Identities: []string{"*"}}
			}
			return clients, void
		}
	}},
	{"X-43", "no NetworkAuthentication means the cluster's networks", func(r *Rules) {
		is := r.PolicyNetworks
		r.PolicyNetworks = func(p *api.AuthorizationPolicy, w World) ([]Network, string) {
			if _, refs, _, _ := references(p); len(refs) == 0 {
				return networks(w.Settings.ClusterNetworks), ""
			}
			return is(p, w)
		}
	}},
	{"X-44", "references are of the policy's own namespace", func(r *Rules) {
		is := r.PolicyClients
		r.PolicyClients = func(p *api.AuthorizationPolicy, w World, account AccountNamer, all func(string) string) (Clients, string) {
			p = p.DeepCopy()
			for i := range p.Spec.RequiredAuthenticationRefs {
				p.Spec.RequiredAuthenticationRefs[i].Namespace = ""
			}
			return is(p, w, account, all)
		}
	}},
	{"X-45", "an authentication that does not exist asks for nothing", func(r *Rules) {
		is, also := r.PolicyClients, r.PolicyNetworks
		r.PolicyClients = func(p *api.AuthorizationPolicy, w World, account AccountNamer, all func(string) string) (Clients, string) {
			if clients, void := is(p, w, account, all); void == "" {
				return clients, ""
			}
			return Clients{Anyone: true}, ""
		}
		r.PolicyNetworks = func(p *api.AuthorizationPolicy, w World) ([]Network, string) {
			if found, void := also(p, w); void == "" {
				return found, ""
			}
			return networks(everywhere()), ""
		}
	}},
	{"X-47", "one grant is not enough", func(r *Rules) {
		r.Suffices = func(holding int) bool { return holding > 1 }
	}},
	{"X-48", "a grant on the Server opens no route", func(r *Rules) {
		r.RouteList = func(route, server []Grant) []Grant { return slices.Clone(route) }
	}},
	{"X-49", "the group of a route does not count", func(r *Rules) {
		is := r.TargetsRoute
		r.TargetsRoute = func(p *api.AuthorizationPolicy, l Label, n string) bool {
			p = p.DeepCopy()
			p.Spec.TargetRef.Group = l.Group
			return is(p, l, n)
		}
	}},
	{"X-50", "built-in grants are credited first", func(r *Rules) {
		is := r.NamedFirst
		r.NamedFirst = func(a, b Label) bool { return !is(a, b) }
	}},
	{"X-61", "an authorization that names nobody admits everybody", func(r *Rules) {
		is := r.GrantClients
		r.GrantClients = func(a *api.ServerAuthorization, account AccountNamer) (Clients, string) {
			if clients, void := is(a, account); void == "" {
				return clients, ""
			}
			return Clients{Anyone: true}, ""
		}
	}},
	{"X-70", "identities begin with the namespace", func(r *Rules) {
		is := r.AccountIdentity
		r.AccountIdentity = func(namespace, name string, s Settings) string { return is(name, namespace, s) }
	}},
	{"X-71", "a Namespace means its account default", func(r *Rules) {
		r.NamespaceIdentity = func(n string, s Settings) string { return AccountIdentity(n, "default", s) }
	}},
	{"X-72", "wildcards fit what they should not, and not what they should", func(r *Rules) {
		is := r.IdentityFits
		r.IdentityFits = func(pattern, identity string, d api.Dialect) bool {
			return is(pattern, identity, d) != strings.HasPrefix(pattern, "*")
		}
	}},
	{"X-73", "full names fit all others", func(r *Rules) {
		is := r.IdentityFits
		r.IdentityFits = func(pattern, identity string, d api.Dialect) bool {
			return is(pattern, identity, d) == strings.HasPrefix(pattern, "*")
		}
	}},
	{"X-74", "SPIFFE identities fit wildcards where they do not, and do not where they do", func(r *Rules) {
		is := r.IdentityFits
		r.IdentityFits = func(pattern, identity string, d api.Dialect) bool {
			d.AnyVerifiedIdentity = !d.AnyVerifiedIdentity
			return is(pattern, identity, d)
		}
	}},
	{"H-19", "exceptions do not count", func(r *Rules) {
		is := r.NetworkHolds
		r.NetworkHolds = func(listed []Network, a netip.Addr) (bool, string) {
			var without []Network
			for _, n := range listed {
				without = append(without, Network{Within: n.Within})
			}
			return is(without, a)
		}
	}},
	{"H-20", "localhost is granted nothing", deafToLocalhost},
	{"B-01", "localhost is granted nothing", deafToLocalhost},
	{"T-04", "a mapped address is none of IPv4", func(r *Rules) {
		r.ClientAddress = func(a netip.Addr) netip.Addr { return a }
	}},
}

func namesOthers(r *Rules) {
	is := r.NamesServer
	r.NamesServer = func(ref api.ServerReference, s *api.Server) (bool, string) {
		named, why := is(ref, s)
		return !named, why
	}
}

func deafToLocalhost(r *Rules) {
	is := r.Localhost
	r.Localhost = func() Grant {
		grant := is()
		grant.Networks = nil
		return grant
	}
}
