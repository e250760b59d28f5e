package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// The negations of rules about requests: routes and probes, connections, answers
// and limits. Those about pods, Servers and grants stand in negations.go.

var routeNegations = []Negation{
	{"C-27", "a parent without kind is a Server", func(r *Rules) {
		is := r.Attached
		r.Attached = func(parents []api.ParentReference, group, namespace string, s *api.Server) (bool, string) {
			parents = slices.Clone(parents)
			for i := range parents {
				if kind := api.ServerKind; or(parents[i].Kind, "Gateway") == "Gateway" {
					parents[i].Kind = &kind
				}
			}
			return is(parents, group, namespace, s)
		}
	}},
	{"X-51", "routes belong to every Server but their parents", func(r *Rules) {
		is := r.Attached
		r.Attached = func(parents []api.ParentReference, group, namespace string, s *api.Server) (bool, string) {
			attached, why := is(parents, group, namespace, s)
			return !attached, why
		}
	}},
	{"X-52", "ports, sections and namespaces of parents do not matter", func(r *Rules) {
		r.SoundParents = func([]api.ParentReference, string) (bool, string) { return true, "" }
	}},
	{"X-53", "the default route stays beside others", func(r *Rules) {
		r.RoutesReplace = func(int) bool { return false }
	}},
	{"X-54", "HTTPRoutes are for gRPC, and GRPCRoutes for the rest", func(r *Rules) {
		is := r.RouteKindFits
		r.RouteKindFits = func(kind string, p api.ProxyProtocol) bool { return !is(kind, p) }
	}},
	{"X-55", "every filter is taken", func(r *Rules) {
		r.FiltersFit = func([]api.HTTPRouteFilter) (bool, string) { return true, "" }
	}},
	{"X-56", "the youngest route comes first", func(r *Rules) {
		is := r.OlderRoute
		r.OlderRoute = func(a, b Route) bool { return is(b, a) }
	}},
	{"X-58", "a match without a method spoils the policy where it does not, and does not where it does", func(r *Rules) {
		is := r.CallableMatch
		r.CallableMatch = func(m api.GRPCRouteMatch, d api.Dialect) bool {
			d.QuirksRepaired = !d.QuirksRepaired
			return is(m, d)
		}
	}},
	{"X-59", "a route without rules matches everything", func(r *Rules) {
		is := r.RulesOf
		r.RulesOf = func(route *api.HTTPRoute) []api.HTTPRouteRule {
			if rules := is(route); len(rules) > 0 {
				return rules
			}
			return []api.HTTPRouteRule{{}}
		}
	}},
	{"S-06", "an HTTPRoute is accepted beside a GRPCRoute", func(r *Rules) {
		r.Conflicts = func(*api.Server, World, func([]api.ParentReference, string, string, *api.Server) (bool, string)) (bool, string) {
			return false, ""
		}
	}},
	{"H-12", "routes match all hosts but theirs", func(r *Rules) {
		is := r.HostFits
		r.HostFits = func(pattern, authority string) (int, bool) {
			length, fits := is(pattern, authority)
			return length, !fits
		}
	}},
	{"H-13", "routes match all paths but theirs", func(r *Rules) {
		is := r.PathFits
		r.PathFits = func(m api.HTTPPathMatch, path string) (int, bool) {
			length, fits := is(m, path)
			return length, !fits
		}
	}},
	{"H-14", "routes match all headers and parameters but theirs", func(r *Rules) {
		is := r.ValueFits
		r.ValueFits = func(m api.HTTPValueMatch, values []string) bool { return !is(m, values) }
	}},
	{"H-14", "routes match all methods but theirs", func(r *Rules) {
		is := r.MethodFits
		r.MethodFits = func(want, got string) bool { return !is(want, got) }
	}},
	{"H-15", "the least specific match wins", func(r *Rules) {
		is := r.MoreSpecific
		r.MoreSpecific = func(a, b Fit) bool { return is(b, a) }
	}},
	{"H-17", "gRPC routes match all calls but theirs", func(r *Rules) {
		is := r.CallFits
		r.CallFits = func(m *api.GRPCMethodMatch, request Request) (int, bool) {
			length, fits := is(m, request)
			return length, !fits
		}
	}},
	{"H-13", "paths are normalised where they are raw, and raw where they are normalised", func(r *Rules) {
		is := r.NormalisedPath
		r.NormalisedPath = func(path string, d api.Dialect) (string, bool) {
			d.PathsNormalised = !d.PathsNormalised
			return is(path, d)
		}
	}},
	{"P-01", "no probe is a request", func(r *Rules) {
		r.HTTPProbes = func(corev1.Container) []*corev1.HTTPGetAction { return nil }
	}},
	{"P-02", "names of ports of probes mean nothing", func(r *Rules) {
		is := r.ProbePort
		r.ProbePort = func(port intstr.IntOrString, c corev1.Container) (uint16, bool) {
			number, known := is(port, c)
			return number, known && port.Type == intstr.Int
		}
	}},
	{"P-03", "the query of a probe is a part of its path", func(r *Rules) {
		r.ProbePath = func(path string) (string, bool) { return path, true }
	}},
	{"P-04", "everything below the path of a probe is a probe", func(r *Rules) {
		is, prefix := r.PathFits, api.MatchPathPrefix
		r.PathFits = func(m api.HTTPPathMatch, path string) (int, bool) {
			if m.Type != nil && *m.Type == api.MatchExact {
				m.Type = &prefix
			}
			return is(m, path)
		}
	}},
	{"P-05", "probes may come from everywhere", func(r *Rules) {
		r.ProbeNetworks = func(Settings) []Network { return networks(everywhere()) }
	}},
	{"P-06", "probes need an authorization where they need none, and none where they need one", func(r *Rules) {
		is := r.ProbesGranted
		r.ProbesGranted = func(server bool, p api.ProxyProtocol, routes int, s Settings, d api.Dialect) (bool, string) {
			d.ProbesNeedAuthorization = !d.ProbesNeedAuthorization
			return is(server, p, routes, s, d)
		}
	}},
	{"P-07", "probes are let in beside routes", func(r *Rules) {
		is := r.ProbesGranted
		r.ProbesGranted = func(server bool, p api.ProxyProtocol, _ int, s Settings, d api.Dialect) (bool, string) {
			return is(server, p, 0, s, d)
		}
	}},
	{"P-08", "probes are let in on gRPC Servers", func(r *Rules) {
		is := r.ProbesGranted
		r.ProbesGranted = func(server bool, _ api.ProxyProtocol, routes int, s Settings, d api.Dialect) (bool, string) {
			return is(server, api.ProtocolUnknown, routes, s, d)
		}
	}},
}

