package index

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// What follows makes up objects: few names, few values, so that they meet often.

// change makes up one.
func (h *history) change() change {
	c := change{namespace: h.pick("a", "b")}
	makers := []func(*change){
		h.pod, h.server, h.server, h.authorization, h.policy, h.policy, h.meshTLS, h.networks, h.httpRoute, h.httpRoute, h.grpcRoute, h.limit,
	}
	makers[h.random.IntN(len(makers))](&c)
	// Now and then a namespace runs empty.
	c.deleted = h.random.IntN(10) < 3
	if c.deleted {
		c.bad = false
		h.another(c)
	}
	return c
}

// another makes what comes under the name of a deleted pod another pod.
func (h *history) another(c change) {
	if c.id.kind == "Pod" {
		h.generations[c.namespace+c.id.name]++
	}
}

func (h *history) pick(of ...string) string { return of[h.random.IntN(len(of))] }

func (h *history) once(in int) bool { return h.random.IntN(in) == 0 }

// meta names one of a few objects of the kind.
func (h *history) meta(c *change, kind, prefix string, n int) metav1.ObjectMeta {
	c.id = id{kind, fmt.Sprintf("%s%d", prefix, h.random.IntN(n))}
	return metav1.ObjectMeta{
		Namespace: c.namespace, Name: c.id.name, UID: types.UID(c.id.name), CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(h.random.IntN(3)) * time.Second)),
	}
}

func (h *history) selector(key string, values ...string) *api.LabelSelector {
	switch h.random.IntN(8) {
	case 0:
		return &api.LabelSelector{}
	case 1:
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: key, Operator: api.In, Values: values[:1+h.random.IntN(len(values))]}}}
	case 2:
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: key, Operator: api.NotIn, Values: values[:1]}}}
	case 3:
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: "tier", Operator: api.SelectorOperator(h.pick("Exists", "DoesNotExist"))}}}
	case 4:
		return &api.LabelSelector{MatchLabels: map[string]string{key: h.pick(values...), "tier": "1"}}
	case 5:
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: key, Operator: api.In}}}
	default:
		return &api.LabelSelector{MatchLabels: map[string]string{key: h.pick(values...)}}
	}
}

func (h *history) pod(c *change) {
	meta := h.meta(c, "Pod", "p", 3)
	pod := mkPod(meta.Name, withDefault(h.pick("", "deny", "audit", "cluster-authenticated", "nonsense")), labelled("app", h.pick("x", "y", "z")))
	pod.Namespace = c.namespace
	if h.once(20) {
		h.generations[c.namespace+c.id.name]++
	}
	pod.UID = types.UID(fmt.Sprint(h.generations[c.namespace+c.id.name]))
	if h.once(2) {
		pod.Labels["tier"] = h.pick("1", "2")
	}
	for key, values := range map[string][]string{
		api.DefaultPolicyAnnotation: {"deny", "all-unauthenticated", "x"}, api.OpaquePortsAnnotation: {"8080", "1"}, api.RequireIdentityAnnotation: {"8080", "9090"},
	} {
		if h.once(4) {
			annotated(key, h.pick(values...))(pod)
		}
	}
	app := &pod.Spec.Containers[1]
	app.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: h.pick("http", "grpc"), ContainerPort: 9090}}
	if h.once(4) {
		app.Ports = app.Ports[:1]
		app.Ports[0].Protocol = corev1.Protocol(h.pick("TCP", "UDP"))
	}
	if h.once(3) {
		app.ReadinessProbe = mkProbe(h.pick("/up", "/"), intstr.FromInt32(8080))
	}
	c.object = pod
}

