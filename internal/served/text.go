package served

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	netpb "github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/encoding/protojson"
)

// shortHash is as much of a hash as people compare.
const shortHash = 10

// Write prints the answer for people.
func (a Answer) Write(w io.Writer) error {
	var server inboundpb.Server
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(a.Server, &server); err != nil {
		return fmt.Errorf("read the policy of %s port %d: %w", a.Pod, a.Port, err)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "pod\t%s, port %d\n", a.Pod, a.Port)
	fmt.Fprintf(out, "server\t%s\n", named(server.GetLabels()))
	protocol, routes, limit := protocolOf(server.GetProtocol())
	fmt.Fprintf(out, "protocol\t%s\n", protocol)
	fmt.Fprintf(out, "enforced\t%s\n", a.enforcement())
	for i, c := range a.Controllers {
		head := ""
		if i == 0 {
			head = "served by"
		}
		fmt.Fprintf(out, "%s\t%s%s\n", head, c.Pod, disagreement(c.Hash, a.Hash))
	}
	fmt.Fprintf(out, "\nauthorizations of the server, which open every route\n")
	writeAuthorizations(out, "  ", server.GetAuthorizations())
	if routes != nil {
		fmt.Fprintf(out, "\nroutes, in their order; what none of them matches is not found\n")
		for _, r := range routes {
			r.write(out)
		}
	}
	if limit != nil {
		fmt.Fprintf(out, "\nrate limit %s\n", metadataName(limit.GetMetadata()))
		writeLimit(out, limit)
	}
	return out.Flush()
}

func (a Answer) enforcement() string {
	switch {
	case a.Enforced:
		return fmt.Sprintf("yes, policy %s is in force in the pod's proxy", short(a.Hash))
	case a.Proxy.Error != "":
		return "unknown, the pod's proxy could not be asked: " + a.Proxy.Error
	case a.Proxy.Hash == "":
		return fmt.Sprintf("no, the pod's proxy has been told no policy yet; policy %s is served", short(a.Hash))
	default:
		return fmt.Sprintf("no, policy %s (%s) is in force in the pod's proxy, and policy %s is served", short(a.Proxy.Hash), a.Proxy.Server, short(a.Hash))
	}
}

func disagreement(own, served string) string {
	if own == served {
		return ""
	}
	return ", which serves policy " + short(own) + " instead"
}

func short(hash string) string { return hash[:min(len(hash), shortHash)] }

func named(labels map[string]string) string {
	name := labels["kind"] + "/" + labels["name"]
	if group := labels["group"]; group != "" {
		name += " of " + group
	}
	return name
}

// line is a route of either kind, as text.
type line struct {
	name, hosts    string
	rules          []string
	authorizations []*inboundpb.Authz
}

func (l line) write(out io.Writer) {
	fmt.Fprintf(out, "  %s\n", l.name)
	if l.hosts != "" {
		fmt.Fprintf(out, "    hosts\t%s\n", l.hosts)
	}
	for _, rule := range l.rules {
		fmt.Fprintf(out, "    matches\t%s\n", rule)
	}
	if len(l.rules) == 0 {
		fmt.Fprintf(out, "    matches\tnothing\n")
	}
	if len(l.authorizations) > 0 {
		writeAuthorizations(out, "    ", l.authorizations)
	}
}

// protocolOf is the protocol in words, its routes and its limit. Routes are nil
// where there can be none.
func protocolOf(p *inboundpb.ProxyProtocol) (name string, routes []line, limit *inboundpb.HttpLocalRateLimit) {
	switch kind := p.GetKind().(type) {
	case *inboundpb.ProxyProtocol_Detect_:
		return fmt.Sprintf("detected, within %s", kind.Detect.GetTimeout().AsDuration()), httpLines(kind.Detect.GetHttpRoutes()), kind.Detect.GetHttpLocalRateLimit()
	case *inboundpb.ProxyProtocol_Http1_:
		return "HTTP/1", httpLines(kind.Http1.GetRoutes()), kind.Http1.GetLocalRateLimit()
	case *inboundpb.ProxyProtocol_Http2_:
		return "HTTP/2", httpLines(kind.Http2.GetRoutes()), kind.Http2.GetLocalRateLimit()
	case *inboundpb.ProxyProtocol_Grpc_:
		return "gRPC", grpcLines(kind.Grpc.GetRoutes()), nil
	case *inboundpb.ProxyProtocol_Opaque_:
		return "opaque: nothing is looked into", nil, nil
	case *inboundpb.ProxyProtocol_Tls_:
		return "TLS", nil, nil
	default:
		return "none: proxies refuse such a policy", nil, nil
	}
}

