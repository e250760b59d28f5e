package index

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// world is the naive twin of the index: objects as they were written, and a
// policy that is computed from all of them each time it is asked for. It shares
// no decision with the index, only the shape of the answer; it is written to be
// read beside the rule book.
type world struct {
	dialect api.Dialect
	// objects holds what counts of each object. What is unusable was replaced by
	// what counts instead before it got here.
	objects map[string]map[id]any
}

type id struct{ kind, name string }

// closedServer and closedRoute stand for objects that cannot be understood, in
// the dialect where such an object admits nobody.
type (
	closedServer struct{ *api.Server }
	closedRoute  struct{ route any }
)

// of yields the objects of a type in a namespace, in no order.
func of[T any](w world, namespace string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for key, object := range w.objects[namespace] {
			if o, ok := object.(T); ok && !yield(key.name, o) {
				return
			}
		}
	}
}

// policy is the policy of a pod's port, and whether there is such a pod.
func (w world) policy(namespace, name string, port uint16) (InboundServer, bool) {
	pod, known := w.objects[namespace][id{"Pod", name}].(*corev1.Pod)
	if !known {
		return InboundServer{}, false
	}
	server, closed := w.server(namespace, pod, port)
	if server == nil {
		return w.withoutServer(pod, port), true
	}
	return w.withServer(namespace, pod, port, server, closed), true
}

// server is the oldest that selects the port, then the first by name.
func (w world) server(namespace string, pod *corev1.Pod, port uint16) (best *api.Server, closed bool) {
	consider := func(s *api.Server, isClosed bool) {
		if s.Spec.PodSelector == nil || !chooses(s.Spec.PodSelector, pod.Labels) || !w.hasPort(pod, s.Spec.Port, port) {
			return
		}
		if best == nil || cmp.Or(s.CreationTimestamp.Compare(best.CreationTimestamp.Time), strings.Compare(s.Name, best.Name)) < 0 {
			best, closed = s, isClosed
		}
	}
	for _, s := range of[*api.Server](w, namespace) {
		consider(s, false)
	}
	for _, s := range of[closedServer](w, namespace) {
		consider(s.Server, true)
	}
	return best, closed
}

func chooses(selector *api.LabelSelector, labels map[string]string) bool {
	for key, value := range selector.MatchLabels {
		if have, there := labels[key]; !there || have != value {
			return false
		}
	}
	for _, r := range selector.MatchExpressions {
		value, there := labels[r.Key]
		switch {
		case r.Operator == api.In && there && slices.Contains(r.Values, value):
		case r.Operator == api.NotIn && r.Values != nil && !(there && slices.Contains(r.Values, value)):
		case r.Operator == api.Exists && r.Values == nil && there:
		case r.Operator == api.DoesNotExist && r.Values == nil && !there:
		default:
			return false
		}
	}
	return true
}

// hasPort: names are those of TCP ports of any container; numbers must be declared
// in one of the dialects.
func (w world) hasPort(pod *corev1.Pod, want intstr.IntOrString, port uint16) bool {
	if want.Type == intstr.Int && (int(want.IntVal) != int(port) || !w.dialect.DeclaredPortsOnly) {
		return int(want.IntVal) == int(port)
	}
	for _, container := range append(slices.Clone(pod.Spec.Containers), pod.Spec.InitContainers...) {
		for _, p := range container.Ports {
			if p.ContainerPort == int32(port) && p.Protocol != corev1.ProtocolUDP && (want.Type == intstr.Int || p.Name == want.StrVal) {
				return true
			}
		}
	}
	return false
}

// withoutServer is the default policy with the probes (X-10, D-07, D-18).
func (w world) withoutServer(pod *corev1.Pod, port uint16) InboundServer {
	name := pod.Annotations[api.DefaultPolicyAnnotation]
	if w.dialect.DefaultFixedAtCreation {
		name = pod.Spec.Containers[0].Env[0].Value
	}
	policy := api.PolicyName(name)
	if !policy.Valid() {
		policy = api.AllUnauthenticated
	}
	if pod.Annotations[api.RequireIdentityAnnotation] == strconv.Itoa(int(port)) {
		policy = api.PolicyName(strings.Replace(string(policy), "unauthenticated", "authenticated", 1))
	}
	answer := InboundServer{Reference: Reference{Default, string(policy)}, Protocol: detect, Authorizations: granted[policy]}
	if pod.Annotations[api.OpaquePortsAnnotation] == strconv.Itoa(int(port)) {
		answer.Protocol = Protocol{Kind: Opaque}
		return answer
	}
	answer.HTTPRoutes = withProbes(pod, port)
	return answer
}

