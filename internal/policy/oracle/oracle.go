package oracle

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Oracle judges requests in one world. The zero value of Rules is useless; New
// fills it in.
type Oracle struct {
	World   World
	Dialect api.Dialect
	Rules   Rules
}

// New is an oracle that follows the rule book.
func New(world World, dialect api.Dialect) Oracle {
	return Oracle{World: world, Dialect: dialect, Rules: DefaultRules()}
}

// Policy is what holds for one port of one pod, whoever calls.
type Policy struct {
	// Unpoliced says that no policy applies, in which case the rest is empty.
	Unpoliced bool
	// Server that has the port, or the default server.
	Server   Label
	Protocol api.ProxyProtocol
	// Hinted: meshed clients take the port for opaque (T-36).
	Hinted bool
	// Grants of the Server, which open every route, localhost's included.
	Grants []Grant
	Routes []Route
	// Invalid says why the whole policy is (N-09); empty for one that is not.
	Invalid string
	Limit   *api.HTTPLocalRateLimitPolicy
	Port    uint16
	// Steps tell how all this was found.
	Steps []Step
}

// Judge is the whole: the policy of the port, and what it makes of the request.
func (o Oracle) Judge(pod *corev1.Pod, port uint16, client Client, request Request) Verdict {
	return o.Decide(o.Resolve(pod, port), client, request)
}

// namespace is the pod's, or nil when nothing is known of it.
func (o Oracle) namespace(pod *corev1.Pod) *corev1.Namespace {
	at := slices.IndexFunc(o.World.Namespaces, func(n *corev1.Namespace) bool { return n.Name == pod.Namespace })
	if at < 0 {
		return nil
	}
	return o.World.Namespaces[at]
}

// Resolve finds the policy of a port of the pod.
func (o Oracle) Resolve(pod *corev1.Pod, port uint16) Policy {
	p := Policy{Port: port}
	namespace := o.namespace(pod)
	enforced, why := o.Rules.Enforced(pod, namespace)
	note(&p.Steps, "pod", "D-21", enforced, "%s", why)
	if !enforced {
		p.Unpoliced = true
		return p
	}
	pod = o.asAskedFor(pod, port)
	if bypassed, why := o.Rules.Bypassed(pod, namespace, port); bypassed {
		note(&p.Steps, "pod", "D-19", false, "%s", why)
		p.Unpoliced = true
		return p
	}
	opaque, whyOpaque := o.Rules.OpaqueByDefault(pod, namespace, port, o.Dialect)
	if server := o.server(pod, port, &p.Steps); server != nil {
		o.resolveServer(&p, server)
	} else {
		o.resolveDefault(&p, pod, namespace, opaque)
	}
	if whyOpaque != "" {
		note(&p.Steps, "server", "D-15", opaque, "%s", whyOpaque)
	}
	p.Hinted = o.Rules.HintsOpaque(opaque, p.Protocol)
	o.addProbes(&p, pod)
	p.Grants = append(p.Grants, o.Rules.Localhost())
	return p
}

// resolveServer is 5.1 to 5.4 for a port that a Server has.
func (o Oracle) resolveServer(p *Policy, server *api.Server) {
	p.Server = Label{Group: api.Group, Kind: "server", Name: server.Name}
	p.Protocol = cmp.Or(server.Spec.ProxyProtocol, api.ProtocolUnknown)
	note(&p.Steps, "server", "C-07", true, "its protocol is %s", p.Protocol)
	p.Grants = o.serverGrants(server)
	p.Routes, p.Invalid = o.routes(server, p.Protocol, &p.Steps)
	p.Limit = o.limit(server, p.Protocol, &p.Steps)
	if access := o.Rules.AccessPolicy(server); access != api.Deny {
		note(&p.Steps, "server", "X-12", true, "its accessPolicy is %s", access)
	}
}

// resolveDefault is X-10.
func (o Oracle) resolveDefault(p *Policy, pod *corev1.Pod, namespace *corev1.Namespace, opaque bool) {
	policy, why := o.Rules.DefaultPolicy(o.World.Settings, pod, namespace, o.Dialect)
	note(&p.Steps, "default", "X-10", true, "no Server has the port; the default policy is %s", why)
	if twin := o.Rules.RequireIdentity(policy, pod, p.Port); twin != policy {
		note(&p.Steps, "default", "D-18", true, "an identity is required on the port: %s", twin)
		policy = twin
	}
	p.Server = Label{Kind: "default", Name: string(policy)}
	p.Protocol = api.ProtocolUnknown
	if opaque {
		p.Protocol = api.ProtocolOpaque
	}
	if grant, any := o.Rules.BuiltIn(policy, o.World.Settings); any {
		p.Grants = append(p.Grants, grant)
	}
}

