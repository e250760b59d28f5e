package inbound

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	metapb "github.com/linkerd/linkerd2-proxy-api/go/meta"
	netpb "github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// Message is a snapshot as proxies are told it. It is shared and never changed.
type Message struct {
	Server *inboundpb.Server
	// Encoded is the deterministic encoding, which is what is sent.
	Encoded []byte
	// Hash is the hexadecimal SHA-256 of Encoded: the proxy computes the same over
	// what it holds, the revision aside, which is how a write is known to be in force.
	Hash string
}

// MessageOf encodes a snapshot, at most once however often it is asked.
func MessageOf(snapshot *index.Snapshot) *Message { return snapshot.Derive(encode).(*Message) }

func encode(server *index.InboundServer) any {
	message := &Message{Server: toProto(server)}
	var err error
	if message.Encoded, err = (proto.MarshalOptions{Deterministic: true}).Marshal(message.Server); err != nil {
		// Only invalid UTF-8 can bring this about, and names from the API server
		// are valid.
		panic(fmt.Sprintf("encode policy of %v: %v", server.Reference, err))
	}
	sum := sha256.Sum256(message.Encoded)
	message.Hash = hex.EncodeToString(sum[:])
	return message
}

// told is a message with what it is of, as it is sent.
type told struct {
	*Message
	// revision is the encoding of one more label; nil for none.
	revision []byte
}

func tell(p *index.Published) told {
	t := told{Message: MessageOf(p.Snapshot)}
	if p.Stamp != nil {
		t.revision = p.Stamp.Derive(encodeRevision).([]byte)
	}
	return t
}

// labelsField, keyField and valueField are the numbers of Server.labels, a map, and
// of what its entries hold.
const (
	labelsField protowire.Number = 4
	keyField    protowire.Number = 1
	valueField  protowire.Number = 2
)

// encodeRevision makes what, put behind the encoding of a Server, gives it one label
// more: what is repeated, as entries of a map are, may stand anywhere. So a new
// revision costs no new encoding of a policy, and its hash is that of the policy.
func encodeRevision(r revision.Revision) any {
	var entry []byte
	for number, text := range []string{keyField: revision.Label, valueField: r.String()} {
		if number > 0 {
			entry = protowire.AppendTag(entry, protowire.Number(number), protowire.BytesType)
			entry = protowire.AppendString(entry, text)
		}
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, labelsField, protowire.BytesType), entry)
}

func toProto(server *index.InboundServer) *inboundpb.Server {
	return &inboundpb.Server{
		Protocol:       protocol(server),
		Authorizations: authorizations(server.Authorizations),
		Labels:         labels(server.Reference),
	}
}

func protocol(server *index.InboundServer) *inboundpb.ProxyProtocol {
	limit := rateLimit(server.RateLimit)
	switch server.Protocol.Kind {
	case index.Detect:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Detect_{Detect: &inboundpb.ProxyProtocol_Detect{
			Timeout: durationpb.New(server.Protocol.DetectTimeout), HttpRoutes: httpRoutes(server.HTTPRoutes), HttpLocalRateLimit: limit,
		}}}
	case index.HTTP1:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Http1_{Http1: &inboundpb.ProxyProtocol_Http1{
			Routes: httpRoutes(server.HTTPRoutes), LocalRateLimit: limit,
		}}}
	case index.HTTP2:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Http2_{Http2: &inboundpb.ProxyProtocol_Http2{
			Routes: httpRoutes(server.HTTPRoutes), LocalRateLimit: limit,
		}}}
	case index.GRPC:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Grpc_{Grpc: &inboundpb.ProxyProtocol_Grpc{Routes: grpcRoutes(server.GRPCRoutes)}}}
	case index.Opaque:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Opaque_{Opaque: &inboundpb.ProxyProtocol_Opaque{}}}
	case index.TLS:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Tls_{Tls: &inboundpb.ProxyProtocol_Tls{}}}
	default:
		// A protocol without a row here is a mistake in this program; a message
		// without a protocol is one that proxies refuse, which fails closed.
		return nil
	}
}

func authorizations(list []index.Authorization) []*inboundpb.Authz {
	out := make([]*inboundpb.Authz, len(list))
	for i, a := range list {
		out[i] = &inboundpb.Authz{
			Networks:       networks(a.Networks),
			Authentication: authentication(a.Authentication),
			Labels:         labels(a.Reference),
			Metadata:       metadata(a.Reference),
		}
	}
	return out
}

func authentication(a index.Authentication) *inboundpb.Authn {
	meshTLS := func(clients *inboundpb.Authn_PermitMeshTLS) *inboundpb.Authn {
		return &inboundpb.Authn{Permit: &inboundpb.Authn_MeshTLS{MeshTLS: clients}}
	}
	switch a.Kind {
	case index.Unauthenticated:
		return &inboundpb.Authn{Permit: &inboundpb.Authn_Unauthenticated{Unauthenticated: &inboundpb.Authn_PermitUnauthenticated{}}}
	case index.TLSUnauthenticated:
		return meshTLS(&inboundpb.Authn_PermitMeshTLS{Clients: &inboundpb.Authn_PermitMeshTLS_Unauthenticated{Unauthenticated: &inboundpb.Authn_PermitUnauthenticated{}}})
	default:
		clients := &inboundpb.Authn_PermitMeshTLS_PermitClientIdentities{}
		for _, name := range a.Identities {
			clients.Identities = append(clients.Identities, &inboundpb.Identity{Name: name})
		}
		for _, parts := range a.Suffixes {
			clients.Suffixes = append(clients.Suffixes, &inboundpb.IdentitySuffix{Parts: parts})
		}
		return meshTLS(&inboundpb.Authn_PermitMeshTLS{Clients: &inboundpb.Authn_PermitMeshTLS_Identities{Identities: clients}})
	}
}

// labels are the older form of metadata, and the only one that servers have.
func labels(r index.Reference) map[string]string {
	group, kind := r.Kind.GroupKind()
	return map[string]string{"group": group, "kind": kind, "name": r.Name}
}

func metadata(r index.Reference) *metapb.Metadata {
	group, kind := r.Kind.GroupKind()
	if r.Kind == index.Default {
		return &metapb.Metadata{Kind: &metapb.Metadata_Default{Default: r.Name}}
	}
	return &metapb.Metadata{Kind: &metapb.Metadata_Resource{Resource: &metapb.Resource{Group: group, Kind: kind, Name: r.Name}}}
}

func networks(list []index.Network) []*inboundpb.Network {
	out := make([]*inboundpb.Network, len(list))
	for i, n := range list {
		out[i] = &inboundpb.Network{Net: ipNetwork(n.Prefix)}
		for _, except := range n.Except {
			out[i].Except = append(out[i].Except, ipNetwork(except))
		}
	}
	return out
}

// ipNetwork writes addresses as big-endian numbers (W-11).
func ipNetwork(prefix netip.Prefix) *netpb.IPNetwork {
	out := &netpb.IPNetwork{PrefixLen: uint32(prefix.Bits())}
	if prefix.Addr().Is4() {
		four := prefix.Addr().As4()
		out.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: binary.BigEndian.Uint32(four[:])}}
		return out
	}
	sixteen := prefix.Addr().As16()
	out.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{
		First: binary.BigEndian.Uint64(sixteen[:8]), Last: binary.BigEndian.Uint64(sixteen[8:]),
	}}}
	return out
}
