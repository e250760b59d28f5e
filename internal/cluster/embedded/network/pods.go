package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// podDevice is the name of the link inside a pod.
const podDevice = "eth0"

// gatewayMAC is the node's end of every link. All may have the same: each link
// has two ends and no third party.
var gatewayMAC = net.HardwareAddr{0x02, 0x6d, 0x70, 0, 0, 1}

// Pods gives pods their links and addresses. The zero value is not usable; see
// NewPods.
type Pods struct {
	mu       sync.Mutex
	attached map[string]attachment // by sandbox ID
	inside   *pool
	outside  *pool
	devices  int
}

type attachment struct {
	device  string
	address netip.Addr
}

// NewPods returns an empty set of pods.
func NewPods() *Pods {
	return &Pods{attached: map[string]attachment{}, inside: newPool(layout.Pods), outside: newPool(layout.Outside)}
}

// Attach gives the namespace at the path netns a link, an address and a
// default route. It is idempotent: a second call for the same sandbox returns
// the address of the first.
func (p *Pods) Attach(ctx context.Context, sandboxID, path string, outside bool) (netip.Addr, error) {
	if err := ctx.Err(); err != nil {
		return netip.Addr{}, err
	}
	p.mu.Lock()
	if known, ok := p.attached[sandboxID]; ok {
		p.mu.Unlock()
		return known.address, nil
	}
	from := p.inside
	if outside {
		from = p.outside
	}
	address, ok := from.take()
	p.devices++
	device := fmt.Sprintf("pod%d", p.devices)
	p.mu.Unlock()
	if !ok {
		return netip.Addr{}, fmt.Errorf("attach pod %s: range %s is used up", sandboxID, from.prefix)
	}
	err := connect(path, device, address)
	if err == nil {
		err = setHairpin(address, true)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		from.give(address)
		return netip.Addr{}, errors.Join(fmt.Errorf("attach pod %s: %w", sandboxID, err), disconnect(device))
	}
	p.attached[sandboxID] = attachment{device, address}
	return address, nil
}

// Detach takes link and address away again. It may be repeated after a
// failure; a sandbox that was never attached is none of its business.
func (p *Pods) Detach(_ context.Context, sandboxID string) error {
	p.mu.Lock()
	a, ok := p.attached[sandboxID]
	p.mu.Unlock()
	if !ok {
		return nil
	}
	if err := errors.Join(disconnect(a.device), setHairpin(a.address, false)); err != nil {
		return fmt.Errorf("detach pod %s: %w", sandboxID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.attached[sandboxID]; !ok {
		return nil // somebody else was faster
	}
	delete(p.attached, sandboxID)
	if layout.Outside.Contains(a.address) {
		p.outside.give(a.address)
	} else {
		p.inside.give(a.address)
	}
	return nil
}

// connect makes the link and configures both of its ends. Neighbours are
// entered by hand: nobody has to ask for the only address there can be.
func connect(path, device string, address netip.Addr) error {
	namespace, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer namespace.Close()
	podMAC := append(net.HardwareAddr{0x02, 0x6d}, address.AsSlice()...)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = device
	attributes.HardwareAddr = gatewayMAC
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: podDevice, PeerHardwareAddr: podMAC,
		PeerNamespace: netlink.NsFd(int(namespace))}); err != nil {
		return fmt.Errorf("make link %s: %w", device, err)
	}
	if err := connectPod(namespace, address); err != nil {
		return err
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find link %s: %w", device, err)
	}
	index := link.Attrs().Index
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring link %s up: %w", device, err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: address.AsSlice(), HardwareAddr: podMAC}); err != nil {
		return fmt.Errorf("enter neighbour %s: %w", address, err)
	}
	// The source is set, or probes would come from the gateway's address.
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: single(address), Src: layout.NodeIP.AsSlice(), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("add route to pod %s: %w", address, err)
	}
	return nil
}

// connectPod configures the pod's end.
func connectPod(namespace netns.NsHandle, address netip.Addr) error {
	handle, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talk to pod's network: %w", err)
	}
	defer handle.Close()
	loopback, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find pod's loopback device: %w", err)
	}
	if err := handle.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring pod's loopback device up: %w", err)
	}
	link, err := handle.LinkByName(podDevice)
	if err != nil {
		return fmt.Errorf("find pod's end of link: %w", err)
	}
	index := link.Attrs().Index
	if err := inNamespace(namespace, configurePod); err != nil {
		return err
	}
	if err := handle.AddrAdd(link, &netlink.Addr{IPNet: single(address)}); err != nil {
		return fmt.Errorf("give pod address %s: %w", address, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring pod's end of link up: %w", err)
	}
	if err := handle.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: layout.Gateway.AsSlice(), HardwareAddr: gatewayMAC}); err != nil {
		return fmt.Errorf("enter pod's neighbour: %w", err)
	}
	for _, route := range []*netlink.Route{
		{LinkIndex: index, Dst: single(layout.Gateway), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Gw: layout.Gateway.AsSlice()},
	} {
		if err := handle.RouteAdd(route); err != nil {
			return fmt.Errorf("add pod's route: %w", err)
		}
	}
	return nil
}

// configurePod sets what a container runtime sets by default: no IPv6 on a
// link that has no use for it, and low ports for everybody. A client may open
// more connections to one address than there are ports in a minute, so ports of
// closed connections are used again.
func configurePod() error {
	if err := setKernel("net/ipv6/conf/"+podDevice+"/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(setKernel("net/ipv4/ip_unprivileged_port_start", "0"), setKernel("net/ipv4/tcp_tw_reuse", "1"), shortenTracking())
}

// inNamespace runs f on a thread in another network namespace. The thread is
// thrown away afterwards, with the goroutine that holds it.
func inNamespace(namespace netns.NsHandle, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(namespace)
		if err == nil {
			err = f()
		} else {
			err = fmt.Errorf("enter pod's network namespace: %w", err)
		}
		result <- err
	}()
	return <-result
}

// disconnect removes a link; it goes by itself with the pod's namespace.
func disconnect(device string) error {
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) || err == nil {
		return nil
	}
	return fmt.Errorf("remove link %s: %w", device, err)
}

// pool hands out the addresses of a range, each as late again as possible, so
// that who talks to a pod that has gone does not reach another.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr
	taken  map[netip.Addr]bool
}

func newPool(prefix netip.Prefix) *pool {
	return &pool{prefix: prefix, last: prefix.Masked().Addr(), taken: map[netip.Addr]bool{}}
}

// take reports false when all addresses are taken. The first and the last of
// the range are never handed out.
func (p *pool) take() (netip.Addr, bool) {
	first := p.prefix.Masked().Addr()
	for wrapped, next := false, p.last.Next(); ; next = next.Next() {
		if !p.prefix.Contains(next) || !p.prefix.Contains(next.Next()) {
			if wrapped {
				return netip.Addr{}, false
			}
			wrapped, next = true, first
			continue
		}
		if !p.taken[next] {
			p.taken[next], p.last = true, next
			return next, true
		}
	}
}

func (p *pool) give(address netip.Addr) { delete(p.taken, address) }