var connectionNegations = []Negation{
	{"T-10", "an opaque port ends mesh TLS", func(r *Rules) {
		is := r.SessionOf
		r.SessionOf = func(c Client, _ api.ProxyProtocol) Session { return is(c, api.ProtocolUnknown) }
	}},
	{"T-12", "silence is closed where it is borne, and borne where it is closed", func(r *Rules) {
		is := r.SilentClosed
		r.SilentClosed = func(s Session, p api.ProxyProtocol, d api.Dialect) bool { return !is(s, p, d) }
	}},
	{"T-13", "TLS for the application is ended as mesh TLS", func(r *Rules) {
		is := r.SessionOf
		r.SessionOf = func(c Client, p api.ProxyProtocol) Session {
			session := is(c, p)
			if session.Foreign {
				return Session{Terminated: true}
			}
			return session
		}
	}},
	{"T-14", "a TLS port refuses everything", spokenAs(api.ProtocolTLS, Refuse)},
	{"T-15", "detection finds no HTTP", func(r *Rules) {
		r.Detected = func(Request, api.Dialect) bool { return false }
	}},
	{"T-16", "what is not HTTP is refused where it is detected", func(r *Rules) {
		is := r.Spoken
		r.Spoken = func(p api.ProxyProtocol, request Request, s Session, detected bool) (Course, string) {
			course, rule := is(p, request, s, detected)
			if course == AsTCP && p == api.ProtocolUnknown {
				return Refuse, rule
			}
			return course, rule
		}
	}},
	{"T-18", "an HTTP/1 port takes everything", spokenAs(api.ProtocolHTTP1, AsTCP)},
	{"T-19", "an HTTP/2 or gRPC port takes everything", func(r *Rules) {
		spokenAs(api.ProtocolHTTP2, AsHTTP)(r)
		spokenAs(api.ProtocolGRPC, AsHTTP)(r)
	}},
	{"T-21", "the first segment decides where all does, and all where it does", func(r *Rules) {
		is := r.Detected
		r.Detected = func(request Request, d api.Dialect) bool {
			d.GatherToDetect = !d.GatherToDetect
			return is(request, d)
		}
	}},
	{"T-31", "the proxy's own port takes clients without an identity", func(r *Rules) {
		r.DirectClient = func(c Client) Client {
			c.Way = Meshed
			return c
		}
	}},
	{"T-33", "without a session protocol every port has a list for TCP", func(r *Rules) {
		is := r.Transported
		r.Transported = func(p api.ProxyProtocol, session bool) (Course, string) {
			course, rule := is(p, session)
			if course == Refuse {
				return AsTCP, rule
			}
			return course, rule
		}
	}},
	{"T-34", "with a session protocol every port has routes", func(r *Rules) {
		is := r.Transported
		r.Transported = func(p api.ProxyProtocol, session bool) (Course, string) {
			course, rule := is(p, session)
			if course == Nowhere {
				return AsTCP, rule
			}
			return course, rule
		}
	}},
	{"T-36", "nothing tells a client that a port is opaque", func(r *Rules) {
		r.HintsOpaque = func(bool, api.ProxyProtocol) bool { return false }
	}},
	{"I-02", "certificates of other roots are taken", func(r *Rules) {
		r.HandshakeFails = func(Client, api.ProxyProtocol) bool { return false }
	}},
	{"I-03", "mesh TLS without a certificate is no mesh TLS", func(r *Rules) {
		is := r.SessionOf
		r.SessionOf = func(c Client, p api.ProxyProtocol) Session {
			if session := is(c, p); session.Identity != "" {
				return session
			}
			return Session{}
		}
	}},
	{"B-02", "a pod that calls itself keeps its identity", func(r *Rules) {
		r.OwnCall = func(c Client) Client {
			if c.Self {
				c.Way, c.Identity = Meshed, "self.ns.serviceaccount.identity.linkerd.cluster.local"
			}
			return c
		}
	}},
}