func withProbes(pod *corev1.Pod, port uint16) []HTTPRoute {
	for _, container := range pod.Spec.Containers {
		if p := container.ReadinessProbe; p != nil && p.HTTPGet.Port.IntValue() == int(port) {
			return []HTTPRoute{defaultRoute, probeRoute(p.HTTPGet.Path)}
		}
	}
	return []HTTPRoute{defaultRoute}
}

// withServer is the policy of a port that the Server decides on.
func (w world) withServer(namespace string, pod *corev1.Pod, port uint16, server *api.Server, closed bool) InboundServer {
	answer := InboundServer{Reference: Reference{Server, server.Name}, Protocol: detect}
	spoken := map[api.ProxyProtocol]ProtocolKind{
		api.ProtocolHTTP1: HTTP1, api.ProtocolHTTP2: HTTP2, api.ProtocolGRPC: GRPC, api.ProtocolOpaque: Opaque, api.ProtocolTLS: TLS,
	}
	if kind, known := spoken[server.Spec.ProxyProtocol]; known {
		answer.Protocol = Protocol{Kind: kind}
	}
	if !closed {
		answer.Authorizations = w.granting(namespace, func(kind, _, name string) bool {
			return kind == "Server" && name == server.Name || kind == "Namespace"
		})
		for name, z := range of[*api.ServerAuthorization](w, namespace) {
			ref := z.Spec.Server
			if ref.Name == server.Name || ref.Selector != nil && chooses(ref.Selector, server.Labels) {
				answer.Authorizations = append(answer.Authorizations, clientsOf(namespace, name, z.Spec.Client))
			}
		}
		byName(answer.Authorizations)
		answer.Authorizations = append(answer.Authorizations, granted[server.Spec.AccessPolicy]...)
	}
	switch answer.Protocol.Kind {
	case Detect, HTTP1, HTTP2:
		if answer.HTTPRoutes = w.httpRoutes(namespace, server.Name, closed); answer.HTTPRoutes == nil {
			answer.HTTPRoutes = []HTTPRoute{defaultRoute}
			if !w.dialect.ProbesNeedAuthorization {
				answer.HTTPRoutes = withProbes(pod, port)
			}
		}
		answer.RateLimit = w.limit(namespace, server.Name)
	case GRPC:
		if answer.GRPCRoutes = w.grpcRoutes(namespace, server.Name, closed); answer.GRPCRoutes == nil {
			answer.GRPCRoutes = []GRPCRoute{allCalls}
		}
	}
	return answer
}

func byName(list []Authorization) {
	slices.SortFunc(list, func(a, b Authorization) int {
		return cmp.Or(strings.Compare(a.Reference.Name, b.Reference.Name), strings.Compare(string(a.Reference.Kind), string(b.Reference.Kind)))
	})
}

// clientsOf is what a ServerAuthorization grants.
func clientsOf(namespace, name string, client api.Client) Authorization {
	a := Authorization{Reference: Reference{ServerAuthorization, name}, Networks: inCluster, Authentication: nobody}
	if len(client.Networks) > 0 {
		a.Networks = rangesOf(client.Networks)
	}
	if client.MeshTLS != nil && client.MeshTLS.UnauthenticatedTLS {
		a.Authentication = Authentication{Kind: TLSUnauthenticated}
	} else if client.MeshTLS != nil {
		a.Authentication = Authentication{Kind: Identified}
		for _, identity := range client.MeshTLS.Identities {
			addIdentity(&a.Authentication, identity)
		}
		for _, account := range client.MeshTLS.ServiceAccounts {
			addIdentity(&a.Authentication, accountName(cmp.Or(account.Namespace, namespace), account.Name))
		}
	}
	return a
}

func accountName(namespace, name string) string {
	return name + "." + namespace + ".serviceaccount.identity.linkerd.cluster.local"
}

func addIdentity(a *Authentication, identity string) {
	switch {
	case identity == "*":
		a.Suffixes = append(a.Suffixes, []string{})
	case strings.HasPrefix(identity, "*."):
		a.Suffixes = append(a.Suffixes, strings.Split(identity, ".")[1:])
	default:
		a.Identities = append(a.Identities, identity)
	}
	slices.Sort(a.Identities)
	slices.SortFunc(a.Suffixes, slices.Compare)
}

func rangesOf(networks []api.Network) []Network {
	var all []Network
	for _, n := range networks {
		one := Network{Prefix: netip.MustParsePrefix(n.CIDR)}
		for _, except := range n.Except {
			one.Except = append(one.Except, netip.MustParsePrefix(except))
		}
		all = append(all, one)
	}
	return all
}

