package objects

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// refusals is what the admission webhook would refuse the object for: the rules
// of section 2, each in a function of its own, one object at a time.
func refusals(object any) []finding {
	switch o := object.(type) {
	case *api.Server:
		return refuseServer(o)
	case *api.ServerAuthorization:
		return refuseServerAuthorization(o)
	case *api.AuthorizationPolicy:
		return refuseAuthorizationPolicy(o)
	case *api.MeshTLSAuthentication:
		return refuseMeshTLSAuthentication(o)
	case *api.NetworkAuthentication:
		if len(o.Spec.Networks) == 0 {
			return []finding{{"spec.networks", "A-22: there is no network"}}
		}
		return refuseNetworks("A-22", "spec.networks", o.Spec.Networks)
	case *api.HTTPLocalRateLimitPolicy:
		return refuseRateLimit(o)
	case *api.HTTPRoute:
		return refuseHTTPRoute(o)
	case *api.GRPCRoute:
		return refuseGRPCRoute(o)
	}
	return nil
}

func refuse(path, rule, format string, args ...any) finding {
	return finding{path, rule + ": " + fmt.Sprintf(format, args...)}
}

// refuseServer is.
func refuseServer(s *api.Server) (found []finding) {
	if p := s.Spec.AccessPolicy; p != "" && !p.Valid() {
		found = append(found, refuse("spec.accessPolicy", "A-19", "%q is none of %v", p, api.PolicyNames()))
	}
	if p := s.Spec.ProxyProtocol; p != "" && !p.Valid() {
		found = append(found, refuse("spec.proxyProtocol", "A-20", "%q is none of %v", p, api.ProxyProtocols()))
	}
	if s.Spec.PodSelector == nil && s.Spec.ExternalWorkloadSelector == nil {
		found = append(found, refuse("spec", "A-21", "there is no selector"))
	}
	return found
}

// refuseServerAuthorization is.
func refuseServerAuthorization(a *api.ServerAuthorization) (found []finding) {
	client := a.Spec.Client
	if client.Unauthenticated && client.MeshTLS != nil {
		found = append(found, refuse("spec.client.unauthenticated", "A-23", "unauthenticated and meshTLS exclude each other"))
	}
	if tls := client.MeshTLS; tls != nil && tls.UnauthenticatedTLS && len(tls.Identities)+len(tls.ServiceAccounts) > 0 {
		found = append(found, refuse("spec.client.meshTLS.unauthenticatedTLS", "A-24", "unauthenticatedTLS excludes identities and serviceAccounts"))
	}
	return append(found, refuseNetworks("A-25", "spec.client.networks", client.Networks)...)
}

// refuseNetworks is A-22's rule about each network.
func refuseNetworks(rule, path string, networks []api.Network) (found []finding) {
	for i, n := range networks {
		at := fmt.Sprintf("%s[%d]", path, i)
		within, err := prefixOf(n.CIDR)
		if err != nil {
			found = append(found, refuse(at+".cidr", rule, "%q is neither a network nor an address", n.CIDR))
			continue
		}
		for j, text := range n.Except {
			at := fmt.Sprintf("%s.except[%d]", at, j)
			except, err := prefixOf(text)
			switch {
			case err != nil:
				found = append(found, refuse(at, rule, "%q is neither a network nor an address", text))
			case !within.Contains(except.Addr()) && !except.Contains(within.Addr()):
				found = append(found, refuse(at, rule, "%s lies outside %s", text, n.CIDR))
			case except.Bits() <= within.Bits():
				found = append(found, refuse(at, rule, "%s leaves nothing of %s", text, n.CIDR))
			}
		}
	}
	return found
}

