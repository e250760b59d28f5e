package policy

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy/policytest"
)

// FuzzMessage: whatever is sent as a policy, reading it and asking it does not
// panic; it is refused when a part of it is of a newer API, but for authentications,
// which then grant nothing; and nobody is permitted but by an authorization in the
// message that names him, on the route that it stands on or on the Server.
func FuzzMessage(f *testing.F) {
	names := []string{"a.b", "x.a.b", "any.name", "spiffe://td/a"}
	for _, shape := range policytest.Shapes() {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(shape.Message)
		if err != nil {
			f.Fatal(err)
		}
		for i, name := range names {
			f.Add(raw, "10.0.0.1", name, uint8(i), "/a/b")
		}
	}
	for _, msg := range mixedMessages() {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "10.0.0.1", "a.b", uint8(Terminated), "/a/b")
		f.Add(raw, "::1", "", uint8(NoTLS), "//")
	}
	f.Fuzz(func(t *testing.T, raw []byte, addr, name string, state uint8, path string) {
		msg, known := &pb.Server{}, &pb.Server{}
		if proto.Unmarshal(raw, msg) != nil {
			return
		}
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, known); err != nil {
			t.Fatal(err)
		}
		peer, err := netip.ParseAddr(addr)
		if err != nil {
			peer = netip.MustParseAddr("10.0.0.1")
		}
		c := Client{Addr: netip.AddrPortFrom(peer, 1), TLS: TLSStates[int(state)%len(TLSStates)]}
		if c.TLS == Terminated {
			c.Identity = name
		}
		for _, d := range []Dialect{{}, Linkerd} {
			before := proto.CloneOf(msg)
			p, err := Parse(msg, d, nil)
			if !proto.Equal(msg, before) {
				t.Fatal("the message was changed")
			}
			if err != nil {
				if !errors.Is(err, ErrInvalid) || p != nil {
					t.Fatalf("refused with %v, %+v", err, p)
				}
				if p, err = InvalidPort(msg, time.Second, d); err != nil {
					t.Fatal(err)
				}
				if permit := p.Connection(c); permit != nil {
					t.Fatalf("what is refused permits %+v as %+v", c, permit)
				}
			} else if !proto.Equal(withoutNewAuthn(msg), known) {
				t.Fatalf("what is not understood is taken: %v", msg)
			} else if again, err := Parse(msg, d, p); err != nil || again.Hash != p.Hash {
				t.Fatalf("a second time: %v, %v", again, err)
			}
			if permit := p.Connection(c); permit != nil && !permittedBy(permit, msg.GetAuthorizations(), c, d) {
				t.Fatalf("%+v is permitted as %+v by %v", c, permit, msg)
			}
			for _, method := range []string{"GET", "POST"} {
				decision := p.Request(c, text{Method: method, Path: path, Host: "a.b", RawQuery: "q=v", Fields: []string{"x-a", "v"}, Now: time.Unix(1, 0)}.head())
				if decision.Verdict == Allow && decision.Permit == nil {
					t.Fatalf("allowed without a permit: %+v", decision)
				}
				if decision.Permit != nil && !permittedBy(decision.Permit, slices.Concat(ownOf(msg, decision.Route), msg.GetAuthorizations()), c, d) {
					t.Fatalf("%+v is permitted on %+v as %+v by %v", c, decision.Route, decision.Permit, msg)
				}
			}
		}
	})
}

// mixedMessages are some that are of a newer API in part, and one with exceptions.
func mixedMessages() []*pb.Server {
	anyone, newPermit, newTLS := grant("anyone", "0.0.0.0/0"), grant("new permit", "0.0.0.0/0"), grant("new TLS", "0.0.0.0/0")
	withUnknown(newPermit.Authentication)
	newTLS.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: withUnknown(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Unauthenticated{}})}}
	except := grant("except", "10.0.0.0/8")
	except.Networks[0].Except = append(except.Networks[0].Except, ipNet("10.0.0.0/24"))
	return []*pb.Server{
		withUnknown(detectServer(nil, anyone)), detectServer([]*pb.HttpRoute{withUnknown(route("HTTPRoute", "r"))}, anyone),
		detectServer(nil, newPermit), detectServer(nil, newTLS), detectServer(nil, withUnknown(grant("new", "0.0.0.0/0"))), detectServer(nil, except),
	}
}

// withoutNewAuthn is a message without what it asks of clients in words that are not
// known.
func withoutNewAuthn(msg *pb.Server) *pb.Server {
	msg = proto.CloneOf(msg)
	for _, list := range lists(msg) {
		for _, a := range list {
			if a.GetAuthentication() != nil {
				a.Authentication.ProtoReflect().SetUnknown(nil)
			}
			if a.GetAuthentication().GetMeshTLS() != nil {
				a.Authentication.GetMeshTLS().ProtoReflect().SetUnknown(nil)
			}
		}
	}
	return msg
}

