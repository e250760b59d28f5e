// Package intercept redirects a pod's TCP traffic to its proxy.
//
// One builder turns Rules into an nftables table of ours in the network
// namespace of the caller, over netlink and in one transaction: what comes in
// goes to the inbound port, what goes out goes to the outbound port, and the
// proxy's own traffic, known by user id or socket mark, goes where it says.
// Applying again replaces what is there, so that a restarted init container
// finds its work done.
//
// It runs no binaries, touches no table but its own, and never installs part of
// its rules. Without the NET_ADMIN capability it fails; and since applications
// have no NET_* capability, they can lift neither the rules nor pass for the
// proxy by its mark.
package intercept

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The ports by which everybody knows the proxy.
const (
	DefaultInboundPort  = 4143
	DefaultOutboundPort = 4140
	controlPort         = 4190
	adminPort           = 4191
)

// TableName is the table that Apply owns, in the families ip and ip6.
const TableName = "linkerd"

// ErrNotPermitted is returned when the process lacks NET_ADMIN.
var ErrNotPermitted = errors.New("changing nftables rules needs the capability NET_ADMIN")

// Rules says what is redirected and what is not.
type Rules struct {
	// InboundPort and OutboundPort are where the proxy listens; 0 means default.
	InboundPort, OutboundPort uint16
	// ProxyUID exempts what this user sends, unless it is 0: root is never the
	// proxy, and under a map of a single user everybody is root.
	ProxyUID uint32
	// ProxyMark exempts what carries this socket mark, unless it is 0.
	ProxyMark uint32
	// SkipInbound and SkipOutbound are destination ports left alone. 4190 and
	// 4191 are left alone inbound whatever is listed (D-19).
	SkipInbound, SkipOutbound []PortRange
}

// Apply installs the rules in the network namespace of the calling thread, in
// place of what an earlier Apply installed.
func Apply(rules Rules) error {
	rules, err := rules.complete()
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for nftables: %w", err)
	}
	for _, family := range families() {
		rules.add(conn, family)
	}
	return flush(conn, "install the redirection")
}

// Remove takes the rules away; none there is no error.
func Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for nftables: %w", err)
	}
	for _, family := range families() {
		conn.DelTable(conn.AddTable(&nftables.Table{Name: TableName, Family: family}))
	}
	return flush(conn, "remove the redirection")
}

func flush(conn *nftables.Conn, what string) error {
	err := conn.Flush()
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: %w: %w", what, ErrNotPermitted, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// families are ip, and ip6 where the namespace knows it.
func families() []nftables.TableFamily {
	families := []nftables.TableFamily{nftables.TableFamilyIPv4}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		families = append(families, nftables.TableFamilyIPv6)
	}
	return families
}

func (r Rules) complete() (Rules, error) {
	if r.InboundPort == 0 {
		r.InboundPort = DefaultInboundPort
	}
	if r.OutboundPort == 0 {
		r.OutboundPort = DefaultOutboundPort
	}
	if r.ProxyUID == 0 && r.ProxyMark == 0 {
		return r, errors.New("redirection needs the proxy's user id or its socket mark: without either the proxy's own traffic comes back to it")
	}
	for _, ports := range [][]PortRange{r.SkipInbound, r.SkipOutbound} {
		for _, p := range ports {
			if p.First == 0 || p.Last < p.First {
				return r, fmt.Errorf("port range %v to skip is empty", p)
			}
		}
	}
	return r, nil
}

// add queues the whole table for one family. Adding before deleting makes the
// delete valid when there is nothing yet.
func (r Rules) add(conn *nftables.Conn, family nftables.TableFamily) {
	table := &nftables.Table{Name: TableName, Family: family}
	conn.DelTable(conn.AddTable(table))
	table = conn.AddTable(table)

	in := conn.AddChain(&nftables.Chain{Name: "inbound", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, part := range parts {
			all = append(all, part...)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: all})
	}
	for _, ports := range r.unseen() {
		rule(in, tcp(), toPort(ports), leaveAlone())
	}
	rule(in, tcp(), redirect(r.InboundPort))

	out := conn.AddChain(&nftables.Chain{Name: "outbound", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	if r.ProxyUID != 0 {
		rule(out, metaIs(expr.MetaKeySKUID, binaryutil.NativeEndian.PutUint32(r.ProxyUID)), leaveAlone())
	}
	if r.ProxyMark != 0 {
		rule(out, metaIs(expr.MetaKeyMARK, binaryutil.NativeEndian.PutUint32(r.ProxyMark)), leaveAlone())
	}
	// The pod's own addresses are reached over lo too. A process that calls its own
	// pod there is judged as it comes, from the pod's address (B-02); what stays on
	// the loopback addresses is nobody's business but its own (H-20).
	overLo := metaIs(expr.MetaKeyOIFNAME, interfaceName("lo"))
	rule(out, overLo, toLoopback(family), leaveAlone())
	for _, ports := range r.unseen() {
		rule(out, overLo, tcp(), toPort(ports), leaveAlone())
	}
	rule(out, overLo, tcp(), redirect(r.InboundPort))
	rule(out, overLo, leaveAlone())
	for _, ports := range r.SkipOutbound {
		rule(out, tcp(), toPort(ports), leaveAlone())
	}
	rule(out, tcp(), redirect(r.OutboundPort))
}

// unseen are the ports of the pod that are reached past the proxy, or that the
// proxy itself serves.
func (r Rules) unseen() []PortRange {
	return append([]PortRange{{controlPort, controlPort}, {adminPort, adminPort}}, r.SkipInbound...)
}

// toLoopback matches destinations in 127.0.0.0/8, or ::1.
func toLoopback(family nftables.TableFamily) []expr.Any {
	offset, mask, want := uint32(16), []byte{255, 0, 0, 0}, []byte{127, 0, 0, 0}
	if family == nftables.TableFamilyIPv6 {
		loopback := netip.IPv6Loopback().As16()
		offset, mask, want = 24, bytes.Repeat([]byte{255}, len(loopback)), loopback[:]
	}
	size := uint32(len(want))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}

func tcp() []expr.Any { return metaIs(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}) }

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}
}

// toPort matches the destination port in the transport header, bytes 2 and 3.
func toPort(ports PortRange) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(ports.First), ToData: binaryutil.BigEndian.PutUint16(ports.Last)},
	}
}

func leaveAlone() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

// portSpecified is NF_NAT_RANGE_PROTO_SPECIFIED.
const portSpecified = 1 << 1

func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Redir{RegisterProtoMin: 1, Flags: portSpecified},
	}
}

// interfaceName pads to IFNAMSIZ, as the kernel compares the whole field.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
