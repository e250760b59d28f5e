package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

const (
	// faultTable holds all rules of a disturbance, so that removing it ends it.
	faultTable = "meshproof-fault"
	// relayMark is on what a relay sends itself, which must not come back to it.
	relayMark = 0x6d70
	// beforeOthers is the priority of the translation to a relay: who translates
	// first decides, and a mesh's own interception has the ordinary priority.
	beforeOthers = -101
	sourcePort   = 0
)

// Disturbed is a network namespace whose connections to a port are disturbed.
type Disturbed struct {
	network *os.File
	port    uint16
	relay   *relay
	// stop ends the cuts, whose goroutine is waited for with cuts.
	stop context.CancelFunc
	cuts sync.WaitGroup
}

// Disturb disturbs the connections that are made in a network namespace. The
// descriptor is the callee's from then on, whatever is returned.
func Disturb(network *os.File, d cluster.Disturbance) (*Disturbed, error) {
	out := &Disturbed{network: network, port: d.Port, stop: func() {}}
	err := d.Check()
	if err == nil {
		err = out.begin(d)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disturb connections to port %d: %w", d.Port, err), out.Calm())
	}
	return out, nil
}

func (d *Disturbed) inside(f func() error) error {
	return inNamespace(netns.NsHandle(d.network.Fd()), f)
}

func (d *Disturbed) begin(how cluster.Disturbance) error {
	switch how.How {
	case cluster.Swallowed:
		return d.inside(func() error { return disturbRules(d.port, &expr.Verdict{Kind: expr.VerdictDrop}, true) })
	case cluster.Lossy:
		return d.inside(func() error { return lossRules(how.Percent) })
	case cluster.Refused:
		return d.inside(func() error {
			// First the resets, which must reach the other side, and again for
			// those that were made before the rules stood.
			if err := cut(d.port); err != nil {
				return err
			}
			if err := disturbRules(d.port, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}, false); err != nil {
				return err
			}
			return cut(d.port)
		})
	case cluster.Delayed:
		return d.inside(func() error {
			var err error
			if d.relay, err = newRelay(how.Delay, d.inside); err != nil {
				return err
			}
			if err := redirectRules(d.port, d.relay.port()); err != nil {
				return err
			}
			return cut(d.port)
		})
	}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	if err := d.inside(func() error { return cut(d.port) }); err != nil {
		return err // it would not work later either
	}
	d.cuts.Go(func() { d.flap(ctx, how.Every) })
	return nil
}

// flap cuts again and again.
func (d *Disturbed) flap(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = d.inside(func() error { return cut(d.port) }) // it worked once
		case <-ctx.Done():
			return
		}
	}
}

// Calm ends the disturbance. It is called once.
func (d *Disturbed) Calm() error {
	d.stop()
	d.cuts.Wait()
	err := d.inside(removeRules)
	if d.relay != nil {
		d.relay.close()
		// Nothing is translated without the rules any more: whoever was led to the
		// relay would neither hear of its end nor be heard.
		err = errors.Join(err, d.inside(func() error { return cut(d.port) }))
	}
	return errors.Join(err, d.network.Close())
}

// cut resets the calling thread's network namespace's connections to a port: on
// this side at once, and on the other by a reset that is sent.
func cut(port uint16) error {
	sockets, err := netlink.SocketDiagTCP(unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	for _, s := range sockets {
		if s.ID.DestinationPort != port {
			continue
		}
		local := &net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)}
		remote := &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}
		if err := netlink.SocketDestroy(local, remote); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("reset the connection %s -> %s: %w", local, remote, err)
		}
	}
	return nil
}

// disturbRules gives what is sent to a port a verdict, and with deaf drops what
// comes from there. The resets of a refusal come from there too.
func disturbRules(port uint16, sent expr.Any, deaf bool) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: faultTable})
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Table: table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain("sent", nftables.ChainHookOutput), Exprs: append(tcpPort(destinationPort, port), sent)})
	if deaf {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain("received", nftables.ChainHookInput), Exprs: append(tcpPort(sourcePort, port), &expr.Verdict{Kind: expr.VerdictDrop})})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("program nftables: %w", err)
	}
	return nil
}

// lossRules loses a share of the packets that a pod sends and receives, drawn by
// chance; what it says to itself arrives.
func lossRules(percent int) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: faultTable})
	for name, side := range map[string]struct {
		hook   *nftables.ChainHook
		device expr.MetaKey
	}{"sent": {nftables.ChainHookOutput, expr.MetaKeyOIFNAME}, "received": {nftables.ChainHookInput, expr.MetaKeyIIFNAME}} {
		chain := conn.AddChain(&nftables.Chain{Table: table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: side.hook, Priority: nftables.ChainPriorityFilter})
		device := make([]byte, unix.IFNAMSIZ)
		copy(device, podDevice)
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: side.device, Register: unix.NFT_REG_1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: device},
			&expr.Numgen{Register: firstRegister, Modulus: 100, Type: unix.NFT_NG_RANDOM},
			// Compared byte by byte, the greatest first.
			&expr.Byteorder{SourceRegister: firstRegister, DestRegister: firstRegister, Op: expr.ByteorderHton, Len: 4, Size: 4},
			&expr.Cmp{Op: expr.CmpOpLt, Register: firstRegister, Data: binaryutil.BigEndian.PutUint32(uint32(percent))},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("program nftables: %w", err)
	}
	return nil
}

// redirectRules leads new connections to a port to a relay.
func redirectRules(port, relay uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: faultTable})
	priority := nftables.ChainPriority(beforeOthers)
	chain := conn.AddChain(&nftables.Chain{Table: table, Name: "sent", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: &priority})
	marked := func(op expr.CmpOp) []expr.Any {
		return append(tcpPort(destinationPort, port),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister},
			&expr.Cmp{Op: op, Register: firstRegister, Data: binaryutil.NativeEndian.PutUint32(relayMark)})
	}
	// What the relay sends is translated to where it goes anyway: what was
	// translated once nobody translates again, not the mesh's interception either,
	// which would lead it back here.
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(marked(expr.CmpOpEq),
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: ipLength},
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: secondRegister, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: portLength},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister, RegProtoMin: secondRegister},
	)})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(marked(expr.CmpOpNeq),
		&expr.Immediate{Register: firstRegister, Data: binaryutil.BigEndian.PutUint16(relay)},
		&expr.Redir{RegisterProtoMin: firstRegister},
	)})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("program nftables: %w", err)
	}
	return nil
}

// tcpPort matches TCP with a port at an offset of the transport header.
func tcpPort(offset uint32, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: portLength},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// removeRules removes what the two above have made; nothing is no error.
func removeRules() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("talk to nftables: %w", err)
	}
	// Added first, so that the deletion cannot miss it.
	conn.DelTable(conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: faultTable}))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove rules from nftables: %w", err)
	}
	return nil
}

// originalDestination is where a connection that was redirected was to go.
func originalDestination(conn *net.TCPConn) (*net.TCPAddr, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var out *net.TCPAddr
	var failure error
	if err := raw.Control(func(fd uintptr) {
		// A sockaddr_in fits into what this call reads.
		const soOriginalDst = 80
		value, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, soOriginalDst)
		if err != nil {
			failure = err
			return
		}
		out = &net.TCPAddr{IP: net.IP(value.Multiaddr[4:8]), Port: int(binary.BigEndian.Uint16(value.Multiaddr[2:4]))}
	}); err != nil {
		return nil, err
	}
	return out, failure
}