func (h *history) server(c *change) {
	server := &api.Server{ObjectMeta: h.meta(c, "Server", "s", 4), Spec: api.ServerSpec{
		PodSelector: h.selector("app", "x", "y"), Port: intstr.Parse(h.pick("8080", "http", "9090", "grpc", "7")),
		ProxyProtocol: api.ProxyProtocol(h.pick("", "unknown", "HTTP/1", "HTTP/2", "gRPC", "gRPC", "opaque", "TLS")),
		AccessPolicy:  api.PolicyName(h.pick("", "deny", "deny", "audit", "all-authenticated", "cluster-unauthenticated")),
	}}
	server.Labels = map[string]string{"x": h.pick("1", "2")}
	c.object = server
	if c.bad = h.once(8); !c.bad {
		return
	}
	switch h.random.IntN(3) {
	case 0:
		server.Spec.ProxyProtocol = "http"
	case 1:
		server.Spec.Port = intstr.FromInt32(70000)
	default:
		server.Spec.PodSelector = nil
	}
	c.instead = closedServer{server}
}

func (h *history) authorization(c *change) {
	z := &api.ServerAuthorization{ObjectMeta: h.meta(c, "ServerAuthorization", "z", 3)}
	z.Spec.Server.Name = h.pick("s0", "s1", "s2", "s3")
	if h.once(2) {
		z.Spec.Server = api.ServerReference{Selector: h.selector("x", "1", "2")}
	}
	switch h.random.IntN(3) {
	case 0:
		z.Spec.Client.Unauthenticated = true
	case 1:
		z.Spec.Client.MeshTLS = &api.MeshTLS{UnauthenticatedTLS: true}
	default:
		z.Spec.Client.MeshTLS = &api.MeshTLS{Identities: []string{h.pick("*", "*.x.y", "me")}, ServiceAccounts: []api.ServiceAccountReference{{Name: "web", Namespace: h.pick("", "b")}}}
	}
	if h.once(2) {
		z.Spec.Client.Networks = []api.Network{{CIDR: "10.1.0.0/16", Except: []string{"10.1.2.0/24"}}}
	}
	if c.bad = h.once(6); c.bad {
		z.Spec.Client = api.Client{}
	}
	c.object = z
}

func (h *history) policy(c *change) {
	p := &api.AuthorizationPolicy{ObjectMeta: h.meta(c, "AuthorizationPolicy", "q", 4)}
	switch h.random.IntN(6) {
	case 0, 1:
		p.Spec.TargetRef = api.LocalTargetReference{Group: api.Group, Kind: "Server", Name: h.pick("s0", "s1", "s2", "s3")}
	case 2:
		p.Spec.TargetRef = api.LocalTargetReference{Group: h.pick("", "core"), Kind: "Namespace", Name: c.namespace}
	case 3, 4:
		p.Spec.TargetRef = api.LocalTargetReference{Group: h.pick(api.Group, api.GatewayGroup), Kind: h.pick("HTTPRoute", "httproute"), Name: h.pick("r0", "R1")}
	default:
		p.Spec.TargetRef = api.LocalTargetReference{Group: api.GatewayGroup, Kind: "GRPCRoute", Name: h.pick("r0", "r1")}
	}
	p.Spec.RequiredAuthenticationRefs = []api.AuthenticationReference{}
	add := func(kind, name string) {
		ref := api.AuthenticationReference{Group: api.Group, Kind: kind, Name: name, Namespace: h.pick("", "", "a", "b")}
		if kind == "ServiceAccount" {
			ref.Group = ""
		}
		p.Spec.RequiredAuthenticationRefs = append(p.Spec.RequiredAuthenticationRefs, ref)
	}
	if h.once(2) {
		add("MeshTLSAuthentication", h.pick("m0", "m1"))
	} else if h.once(3) {
		add("ServiceAccount", "web")
	}
	if h.once(2) {
		add("NetworkAuthentication", h.pick("n0", "n1"))
	}
	c.object = p
	if c.bad = h.once(8); !c.bad {
		return
	}
	switch h.random.IntN(4) {
	case 0:
		p.Spec.RequiredAuthenticationRefs = nil
	case 1:
		p.Spec.TargetRef.Kind = "Service"
	case 2:
		add("NetworkAuthentication", "n0")
		add("NetworkAuthentication", "n0")
	default:
		add("Group", "g")
	}
}

