// Package network is the network of an embedded cluster: the node's addresses,
// one link per pod, and the translation of service addresses.
//
// It runs inside the cluster's network namespace and talks to the kernel by
// netlink only; no program is run. Links of pods come from the container
// runtime, services and endpoints from the API server; nothing of the host's
// network is touched, and no route leads out of the namespace.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// SetupNode gives the namespace its own addresses and routes: the node's, the
// gateway that pods send to and the name server's. They are on the loopback
// device, because that is the one device which is always there.
func SetupNode() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring loopback device up: %w", err)
	}
	for _, address := range []netip.Addr{layout.NodeIP, layout.Gateway, layout.DNS} {
		if err := netlink.AddrAdd(loopback, &netlink.Addr{IPNet: single(address)}); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	routes := []*netlink.Route{
		// Services are translated on their way out of this device, so that what
		// the node sends to them has the node's address.
		{LinkIndex: loopback.Attrs().Index, Dst: ipNet(layout.Services), Src: layout.NodeIP.AsSlice(), Scope: netlink.SCOPE_LINK},
		// A pod that has gone is unreachable at once instead of unknown.
		{Type: unix.RTN_UNREACHABLE, Dst: ipNet(layout.Pods)},
		{Type: unix.RTN_UNREACHABLE, Dst: ipNet(layout.Outside)},
	}
	for _, route := range routes {
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("add route to %s: %w", route.Dst, err)
		}
	}
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":             "1",
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
		// Replies to pods must not be shortened to "go there directly".
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
	} {
		if err := setKernel(name, value); err != nil {
			return err
		}
	}
	if err := setKernel("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return shortenTracking()
}

// closedSeconds is for how long a closed connection stays in the kernel's table.
// The table's size is the host's and cannot be changed from here; with the
// default of two minutes, clients that open thousands of connections a second
// fill it, and packets are dropped that nobody has refused.
const closedSeconds = "3"

// shortenTracking lets this thread's network namespace forget closed
// connections early. Where connections are not tracked there is nothing to do.
func shortenTracking() error {
	err := setKernel("net/netfilter/nf_conntrack_tcp_timeout_time_wait", closedSeconds)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// setKernel sets a parameter of this thread's network namespace; such
// parameters are not shared with the host.
func setKernel(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// single is the range of one address.
func single(address netip.Addr) *net.IPNet {
	return ipNet(netip.PrefixFrom(address, address.BitLen()))
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