// spokenAs has one protocol take another course whatever is spoken.
func spokenAs(protocol api.ProxyProtocol, course Course) func(*Rules) {
	return func(r *Rules) {
		is := r.Spoken
		r.Spoken = func(p api.ProxyProtocol, request Request, s Session, detected bool) (Course, string) {
			if p == protocol {
				return course, "negated"
			}
			return is(p, request, s, detected)
		}
	}
}

var answerNegations = []Negation{
	{"N-01", "a denied HTTP request is closed", answeredAs(Forbidden, Closed)},
	{"N-02", "a denied call gets HTTP 403", answeredAs(PermissionDenied, Forbidden)},
	{"N-08", "a denied connection gets HTTP 403", answeredAs(Closed, Forbidden)},
	{"N-03", "what no route matches is forbidden", func(r *Rules) {
		is := r.DenialForm
		r.NotFoundForm = func(request Request) Outcome { return is(request) }
	}},
	{"N-05", "a redirect is forwarded", func(r *Rules) {
		r.RedirectForm = func(Request, *api.RequestRedirect, api.Dialect) (Outcome, int) { return Delivered, 0 }
	}},
	{"W-21", "an unset status of a redirect is 200 where it is 302, and 302 where it is 200", func(r *Rules) {
		is := r.RedirectForm
		r.RedirectForm = func(request Request, redirect *api.RequestRedirect, d api.Dialect) (Outcome, int) {
			d.QuirksRepaired = !d.QuirksRepaired
			return is(request, redirect, d)
		}
	}},
	{"N-14", "everything is logged but what audit decides", func(r *Rules) {
		is := r.Audited
		r.Audited = func(l Label) bool { return !is(l) }
	}},
	{"B-05", "the admin port takes what is not HTTP", func(r *Rules) {
		r.AdminSpeaks = func(uint16) bool { return false }
	}},
	{"B-06", "the admin port answers everybody", func(r *Rules) {
		r.AdminLocal = func(uint16, string, netip.Addr) bool { return false }
	}},
	{"R-01", "only gRPC, opaque and TLS Servers have limits", func(r *Rules) {
		is := r.Limitable
		r.Limitable = func(p api.ProxyProtocol) bool { return !is(p) }
	}},
	{"R-02", "the youngest policy holds", youngestLimit},
	{"S-09", "the youngest policy holds", youngestLimit},
	{"R-05", "an override does not replace the limit of identities", func(r *Rules) {
		is := r.LimitsOf
		r.LimitsOf = func(p *api.HTTPLocalRateLimitPolicy, _ string, account AccountNamer) []Limit {
			return is(p, "", account)
		}
	}},
	{"R-11", "an account without a namespace is of namespace default", func(r *Rules) {
		is := r.LimitsOf
		r.LimitsOf = func(p *api.HTTPLocalRateLimitPolicy, identity string, account AccountNamer) []Limit {
			p = p.DeepCopy()
			p.Namespace = "default"
			return is(p, identity, account)
		}
	}},
}

func answeredAs(form, other Outcome) func(*Rules) {
	return func(r *Rules) {
		is := r.DenialForm
		r.DenialForm = func(request Request) Outcome {
			if outcome := is(request); outcome != form {
				return outcome
			}
			return other
		}
	}
}

func youngestLimit(r *Rules) {
	is := r.OlderLimit
	r.OlderLimit = func(a, b *api.HTTPLocalRateLimitPolicy) bool { return is(b, a) }
}
