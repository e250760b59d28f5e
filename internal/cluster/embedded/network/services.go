package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Service is one port of one service address and where it leads.
type Service struct {
	Address netip.AddrPort
	// Protocol is the IP protocol's number.
	Protocol uint8
	// Sticky sends one client address to one endpoint as long as the set of
	// endpoints stays the same.
	Sticky bool
	// Endpoints in any order; none means that connections are refused.
	Endpoints []netip.AddrPort
}

// identity tells services apart: two of the same identity cannot coexist.
type identity struct {
	address  netip.AddrPort
	protocol uint8
}

func (s Service) identity() identity { return identity{s.Address, s.Protocol} }

func (s Service) chain() *nftables.Chain {
	return &nftables.Chain{Table: netTable, Name: fmt.Sprintf("service-%d-%s", s.Protocol, s.Address)}
}

// Translator keeps the kernel's translation of service addresses. The zero
// value has no services. It is not safe for concurrent use: it has one owner.
type Translator struct {
	applied map[identity]Service
}

// Apply makes the given services the only ones, in one transaction that holds
// what has changed. Established connections stay where they are; datagrams to
// an endpoint that has gone are sent to another.
func (t *Translator) Apply(services []Service) error {
	wanted := make(map[identity]Service, len(services))
	for _, s := range services {
		s.Endpoints = slices.Clone(s.Endpoints)
		slices.SortFunc(s.Endpoints, netip.AddrPort.Compare)
		s.Endpoints = slices.Compact(s.Endpoints)
		if len(s.Endpoints) > 0 {
			wanted[s.identity()] = s
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	changed, stale, err := t.plan(conn, wanted)
	if err != nil || !changed {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("program services: %w", err)
	}
	t.applied = wanted
	return forget(stale)
}

// plan queues the difference between what is applied and what is wanted. stale
// are the datagram endpoints that are not wanted any more.
func (t *Translator) plan(conn *nftables.Conn, wanted map[identity]Service) (changed bool, stale []netip.AddrPort, err error) {
	for id, new := range wanted {
		old, exists := t.applied[id]
		if exists && old.Sticky == new.Sticky && slices.Equal(old.Endpoints, new.Endpoints) {
			continue
		}
		changed = true
		chain := new.chain()
		if exists {
			conn.FlushChain(chain)
			stale = append(stale, gone(old, new)...)
		} else {
			conn.AddChain(chain)
		}
		if err := addBalancing(conn, chain, new); err != nil {
			return false, nil, err
		}
		if !exists {
			element := nftables.SetElement{Key: key(new), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain.Name}}
			if err := conn.SetAddElements(serviceMap(), []nftables.SetElement{element}); err != nil {
				return false, nil, fmt.Errorf("add service %s: %w", new.Address, err)
			}
		}
	}
	for id, old := range t.applied {
		if _, ok := wanted[id]; ok {
			continue
		}
		changed = true
		stale = append(stale, gone(old, Service{})...)
		// The element names the chain, so the kernel wants to see it again.
		element := nftables.SetElement{Key: key(old), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: old.chain().Name}}
		if err := conn.SetDeleteElements(serviceMap(), []nftables.SetElement{element}); err != nil {
			return false, nil, fmt.Errorf("remove service %s: %w", old.Address, err)
		}
		conn.FlushChain(old.chain())
		conn.DelChain(old.chain())
	}
	return changed, stale, nil
}

// addBalancing adds the rule that picks an endpoint: by chance, or by the
// client's address.
func addBalancing(conn *nftables.Conn, chain *nftables.Chain, s Service) error {
	var expressions []expr.Any
	target := func(endpoint netip.AddrPort) []byte {
		return append(endpoint.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(endpoint.Port())...)
	}
	if len(s.Endpoints) == 1 {
		expressions = append(expressions,
			&expr.Immediate{Register: firstRegister, Data: s.Endpoints[0].Addr().AsSlice()},
			&expr.Immediate{Register: secondRegister, Data: binaryutil.BigEndian.PutUint16(s.Endpoints[0].Port())})
	} else {
		endpoints := &nftables.Set{Table: netTable, Anonymous: true, Constant: true, IsMap: true,
			KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
		elements := make([]nftables.SetElement, len(s.Endpoints))
		for i, endpoint := range s.Endpoints {
			elements[i] = nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: append(target(endpoint), 0, 0)}
		}
		if err := conn.AddSet(endpoints, elements); err != nil {
			return fmt.Errorf("make endpoints of service %s: %w", s.Address, err)
		}
		count := uint32(len(s.Endpoints))
		if s.Sticky {
			expressions = append(expressions,
				&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipSource, Len: ipLength},
				&expr.Hash{SourceRegister: firstRegister, DestRegister: firstRegister, Length: ipLength, Modulus: count, Seed: stickySeed, Type: expr.HashTypeJenkins})
		} else {
			expressions = append(expressions, &expr.Numgen{Register: firstRegister, Modulus: count, Type: unix.NFT_NG_RANDOM})
		}
		expressions = append(expressions, &expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: endpoints.Name, SetID: endpoints.ID})
	}
	expressions = append(expressions, &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister, RegProtoMin: secondRegister})
	conn.AddRule(&nftables.Rule{Table: netTable, Chain: chain, Exprs: expressions})
	return nil
}

// stickySeed makes the choice of a sticky service the same after each change.
const stickySeed = 0x6d657368

// gone are the datagram endpoints of old that new does not have.
func gone(old, new Service) []netip.AddrPort {
	if old.Protocol != unix.IPPROTO_UDP {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(old.Endpoints), func(e netip.AddrPort) bool { return slices.Contains(new.Endpoints, e) })
}

// forget makes the kernel forget where it has sent datagrams: without a
// connection that ends, it would send them there for as long as they come.
func forget(endpoints []netip.AddrPort) error {
	if len(endpoints) == 0 {
		return nil
	}
	var filters []netlink.CustomConntrackFilter
	for _, endpoint := range endpoints {
		filter := &netlink.ConntrackFilter{}
		if err := errors.Join(filter.AddProtocol(unix.IPPROTO_UDP),
			filter.AddIP(netlink.ConntrackReplySrcIP, endpoint.Addr().AsSlice())); err != nil {
			return fmt.Errorf("select datagram flows to %s: %w", endpoint, err)
		}
		filters = append(filters, filter)
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...); err != nil {
		return fmt.Errorf("forget datagram flows: %w", err)
	}
	return nil
}