func (h *history) meshTLS(c *change) {
	m := &api.MeshTLSAuthentication{ObjectMeta: h.meta(c, "MeshTLSAuthentication", "m", 2)}
	switch h.random.IntN(3) {
	case 0:
		m.Spec.Identities = []string{h.pick("*", "*.x.y", "me", "spiffe://x/y")}
	case 1:
		m.Spec.IdentityRefs = []api.IdentityReference{{Kind: "ServiceAccount", Name: h.pick("web", "db"), Namespace: h.pick("", "b")}}
	default:
		m.Spec.IdentityRefs = []api.IdentityReference{{Kind: "Namespace", Name: h.pick("a", "b")}}
	}
	if c.bad = h.once(6); c.bad {
		m.Spec = api.MeshTLSAuthenticationSpec{IdentityRefs: []api.IdentityReference{{Kind: h.pick("Namespace", "Group")}}}
	}
	c.object = m
}

func (h *history) networks(c *change) {
	n := &api.NetworkAuthentication{ObjectMeta: h.meta(c, "NetworkAuthentication", "n", 2)}
	n.Spec.Networks = []api.Network{{CIDR: h.pick("10.0.0.0/8", "10.9.0.0/16"), Except: []string{"10.9.9.0/24"}}}
	if c.bad = h.once(6); c.bad {
		n.Spec.Networks = []api.Network{{CIDR: "10.0.0.0/8", Except: []string{"nowhere"}}}
		if h.once(2) {
			n.Spec.Networks = nil
		}
	}
	c.object = n
}

// parents makes up to two parents and the status of some of them.
func (h *history) parents() (refs []api.ParentReference, status api.RouteStatus) {
	for range 1 + h.random.IntN(2) {
		ref := parentServer(h.pick("s0", "s1", "s2", "s3"))
		if h.once(6) {
			ref = api.ParentReference{Group: new(api.GatewayGroup), Kind: new("Gateway"), Name: "s0"}
		}
		refs = append(refs, ref)
		if h.once(6) {
			ref = parentServer("s0")
		}
		status.Parents = append(status.Parents, accept(ref, metav1.ConditionStatus(h.pick("True", "True", "True", "False"))))
	}
	if h.once(10) {
		status.Parents[0].ControllerName = "somebody/else"
	}
	return refs, status
}