// addProbes adds the routes that nobody wrote: the default one, and the
// one for probes (P-06).
func (o Oracle) addProbes(p *Policy, pod *corev1.Pod) {
	if p.Protocol == api.ProtocolOpaque || p.Protocol == api.ProtocolTLS {
		return
	}
	written := len(p.Routes)
	if o.Rules.RoutesReplace(written) {
		note(&p.Steps, "route", "X-53", true, "the Server's own routes alone are served, %d of them", written)
	} else {
		route := Route{Label: Label{Kind: "default", Name: "default"}, Any: true}
		if p.Protocol == api.ProtocolGRPC {
			route.GRPC = []api.GRPCRouteRule{}
		}
		p.Routes = append(p.Routes, route)
	}
	paths := o.probePaths(pod, p.Port)
	if len(paths) == 0 {
		return
	}
	granted, why := o.Rules.ProbesGranted(p.Server.Kind == "server", p.Protocol, written, o.World.Settings, o.Dialect)
	if !granted {
		note(&p.Steps, "route", "P-06", false, "probes of %v are not let in by themselves: %s", paths, why)
		return
	}
	note(&p.Steps, "route", "P-04", true, "probes of %v are let in", paths)
	p.Routes = append(p.Routes, o.probeRoute(paths))
}

// Decide is 7 to 10: what becomes of a client's request under the policy.
func (o Oracle) Decide(p Policy, client Client, request Request) Verdict {
	return o.decide(p, client, request, p.Protocol, func(session Session) (Course, string) { return o.course(p, request, session) })
}

// DecideOn is what may become of a request whose connection the proxy took while the
// port had another policy: what that said of TLS, and perhaps of what is spoken, has
// happened already, and the policy of now decides (T-20, H-11, L-08).
func (o Oracle) DecideOn(taken, p Policy, client Client, request Request) []Verdict {
	if taken.Unpoliced || p.Unpoliced || client.Way == Meshed || request.Announced != "" {
		return []Verdict{o.Decide(p, client, request)} // the transport header is read under any policy
	}
	verdicts := []Verdict{o.decide(p, client, request, taken.Protocol, func(session Session) (Course, string) {
		course, rule := o.course(taken, request, session)
		return outlived(course, rule, p.Protocol)
	})}
	if taken.Protocol != api.ProtocolOpaque { // nothing is looked for where nothing was
		verdicts = append(verdicts, o.decide(p, client, request, taken.Protocol, func(session Session) (Course, string) { return o.course(p, request, session) }))
	}
	return verdicts
}

// decide is Decide for a connection that was taken as one to a port of that protocol,
// and of which becomes what course says.
func (o Oracle) decide(p Policy, client Client, request Request, taken api.ProxyProtocol, course func(Session) (Course, string)) Verdict {
	v := Verdict{Server: p.Server, Steps: slices.Clone(p.Steps)}
	request = filledIn(request)
	if p.Unpoliced {
		return v.end("D-21", Unpoliced, "nothing decides: it is delivered")
	}
	client = o.Rules.OwnCall(client)
	if client.Way == Meshed && p.Port == api.AdminPort {
		client.Way = MeshedDirect // T-30
	}
	if request.Announced != "" {
		switch client = o.Rules.DirectClient(client); client.Way {
		case Plain:
			return v.end("T-31", Closed, "on its own port the proxy takes mesh TLS with an identity only")
		case ForeignRoot:
			return v.end("I-02", HandshakeFailed, "the client's certificate is of another trust root")
		}
	}
	if o.Rules.HandshakeFails(client, taken) {
		return v.end("I-02", HandshakeFailed, "the client's certificate is of another trust root")
	}
	session := o.Rules.SessionOf(client, taken)
	v.TLS = tlsLabel(session, taken)
	address := o.Rules.ClientAddress(client.Address)
	made, rule := course(session)
	v.Course, v.CourseRule = made, rule
	note(&v.Steps, "connection", rule, made == AsHTTP || made == AsTCP, "%s", courseText(made, p.Protocol, session))
	switch made {
	case Refuse:
		return v.end("N-08", Closed, "the connection is closed")
	case Mismatch:
		return v.end(rule, ProtocolError, "the client speaks %s, and the port %s", request.Protocol, p.Protocol)
	case Nowhere:
		outcome := o.Rules.NotFoundForm(request)
		return v.end(rule, outcome, "there are no routes on such a port")
	}
	if p.Invalid != "" {
		v.Server = Label{Group: v.Server.Group, Kind: v.Server.Kind, Name: "invalid"}
		return v.end("N-09", o.Rules.DenialForm(asSpoken(request, made)), "the policy is invalid, and grants nothing: %s", p.Invalid)
	}
	if made == AsTCP {
		return o.decideTCP(p, v, request, address, session)
	}
	return o.decideHTTP(p, v, request, client, address, session)
}
