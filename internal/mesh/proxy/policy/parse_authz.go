package policy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/net"
)

func parseAuthzs(msgs []*pb.Authz) ([]Authz, error) {
	list := make([]Authz, 0, len(msgs)+1)
	for i, msg := range msgs {
		a, ok, err := parseAuthz(msg)
		if err != nil {
			return nil, fmt.Errorf("authorization %d: %w", i, err)
		}
		if ok {
			list = append(list, a)
		}
	}
	return list, nil
}

// parseAuthz reads one authorization; ok is false when it asks for an
// authentication of a kind unknown here and hence grants nothing.
func parseAuthz(msg *pb.Authz) (a Authz, ok bool, err error) {
	a.Ref = metaRef(msg.GetMetadata())
	if a.Ref == (Ref{}) {
		a.Ref = labelRef(msg.GetLabels())
	}
	if len(msg.GetNetworks()) == 0 {
		return a, false, fmt.Errorf("%w: no networks", ErrInvalid) // W-10
	}
	for _, n := range msg.GetNetworks() {
		network := Network{}
		if network.Net, err = parsePrefix(n.GetNet()); err != nil {
			return a, false, err
		}
		for _, e := range n.GetExcept() {
			except, err := parsePrefix(e)
			if err != nil {
				return a, false, err
			}
			network.Except = append(network.Except, except)
		}
		a.networks = append(a.networks, network)
	}
	a.who, ok, err = parseAuthn(msg.GetAuthentication())
	return a, ok, err
}

func parseAuthn(msg *pb.Authn) (w who, ok bool, err error) {
	switch permit := msg.GetPermit().(type) {
	case *pb.Authn_Unauthenticated:
		w.anyone = true
		return w, len(msg.ProtoReflect().GetUnknown()) == 0, nil
	case *pb.Authn_MeshTLS:
		tls := permit.MeshTLS
		known := len(msg.ProtoReflect().GetUnknown()) == 0 && len(tls.ProtoReflect().GetUnknown()) == 0
		switch clients := tls.GetClients().(type) {
		case *pb.Authn_PermitMeshTLS_Unauthenticated:
			w.anyTLS = true
			return w, known, nil
		case *pb.Authn_PermitMeshTLS_Identities:
			return parseIdentities(clients.Identities), known, nil
		}
		if known {
			return w, false, fmt.Errorf("%w: mesh TLS without clients", ErrInvalid) // W-12
		}
		return w, false, nil
	}
	if msg == nil || len(msg.ProtoReflect().GetUnknown()) == 0 {
		return w, false, fmt.Errorf("%w: no authentication", ErrInvalid)
	}
	return w, false, nil
}

func parseIdentities(msg *pb.Authn_PermitMeshTLS_PermitClientIdentities) who {
	w := who{exact: make(map[string]struct{}, len(msg.GetIdentities()))}
	for _, id := range msg.GetIdentities() {
		if id.GetName() != "" {
			w.exact[id.GetName()] = struct{}{}
		}
	}
	for _, suffix := range msg.GetSuffixes() {
		if len(suffix.GetParts()) == 0 {
			w.any = true
			continue
		}
		w.suffixes = append(w.suffixes, "."+strings.Join(suffix.GetParts(), "."))
	}
	return w
}

// parsePrefix reads a network. IPv4-mapped IPv6 networks are reduced, as the
// addresses compared with them are.
func parsePrefix(msg *net.IPNetwork) (netip.Prefix, error) {
	var addr netip.Addr
	bits := int(msg.GetPrefixLen())
	switch ip := msg.GetIp().GetIp().(type) {
	case *net.IPAddress_Ipv4:
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], ip.Ipv4)
		addr = netip.AddrFrom4(raw)
	case *net.IPAddress_Ipv6:
		var raw [16]byte
		binary.BigEndian.PutUint64(raw[:8], ip.Ipv6.GetFirst())
		binary.BigEndian.PutUint64(raw[8:], ip.Ipv6.GetLast())
		addr = netip.AddrFrom16(raw)
		if addr.Is4In6() && bits >= 96 {
			addr, bits = addr.Unmap(), bits-96
		}
	default:
		return netip.Prefix{}, fmt.Errorf("%w: network without address", ErrInvalid)
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%w: network %s/%d: %w", ErrInvalid, addr, bits, err)
	}
	return prefix, nil
}