// granting lists what the AuthorizationPolicies grant whose target is as asked
// for.
func (w world) granting(namespace string, on func(kind, group, name string) bool) []Authorization {
	var all []Authorization
	for name, policy := range of[*api.AuthorizationPolicy](w, namespace) {
		if t := policy.Spec.TargetRef; !on(t.Kind, t.Group, t.Name) {
			continue
		}
		a := Authorization{Reference: Reference{AuthorizationPolicy, name}, Networks: worldwide, Authentication: nobody}
		void := false
		for _, ref := range policy.Spec.RequiredAuthenticationRefs {
			in := cmp.Or(ref.Namespace, namespace)
			switch object := w.objects[in][id{ref.Kind, ref.Name}]; ref.Kind {
			case "ServiceAccount":
				a.Authentication = Authentication{Kind: Identified, Identities: []string{accountName(in, ref.Name)}}
			case "MeshTLSAuthentication":
				if m, there := object.(*api.MeshTLSAuthentication); there {
					a.Authentication = meshTLSOf(in, m)
				} else {
					void = true
				}
			case "NetworkAuthentication":
				if n, there := object.(*api.NetworkAuthentication); there {
					a.Networks = rangesOf(n.Spec.Networks)
				} else {
					void = true
				}
			}
		}
		if !void {
			all = append(all, a)
		}
	}
	return all
}

func meshTLSOf(namespace string, m *api.MeshTLSAuthentication) Authentication {
	a := Authentication{Kind: Identified}
	for _, identity := range m.Spec.Identities {
		addIdentity(&a, identity)
	}
	for _, ref := range m.Spec.IdentityRefs {
		if ref.Kind == "Namespace" {
			addIdentity(&a, "*."+ref.Name+".serviceaccount.identity.linkerd.cluster.local")
		} else {
			addIdentity(&a, accountName(cmp.Or(ref.Namespace, namespace), ref.Name))
		}
	}
	return a
}

// attached reports whether the Server is among the parents and has accepted the
// route.
func attached(server string, parents []api.ParentReference, status api.RouteStatus) bool {
	names := func(p api.ParentReference) bool { return p.Kind != nil && *p.Kind == "Server" && p.Name == server }
	return slices.ContainsFunc(parents, names) && slices.ContainsFunc(status.Parents, func(p api.RouteParentStatus) bool {
		return p.ControllerName == "linkerd.io/policy-controller" && names(p.ParentRef) && isAccepted(p.Conditions)
	})
}

func isAccepted(conditions []metav1.Condition) bool {
	return len(conditions) == 1 && conditions[0].Type == "Accepted" && conditions[0].Status == "True"
}

// found is a route of a Server with what orders it.
type found[R any] struct {
	created metav1.Time
	group   string
	name    string
	route   R
}

func inFoundOrder[R any](list []found[R]) (routes []R) {
	slices.SortFunc(list, func(a, b found[R]) int {
		return cmp.Or(a.created.Compare(b.created.Time), strings.Compare(a.group, b.group), strings.Compare(a.name, b.name))
	})
	for _, f := range list {
		routes = append(routes, f.route)
	}
	return routes
}

func (w world) httpRoutes(namespace, server string, closed bool) []HTTPRoute {
	var all []found[HTTPRoute]
	for _, object := range w.objects[namespace] {
		broken, isBroken := object.(closedRoute)
		if isBroken {
			object = broken.route
		}
		r, ok := object.(*api.HTTPRoute)
		if !ok || !attached(server, r.Spec.ParentRefs, r.Status) {
			continue
		}
		group, _, _ := strings.Cut(r.APIVersion, "/")
		kind := PolicyHTTPRoute
		if group == api.GatewayGroup {
			kind = GatewayHTTPRoute
		}
		route := HTTPRoute{Reference: Reference{kind, r.Name}}
		if !isBroken && !closed {
			route.Authorizations = w.granting(namespace, func(k, g, name string) bool {
				return strings.EqualFold(k, "HTTPRoute") && g == group && strings.EqualFold(name, r.Name)
			})
			byName(route.Authorizations)
		}
		if !isBroken {
			route.Hosts = hostsOf(r.Spec.Hostnames)
			for _, rule := range r.Spec.Rules {
				route.Rules = append(route.Rules, w.httpRule(rule))
			}
		}
		all = append(all, found[HTTPRoute]{r.CreationTimestamp, group, r.Name, route})
	}
	return inFoundOrder(all)
}

