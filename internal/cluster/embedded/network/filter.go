package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// Offsets and lengths in bytes of what the rules look at.
const (
	ipSource, ipDestination, ipLength = 12, 16, 4
	destinationPort, portLength       = 2, 2
)

// Registers: a concatenated key fills consecutive registers of four bytes.
// numberRegister is a register of sixteen bytes that covers the first four.
const (
	firstRegister, secondRegister, thirdRegister = unix.NFT_REG32_00, unix.NFT_REG32_01, unix.NFT_REG32_02
	verdictRegister                              = unix.NFT_REG_VERDICT
)

// netTable holds all rules of the node.
var netTable = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "meshproof"}

// serviceMap leads from address, protocol and port of a service to the chain
// that picks an endpoint; a service without endpoints has no entry.
func serviceMap() *nftables.Set {
	return &nftables.Set{Table: netTable, Name: "services", IsMap: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService), DataType: nftables.TypeVerdict}
}

// hairpinSet holds each pod's address twice: as source and destination.
func hairpinSet() *nftables.Set {
	return &nftables.Set{Table: netTable, Name: "hairpin", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)}
}

// SetupFilter makes the rules that do not change: services are looked up where
// packets come in and where the node itself sends them; what is addressed to a
// service afterwards was for none, or for one without endpoints, and is
// refused; a pod that reaches itself through a service appears to itself as
// the node, or it would answer past the translation.
func SetupFilter() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	conn.AddTable(netTable)
	services, hairpin := serviceMap(), hairpinSet()
	if err := errors.Join(conn.AddSet(services, nil), conn.AddSet(hairpin, nil)); err != nil {
		return fmt.Errorf("make sets: %w", err)
	}
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Table: netTable, Name: name, Type: kind, Hooknum: hook, Priority: priority})
	}
	rule := func(c *nftables.Chain, expressions ...expr.Any) {
		conn.AddRule(&nftables.Rule{Table: netTable, Chain: c, Exprs: expressions})
	}
	translate := []expr.Any{
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: ipLength},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: secondRegister},
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: thirdRegister, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: portLength},
		&expr.Lookup{SourceRegister: firstRegister, DestRegister: verdictRegister, IsDestRegSet: true, SetName: services.Name, SetID: services.ID},
	}
	rule(chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), translate...)
	rule(chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest), translate...)
	rule(chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource),
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipSource, Len: ipLength},
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: secondRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: ipLength},
		&expr.Lookup{SourceRegister: firstRegister, SetName: hairpin.Name, SetID: hairpin.ID},
		&expr.Immediate{Register: firstRegister, Data: layout.NodeIP.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister},
	)
	for _, c := range []*nftables.Chain{
		chain("refuse-forwarded", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter),
		chain("refuse-own", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter),
	} {
		destination := func(prefix netip.Prefix, op expr.CmpOp) []expr.Any {
			mask := ipNet(prefix).Mask
			return []expr.Any{
				&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: ipLength},
				&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: ipLength, Mask: mask, Xor: []byte{0, 0, 0, 0}},
				&expr.Cmp{Op: op, Register: firstRegister, Data: prefix.Masked().Addr().AsSlice()},
			}
		}
		services := append(destination(netip.PrefixFrom(layout.DNS, 32), expr.CmpOpNeq), destination(layout.Services, expr.CmpOpEq)...)
		rule(c, append(append(services,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister},
			&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: []byte{unix.IPPROTO_TCP}}),
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})...)
		rule(c, append(services, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpPortUnreachable})...)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("program nftables: %w", err)
	}
	return tryBalancing()
}

const icmpPortUnreachable = 3

// tryBalancing programs and removes a service with two endpoints, so that a
// kernel that cannot balance is found out before anything depends on it.
func tryBalancing() error {
	probe := Service{Address: netip.AddrPortFrom(layout.KubernetesService, 9), Protocol: unix.IPPROTO_TCP,
		Endpoints: []netip.AddrPort{netip.AddrPortFrom(layout.NodeIP, 9), netip.AddrPortFrom(layout.NodeIP, 10)}}
	var t Translator
	if err := t.Apply([]Service{probe}); err != nil {
		return err
	}
	return t.Apply(nil)
}

// setHairpin enters or removes a pod's address in hairpinSet.
func setHairpin(address netip.Addr, present bool) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	element := []nftables.SetElement{{Key: append(address.AsSlice(), address.AsSlice()...)}}
	if present {
		err = conn.SetAddElements(hairpinSet(), element)
	} else {
		err = conn.SetDeleteElements(hairpinSet(), element)
	}
	if err == nil {
		err = conn.Flush()
	}
	if !present && errors.Is(err, unix.ENOENT) {
		return nil // it was removed before
	}
	if err != nil {
		return fmt.Errorf("change hairpin set for %s: %w", address, err)
	}
	return nil
}

// key is a service's key in serviceMap: each part fills whole registers.
func key(s Service) []byte {
	k := make([]byte, 12)
	copy(k, s.Address.Addr().AsSlice())
	k[4] = s.Protocol
	copy(k[8:], binaryutil.BigEndian.PutUint16(s.Address.Port()))
	return k
}
