package policy

import (
	"net/netip"
	"strings"
)

// Authz is one authorization: some network holds the client's address, and the
// client is who is asked for.
type Authz struct {
	Ref      Ref
	networks []Network
	who      who
}

// Network is a prefix without some prefixes.
type Network struct {
	Net    netip.Prefix
	Except []netip.Prefix
}

// Contains tells whether addr is in the network and in none of its excepts (H-19).
func (n Network) Contains(addr netip.Addr) bool {
	if !n.Net.Contains(addr) {
		return false
	}
	for _, except := range n.Except {
		if except.Contains(addr) {
			return false
		}
	}
	return true
}

// who is the authentication that an authorization asks for.
type who struct {
	// anyone: unauthenticated clients suffice.
	anyone bool
	// anyTLS: a terminated session suffices, without an identity.
	anyTLS bool
	// any: any verified identity (an empty suffix).
	any      bool
	exact    map[string]struct{}
	suffixes []string // ".a.b": with the border, so that xa.b does not fit
}

const spiffeScheme = "spiffe://"

func (w *who) permits(c Client, d Dialect) bool {
	if w.anyone {
		return true
	}
	if c.TLS != Terminated {
		return false
	}
	if w.anyTLS {
		return true
	}
	if c.Identity == "" {
		return false
	}
	if _, ok := w.exact[c.Identity]; ok {
		return true
	}
	spiffe := strings.HasPrefix(c.Identity, spiffeScheme)
	if w.any && !(spiffe && d.OnlyDNSIdentities) {
		return true
	}
	if spiffe {
		return false
	}
	for _, suffix := range w.suffixes {
		if len(c.Identity) > len(suffix) && strings.HasSuffix(c.Identity, suffix) {
			return true
		}
	}
	return false
}

func (a *Authz) permits(c Client, d Dialect) bool {
	addr := c.Addr.Addr().Unmap().WithZone("")
	for i := range a.networks {
		if a.networks[i].Contains(addr) {
			return a.who.permits(c, d)
		}
	}
	return false
}

var (
	everywhere = []Network{{Net: netip.MustParsePrefix("0.0.0.0/0")}, {Net: netip.MustParsePrefix("::/0")}}
	// localhost is appended to every list of a valid message (H-20).
	localhost = Authz{
		Ref:      Ref{Kind: "default", Name: "localhost"},
		networks: []Network{{Net: netip.MustParsePrefix("127.0.0.1/32")}, {Net: netip.MustParsePrefix("::1/128")}},
		who:      who{anyone: true},
	}
)

func permit(server, route Ref, a *Authz) *Permit {
	return &Permit{
		Server: server, Route: route, Authz: a.Ref,
		Audit: a.Ref == Ref{Kind: "default", Name: "audit"},
	}
}