func writeAuthorizations(out io.Writer, indent string, all []*inboundpb.Authz) {
	if len(all) == 0 {
		fmt.Fprintf(out, "%snone: only localhost is admitted\n", indent)
	}
	for _, a := range all {
		fmt.Fprintf(out, "%s%s\t%s\tfrom %s\n", indent, strings.TrimSuffix(named(a.GetLabels()), " of policy.linkerd.io"), clients(a.GetAuthentication()), networks(a.GetNetworks()))
	}
}

// clients says whom an authorization admits.
func clients(a *inboundpb.Authn) string {
	switch permit := a.GetPermit().(type) {
	case *inboundpb.Authn_Unauthenticated:
		return "anybody"
	case *inboundpb.Authn_MeshTLS:
		switch who := permit.MeshTLS.GetClients().(type) {
		case *inboundpb.Authn_PermitMeshTLS_Unauthenticated:
			return "anybody over mesh TLS"
		case *inboundpb.Authn_PermitMeshTLS_Identities:
			var names []string
			for _, identity := range who.Identities.GetIdentities() {
				names = append(names, identity.GetName())
			}
			for _, suffix := range who.Identities.GetSuffixes() {
				if len(suffix.GetParts()) == 0 {
					names = append(names, "any identity")
				} else {
					names = append(names, "*."+strings.Join(suffix.GetParts(), "."))
				}
			}
			if len(names) > 0 {
				return strings.Join(names, ", ")
			}
		}
	}
	return "nobody"
}

func networks(all []*inboundpb.Network) string {
	var texts []string
	for _, n := range all {
		text := prefix(n.GetNet())
		for i, except := range n.GetExcept() {
			text += []string{" without ", " and "}[min(i, 1)] + prefix(except)
		}
		texts = append(texts, text)
	}
	switch text := strings.Join(texts, ", "); text {
	case "0.0.0.0/0, ::/0":
		return "anywhere"
	case "":
		return "nowhere"
	default:
		return text
	}
}

// prefix reads addresses, which are numbers in network order (W-11).
func prefix(n *netpb.IPNetwork) string {
	var address netip.Addr
	switch ip := n.GetIp().GetIp().(type) {
	case *netpb.IPAddress_Ipv4:
		var four [4]byte
		binary.BigEndian.PutUint32(four[:], ip.Ipv4)
		address = netip.AddrFrom4(four)
	case *netpb.IPAddress_Ipv6:
		var sixteen [16]byte
		binary.BigEndian.PutUint64(sixteen[:8], ip.Ipv6.GetFirst())
		binary.BigEndian.PutUint64(sixteen[8:], ip.Ipv6.GetLast())
		address = netip.AddrFrom16(sixteen)
	}
	return netip.PrefixFrom(address, int(n.GetPrefixLen())).String()
}

func writeLimit(out io.Writer, limit *inboundpb.HttpLocalRateLimit) {
	if total := limit.GetTotal(); total != nil {
		fmt.Fprintf(out, "  all requests\t%d per second\n", total.GetRequestsPerSecond())
	}
	if each := limit.GetIdentity(); each != nil {
		fmt.Fprintf(out, "  each identity\t%d per second\n", each.GetRequestsPerSecond())
	}
	for _, override := range limit.GetOverrides() {
		var names []string
		for _, identity := range override.GetClients().GetIdentities() {
			names = append(names, identity.GetName())
		}
		fmt.Fprintf(out, "  %s together\t%d per second\n", strings.Join(names, ", "), override.GetLimit().GetRequestsPerSecond())
	}
}