// lists are all lists of authorizations in a message.
func lists(msg *pb.Server) [][]*pb.Authz {
	all := [][]*pb.Authz{msg.GetAuthorizations()}
	eachRoute(msg, func(_ Ref, list []*pb.Authz) { all = append(all, list) })
	return all
}

func eachRoute(msg *pb.Server, visit func(Ref, []*pb.Authz)) {
	protocol := msg.GetProtocol()
	for _, r := range slices.Concat(protocol.GetDetect().GetHttpRoutes(), protocol.GetHttp1().GetRoutes(), protocol.GetHttp2().GetRoutes()) {
		visit(metaRef(r.GetMetadata()), r.GetAuthorizations())
	}
	for _, r := range protocol.GetGrpc().GetRoutes() {
		visit(metaRef(r.GetMetadata()), r.GetAuthorizations())
	}
}

// ownOf are the authorizations of the routes that are called so.
func ownOf(msg *pb.Server, route Ref) (own []*pb.Authz) {
	eachRoute(msg, func(of Ref, list []*pb.Authz) {
		if of == route {
			own = append(own, list...)
		}
	})
	return own
}

// permittedBy tells whether one of these authorizations, or localhost, is the permit's
// and names the client.
func permittedBy(permit *Permit, list []*pb.Authz, c Client, d Dialect) bool {
	addr := c.Addr.Addr().Unmap().WithZone("")
	if permit.Authz == localhost.Ref && (addr == netip.MustParseAddr("127.0.0.1") || addr == netip.IPv6Loopback()) {
		return true
	}
	return slices.ContainsFunc(list, func(a *pb.Authz) bool {
		ref := metaRef(a.GetMetadata())
		if ref == (Ref{}) {
			ref = labelRef(a.GetLabels())
		}
		return ref == permit.Authz && somewhere(a.GetNetworks(), addr) && askedOf(a.GetAuthentication(), c, d)
	})
}

func somewhere(networks []*pb.Network, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n *pb.Network) bool {
		return holds(n.GetNet(), addr) && !slices.ContainsFunc(n.GetExcept(), func(e *net.IPNetwork) bool { return holds(e, addr) })
	})
}

// holds compares bit by bit, IPv4 as the part of IPv6 that it is mapped to.
func holds(n *net.IPNetwork, addr netip.Addr) bool {
	var network [16]byte
	bits := int(n.GetPrefixLen())
	switch ip := n.GetIp().GetIp().(type) {
	case *net.IPAddress_Ipv4:
		copy(network[10:], "\xff\xff")
		binary.BigEndian.PutUint32(network[12:], ip.Ipv4)
		bits += 96
	case *net.IPAddress_Ipv6:
		binary.BigEndian.PutUint64(network[:8], ip.Ipv6.GetFirst())
		binary.BigEndian.PutUint64(network[8:], ip.Ipv6.GetLast())
		if bits < 96 && addr.Is4() {
			return false // of IPv6 is not of IPv4, wherever it is mapped to
		}
	default:
		return false
	}
	of := addr.As16()
	for i := range bits {
		if mask := byte(0x80) >> (i % 8); network[i/8]&mask != of[i/8]&mask {
			return false
		}
	}
	return true
}

func askedOf(a *pb.Authn, c Client, d Dialect) bool {
	unknown := len(a.ProtoReflect().GetUnknown()) + len(a.GetMeshTLS().ProtoReflect().GetUnknown())
	switch {
	case unknown > 0:
		return false
	case a.GetUnauthenticated() != nil:
		return true
	case c.TLS != Terminated:
		return false
	case a.GetMeshTLS().GetUnauthenticated() != nil:
		return true
	}
	spiffe := strings.HasPrefix(c.Identity, "spiffe://")
	identities := a.GetMeshTLS().GetIdentities()
	return c.Identity != "" && (slices.ContainsFunc(identities.GetIdentities(), func(id *pb.Identity) bool { return id.GetName() == c.Identity }) ||
		slices.ContainsFunc(identities.GetSuffixes(), func(s *pb.IdentitySuffix) bool {
			if len(s.GetParts()) == 0 {
				return !spiffe || !d.OnlyDNSIdentities
			}
			begin, ends := strings.CutSuffix(c.Identity, "."+strings.Join(s.GetParts(), "."))
			return ends && begin != "" && !spiffe
		}))
}