func (h *history) httpRoute(c *change) {
	gateway := h.once(2)
	kind, group := "HTTPRoute", api.Group
	if gateway {
		kind, group = "GatewayHTTPRoute", api.GatewayGroup
	}
	r := &api.HTTPRoute{TypeMeta: metav1.TypeMeta{APIVersion: group + "/v1"}, ObjectMeta: h.meta(c, kind, "r", 2)}
	r.Spec.ParentRefs, r.Status = h.parents()
	if h.once(3) {
		r.Spec.Hostnames = []api.Hostname{api.Hostname(h.pick("a.example", "*.example"))}
	}
	for range h.random.IntN(3) {
		match := api.HTTPRouteMatch{Path: &api.HTTPPathMatch{Type: new(api.MatchExact), Value: new(h.pick("/a", "/b"))}}
		if h.once(3) {
			match.Headers = []api.HTTPValueMatch{{Name: "x", Value: "1"}}
			match.Method = new(api.HTTPMethod("GET"))
		}
		rule := api.HTTPRouteRule{Matches: []api.HTTPRouteMatch{match}}
		switch h.random.IntN(6) {
		case 0:
			rule.Filters = []api.HTTPRouteFilter{{Type: api.FilterRequestRedirect, RequestRedirect: &api.RequestRedirect{Hostname: new("h")}}}
		case 1:
			rule.Filters = []api.HTTPRouteFilter{{Type: api.FilterRequestHeaderModifier, RequestHeaderModifier: &api.HeaderModifier{Remove: []string{"x"}}}, {Type: api.FilterResponseHeaderModifier}}
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	c.object = r
	if c.bad = h.once(6); !c.bad {
		return
	}
	switch h.random.IntN(3) {
	case 0:
		r.Spec.Rules = []api.HTTPRouteRule{{Matches: []api.HTTPRouteMatch{{Path: &api.HTTPPathMatch{Type: new(api.MatchRegularExpression), Value: new("(")}}}}}
		c.instead = closedRoute{r}
	case 1:
		r.Spec.Rules = []api.HTTPRouteRule{{Filters: []api.HTTPRouteFilter{{Type: api.FilterType(h.pick("URLRewrite", "RequestMirror", "ExtensionRef"))}}}}
	default:
		ref := parentServer("s0")
		ref.SectionName = new("x")
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, ref)
	}
}

func (h *history) grpcRoute(c *change) {
	r := &api.GRPCRoute{ObjectMeta: h.meta(c, "GRPCRoute", "r", 2)}
	r.Spec.ParentRefs, r.Status = h.parents()
	for range h.random.IntN(3) {
		var rule api.GRPCRouteRule
		switch h.random.IntN(3) {
		case 0:
			rule.Matches = []api.GRPCRouteMatch{{Method: &api.GRPCMethodMatch{Service: new(h.pick("v1.A", "v1.B"))}}}
		case 1:
			rule.Matches = []api.GRPCRouteMatch{{Headers: []api.HTTPValueMatch{{Name: "x", Value: "1"}}}}
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	if c.bad = h.once(6); c.bad {
		if h.once(2) {
			r.Spec.Rules = []api.GRPCRouteRule{{Matches: []api.GRPCRouteMatch{{Method: &api.GRPCMethodMatch{Type: new(api.MatchRegularExpression), Service: new("a")}}}}}
			c.instead = closedRoute{r}
		} else {
			r.Spec.Rules = []api.GRPCRouteRule{{Filters: []api.GRPCRouteFilter{{Type: api.FilterRequestMirror}}}}
		}
	}
	c.object = r
}

func (h *history) limit(c *change) {
	l := &api.HTTPLocalRateLimitPolicy{ObjectMeta: h.meta(c, "HTTPLocalRateLimitPolicy", "l", 2)}
	l.Spec.TargetRef = api.LocalTargetReference{Group: api.Group, Kind: "Server", Name: h.pick("s0", "s1", "s2", "s3")}
	l.Spec.Total = &api.Limit{RequestsPerSecond: int64(10 + h.random.IntN(2))}
	l.Spec.Identity = &api.Limit{RequestsPerSecond: 5}
	if h.once(2) {
		l.Spec.Overrides = []api.LimitOverride{{RequestsPerSecond: 7, ClientRefs: []api.LimitClientReference{{Kind: "ServiceAccount", Name: h.pick("web", "db")}}}}
	}
	l.Status.TargetRef = new(l.Spec.TargetRef)
	if h.once(6) {
		l.Status.TargetRef.Name = "s0"
	}
	l.Status.Conditions = []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionStatus(h.pick("True", "True", "False"))}}
	if c.bad = h.once(6); c.bad {
		if h.once(2) {
			l.Spec.TargetRef.Kind = "Namespace"
		} else {
			l.Spec.Total.RequestsPerSecond = 0
			l.Spec.Overrides = nil
			left := *l
			left.Spec.Total = nil
			c.instead = &left
		}
	}
	c.object = l
}

// parentServer is a parent as it has to be written.
func parentServer(name string) api.ParentReference {
	return api.ParentReference{Group: new(api.Group), Kind: new(api.ServerKind), Name: name}
}

// accept is what the policy controller says about a parent.
func accept(ref api.ParentReference, status metav1.ConditionStatus) api.RouteParentStatus {
	return api.RouteParentStatus{ParentRef: ref, ControllerName: api.RouteControllerName, Conditions: []metav1.Condition{{Type: "Accepted", Status: status}}}
}