func hostsOf(names []api.Hostname) []HostMatch {
	var all []HostMatch
	for _, name := range names {
		all = append(all, HostMatch{strings.TrimPrefix(string(name), "*."), strings.HasPrefix(string(name), "*.")})
	}
	return all
}

func (w world) httpRule(rule api.HTTPRouteRule) HTTPRule {
	var out HTTPRule
	for _, m := range rule.Matches {
		match := HTTPMatch{Path: PathMatch{Prefix, "/"}, Headers: headersOf(m.Headers)}
		if m.Path != nil && *m.Path.Type == api.MatchExact {
			match.Path = PathMatch{Exact, *m.Path.Value}
		}
		if m.Method != nil {
			match.Method = string(*m.Method)
		}
		out.Matches = append(out.Matches, match)
	}
	for _, f := range rule.Filters {
		switch f.Type {
		case api.FilterRequestRedirect:
			redirect := &Redirect{Host: *f.RequestRedirect.Hostname, Status: 302}
			if !w.dialect.QuirksRepaired {
				redirect.Status = 200
			}
			out.Filters = append(out.Filters, Filter{Redirect: redirect})
		case api.FilterRequestHeaderModifier:
			out.Filters = append(out.Filters, Filter{Headers: &HeaderModifier{Remove: f.RequestHeaderModifier.Remove}})
		}
	}
	return out
}

func headersOf(list []api.HTTPValueMatch) []ValueMatch {
	var all []ValueMatch
	for _, m := range list {
		all = append(all, ValueMatch{Name: m.Name, Value: m.Value})
	}
	return all
}

func (w world) grpcRoutes(namespace, server string, closed bool) []GRPCRoute {
	var all []found[GRPCRoute]
	for _, object := range w.objects[namespace] {
		broken, isBroken := object.(closedRoute)
		if isBroken {
			object = broken.route
		}
		r, ok := object.(*api.GRPCRoute)
		if !ok || !attached(server, r.Spec.ParentRefs, r.Status) {
			continue
		}
		route := GRPCRoute{Reference: Reference{GatewayGRPCRoute, r.Name}}
		if !isBroken && !closed {
			route.Authorizations = w.granting(namespace, func(k, _, name string) bool { return k == "GRPCRoute" && strings.EqualFold(name, r.Name) })
			byName(route.Authorizations)
		}
		if !isBroken {
			route.Hosts = hostsOf(r.Spec.Hostnames)
			for _, rule := range r.Spec.Rules {
				route.Rules = append(route.Rules, w.grpcRule(rule))
			}
		}
		all = append(all, found[GRPCRoute]{r.CreationTimestamp, "", r.Name, route})
	}
	return inFoundOrder(all)
}

func (w world) grpcRule(rule api.GRPCRouteRule) GRPCRule {
	var out GRPCRule
	for _, m := range rule.Matches {
		match := GRPCMatch{Headers: headersOf(m.Headers)}
		if m.Method != nil {
			match.RPC = &RPCMatch{Service: *m.Method.Service}
		} else if w.dialect.QuirksRepaired {
			match.RPC = &RPCMatch{}
		}
		out.Matches = append(out.Matches, match)
	}
	if len(rule.Matches) == 0 {
		out.Matches = []GRPCMatch{{RPC: &RPCMatch{}}}
	}
	return out
}

// limit is the oldest accepted one of the Server (R-02, S-09).
func (w world) limit(namespace, server string) *RateLimit {
	var best *api.HTTPLocalRateLimitPolicy
	for _, l := range of[*api.HTTPLocalRateLimitPolicy](w, namespace) {
		s := l.Status
		if l.Spec.TargetRef.Name != server || s.TargetRef == nil || s.TargetRef.Name != server || !isAccepted(s.Conditions) {
			continue
		}
		if best == nil || cmp.Or(l.CreationTimestamp.Compare(best.CreationTimestamp.Time), strings.Compare(l.Name, best.Name)) < 0 {
			best = l
		}
	}
	if best == nil {
		return nil
	}
	limit := &RateLimit{Reference: Reference{RateLimitPolicy, best.Name}}
	if best.Spec.Total != nil {
		limit.Total = uint32(best.Spec.Total.RequestsPerSecond)
	}
	if best.Spec.Identity != nil {
		limit.Identity = uint32(best.Spec.Identity.RequestsPerSecond)
	}
	for _, o := range best.Spec.Overrides {
		limit.Overrides = append(limit.Overrides, RateOverride{uint32(o.RequestsPerSecond), []string{accountName(namespace, o.ClientRefs[0].Name)}})
	}
	return limit
}
