package index

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// NewNetworks reads a list of networks at the given field path. A network with a
// part that does not parse is left out and reported.
func NewNetworks(field string, networks []api.Network, problems *Problems) []Network {
	var read []Network
	for i, network := range networks {
		at := fmt.Sprintf("%s[%d]", field, i)
		before := len(*problems)
		prefix, err := ParseNetwork(network.CIDR)
		if err != nil {
			problems.add(at+".cidr", err.Error())
		}
		spec := Network{Prefix: prefix}
		for j, text := range network.Except {
			except, err := ParseNetwork(text)
			if err != nil {
				problems.add(fmt.Sprintf("%s.except[%d]", at, j), err.Error())
			}
			spec.Except = append(spec.Except, except)
		}
		if len(*problems) == before {
			read = append(read, spec)
		}
	}
	return read
}

// PointlessExceptions names exceptions that cannot be meant: of the other
// address family, covering all of their network, or outside it. They are
// refused at admission and harmless in the index, where they only subtract.
func PointlessExceptions(field string, networks []api.Network, problems *Problems) {
	for i, network := range networks {
		prefix, err := ParseNetwork(network.CIDR)
		if err != nil {
			continue
		}
		for j, text := range network.Except {
			at := fmt.Sprintf("%s[%d].except[%d]", field, i, j)
			switch except, err := ParseNetwork(text); {
			case err != nil:
			case except.Addr().Is4() != prefix.Addr().Is4():
				problems.add(at, fmt.Sprintf("%s is not of the same address family as %s", text, network.CIDR))
			case except.Bits() <= prefix.Bits() && except.Contains(prefix.Addr()):
				problems.add(at, fmt.Sprintf("%s excludes all of %s", text, network.CIDR))
			case !prefix.Contains(except.Addr()):
				problems.add(at, fmt.Sprintf("%s lies outside %s", text, network.CIDR))
			}
		}
	}
}

// ParseNetwork reads a CIDR or a single address; host bits become zero.
func ParseNetwork(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is neither a CIDR nor an IP address", text)
}

// ParseNetworks reads a comma-separated list; empty text is an empty list.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		network, err := ParseNetwork(item)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}