func prefixOf(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

func core(group string) bool { return group == "" || strings.EqualFold(group, "core") }

func is(group, kind, wantGroup, wantKind string) bool {
	same := strings.EqualFold(group, wantGroup) || wantGroup == "" && core(group)
	return same && strings.EqualFold(kind, wantKind)
}

// refuseAuthorizationPolicy is; the schema asks for the list.
func refuseAuthorizationPolicy(p *api.AuthorizationPolicy) (found []finding) {
	t := p.Spec.TargetRef
	namespace := is(t.Group, t.Kind, "", api.NamespaceKind)
	switch {
	case namespace && t.Name != p.Namespace:
		found = append(found, refuse("spec.targetRef.name", "A-09", "the target is namespace %s, and the policy is in %s", t.Name, p.Namespace))
	case namespace, is(t.Group, t.Kind, api.Group, api.ServerKind), is(t.Group, t.Kind, api.Group, api.HTTPRouteKind),
		is(t.Group, t.Kind, api.GatewayGroup, api.HTTPRouteKind), is(t.Group, t.Kind, api.GatewayGroup, api.GRPCRouteKind):
	default:
		found = append(found, refuse("spec.targetRef.kind", "A-08", "%s of group %q cannot be a target: want Server or HTTPRoute of %s, HTTPRoute or GRPCRoute of %s, or Namespace", t.Kind, t.Group, api.Group, api.GatewayGroup))
	}
	var mesh, account, network int
	for i, ref := range p.Spec.RequiredAuthenticationRefs {
		switch at := fmt.Sprintf("spec.requiredAuthenticationRefs[%d]", i); {
		case is(ref.Group, ref.Kind, api.Group, api.MeshTLSAuthenticationKind):
			mesh++
		case is(ref.Group, ref.Kind, api.Group, api.NetworkAuthenticationKind):
			network++
		case is(ref.Group, ref.Kind, "", api.ServiceAccountKind):
			account++
		default:
			found = append(found, refuse(at+".kind", "A-14", "%s of group %q is no authentication: want MeshTLSAuthentication or NetworkAuthentication of %s, or ServiceAccount", ref.Kind, ref.Group, api.Group))
		}
	}
	at := "spec.requiredAuthenticationRefs"
	if mesh > 1 {
		found = append(found, refuse(at, "A-10", "there is more than one MeshTLSAuthentication"))
	}
	if account > 1 {
		found = append(found, refuse(at, "A-11", "there is more than one ServiceAccount"))
	}
	if mesh > 0 && account > 0 {
		found = append(found, refuse(at, "A-12", "a MeshTLSAuthentication and a ServiceAccount exclude each other"))
	}
	if network > 1 {
		found = append(found, refuse(at, "A-13", "there is more than one NetworkAuthentication"))
	}
	return found
}

// refuseMeshTLSAuthentication is; the schema has A-18.
func refuseMeshTLSAuthentication(a *api.MeshTLSAuthentication) (found []finding) {
	for i, identity := range a.Spec.Identities {
		if !dnsIdentity(identity) && !spiffeIdentity(identity) {
			found = append(found, refuse(fmt.Sprintf("spec.identities[%d]", i), "A-16", "%q is neither a DNS name nor a SPIFFE ID", identity))
		}
	}
	for i, ref := range a.Spec.IdentityRefs {
		at := fmt.Sprintf("spec.identityRefs[%d]", i)
		namespace := is(ref.Group, ref.Kind, "", api.NamespaceKind)
		switch {
		case !namespace && !is(ref.Group, ref.Kind, "", api.ServiceAccountKind):
			found = append(found, refuse(at+".kind", "A-17", "%s of group %q is neither ServiceAccount nor Namespace", ref.Kind, ref.Group))
		case namespace && ref.Namespace != "":
			found = append(found, refuse(at+".namespace", "A-17", "a Namespace is in no namespace"))
		case ref.Name == "":
			found = append(found, refuse(at, "C-20", "a reference needs a name"))
		}
	}
	return found
}

var (
	dnsForm    = regexp.MustCompile(`^(\*|[^.*/: ]+)(\.[^.*/: ]+)*$`)
	spiffeForm = regexp.MustCompile(`^spiffe://[a-z0-9._-]+(/[^/?#]+)*$`)
)

// dnsIdentity and spiffeIdentity are the two forms of A-16.
func dnsIdentity(text string) bool { return dnsForm.MatchString(text) }

func spiffeIdentity(text string) bool {
	if !spiffeForm.MatchString(text) {
		return false
	}
	for _, segment := range strings.Split(strings.TrimPrefix(text, "spiffe://"), "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// refuseRateLimit is A-31.
func refuseRateLimit(p *api.HTTPLocalRateLimitPolicy) (found []finding) {
	if t := p.Spec.TargetRef; !is(t.Group, t.Kind, api.Group, api.ServerKind) {
		found = append(found, refuse("spec.targetRef.kind", "A-31", "%s of group %q is no Server of %s", t.Kind, t.Group, api.Group))
	}
	total := int64(-1)
	if p.Spec.Total != nil {
		total = p.Spec.Total.RequestsPerSecond
		found = append(found, refuseRate("spec.total", total, -1)...)
	}
	if p.Spec.Identity != nil {
		found = append(found, refuseRate("spec.identity", p.Spec.Identity.RequestsPerSecond, total)...)
	}
	for i, override := range p.Spec.Overrides {
		at := fmt.Sprintf("spec.overrides[%d]", i)
		found = append(found, refuseRate(at, override.RequestsPerSecond, total)...)
		for j, ref := range override.ClientRefs {
			if !is(ref.Group, ref.Kind, "", api.ServiceAccountKind) {
				found = append(found, refuse(fmt.Sprintf("%s.clientRefs[%d].kind", at, j), "A-31", "%s of group %q is no ServiceAccount", ref.Kind, ref.Group))
			}
		}
	}
	return found
}

func refuseRate(at string, rate, total int64) (found []finding) {
	at += ".requestsPerSecond"
	if rate <= 0 {
		found = append(found, refuse(at, "A-31", "%d requests per second are none", rate))
	}
	if total >= 0 && rate > total {
		found = append(found, refuse(at, "A-31", "%d exceeds the total of %d", rate, total))
	}
	return found
}

// refuseHTTPRoute is, without what concerns EgressNetworks.
func refuseHTTPRoute(r *api.HTTPRoute) (found []finding) {
	for i, rule := range r.Spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		for j, m := range rule.Matches {
			at := fmt.Sprintf("%s.matches[%d]", at, j)
			if m.Path != nil && m.Path.Value != nil {
				expression := m.Path.Type != nil && *m.Path.Type == api.MatchRegularExpression
				switch {
				case expression && !compiles(*m.Path.Value):
					found = append(found, refuse(at+".path.value", "A-27", "%q is no regular expression", *m.Path.Value))
				case !expression && !strings.HasPrefix(*m.Path.Value, "/"):
					found = append(found, refuse(at+".path.value", "A-27", "%q does not begin with /", *m.Path.Value))
				}
			}
			found = append(found, refuseValues(at+".headers", m.Headers, true)...)
			found = append(found, refuseValues(at+".queryParams", m.QueryParams, false)...)
		}
		for j, f := range rule.Filters {
			at := fmt.Sprintf("%s.filters[%d]", at, j)
			found = append(found, refuseHeaders(at+".requestHeaderModifier", f.RequestHeaderModifier)...)
			found = append(found, refuseHeaders(at+".responseHeaderModifier", f.ResponseHeaderModifier)...)
			if f.RequestRedirect != nil && f.RequestRedirect.Path != nil {
				for _, path := range []*string{f.RequestRedirect.Path.ReplaceFullPath, f.RequestRedirect.Path.ReplacePrefixMatch} {
					if path != nil && !strings.HasPrefix(*path, "/") {
						found = append(found, refuse(at+".requestRedirect.path", "A-27", "%q is no absolute path", *path))
					}
				}
			}
		}
		for j, b := range rule.BackendRefs {
			if groupIs(r.APIVersion, api.GatewayGroup) && isService(b.BackendReference) && b.Port == nil {
				found = append(found, refuse(fmt.Sprintf("%s.backendRefs[%d]", at, j), "A-28", "Service %s needs a port", b.Name))
			}
		}
		found = append(found, refuseTimeouts(at+".timeouts", rule.Timeouts)...)
	}
	return found
}

func groupIs(apiVersion, group string) bool { return strings.HasPrefix(apiVersion, group+"/") }

func isService(b api.BackendReference) bool {
	return (b.Kind == nil || *b.Kind == "Service") && (b.Group == nil || core(*b.Group))
}

func compiles(expression string) bool {
	_, err := regexp.Compile(expression)
	return err == nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func refuseValues(path string, matches []api.HTTPValueMatch, header bool) (found []finding) {
	for i, m := range matches {
		at := fmt.Sprintf("%s[%d]", path, i)
		if header && !headerName.MatchString(m.Name) {
			found = append(found, refuse(at+".name", "A-27", "%q is no header's name", m.Name))
		}
		if m.Type != nil && *m.Type == api.MatchRegularExpression && !compiles(m.Value) {
			found = append(found, refuse(at+".value", "A-27", "%q is no regular expression", m.Value))
		}
	}
	return found
}

func refuseHeaders(path string, m *api.HeaderModifier) (found []finding) {
	if m == nil {
		return nil
	}
	names := append([]string{}, m.Remove...)
	for _, h := range append(append([]api.HTTPHeader{}, m.Set...), m.Add...) {
		names = append(names, h.Name)
		if strings.ContainsAny(h.Value, "\r\n\x00") {
			found = append(found, refuse(path, "A-27", "the value of header %s holds a line break", h.Name))
		}
	}
	for _, name := range names {
		if !headerName.MatchString(name) {
			found = append(found, refuse(path, "A-27", "%q is no header's name", name))
		}
	}
	return found
}

func refuseTimeouts(path string, t *api.HTTPRouteTimeouts) (found []finding) {
	if t == nil {
		return nil
	}
	read := func(name string, text *string) (d time.Duration) {
		if text == nil {
			return 0
		}
		d, err := time.ParseDuration(*text)
		if err != nil || d < 0 {
			found = append(found, refuse(path+"."+name, "A-27", "%q is no time-out", *text))
		}
		return d
	}
	request, backend := read("request", t.Request), read("backendRequest", t.BackendRequest)
	if request > 0 && backend > request {
		found = append(found, refuse(path+".backendRequest", "A-27", "%s exceeds the request's %s", backend, request))
	}
	return found
}

// refuseGRPCRoute is A-29, without what concerns EgressNetworks.
func refuseGRPCRoute(r *api.GRPCRoute) (found []finding) {
	for i, rule := range r.Spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		for j, m := range rule.Matches {
			if m.Method != nil && m.Method.Type != nil && *m.Method.Type == api.MatchRegularExpression {
				found = append(found, refuse(fmt.Sprintf("%s.matches[%d].method.type", at, j), "A-29", "methods are not matched by regular expressions"))
			}
		}
		for j, f := range rule.Filters {
			found = append(found, refuseHeaders(fmt.Sprintf("%s.filters[%d].requestHeaderModifier", at, j), f.RequestHeaderModifier)...)
			found = append(found, refuseHeaders(fmt.Sprintf("%s.filters[%d].responseHeaderModifier", at, j), f.ResponseHeaderModifier)...)
		}
		for j, b := range rule.BackendRefs {
			if isService(b.BackendReference) && b.Port == nil {
				found = append(found, refuse(fmt.Sprintf("%s.backendRefs[%d]", at, j), "A-29", "Service %s needs a port", b.Name))
			}
		}
	}
	return found
}
