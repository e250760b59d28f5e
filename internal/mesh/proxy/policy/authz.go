package policy

import "net/netip"

// Authz is one authorization: some network holds the client's address, and the
// client is who is asked for.
type Authz struct {
	Ref      Ref
	networks []Network
	who      who
}

// Network is a prefix without some prefixes (H-19).
type Network struct {
	Net    netip.Prefix
	Except []netip.Prefix
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

var (
	everywhere = []Network{{Net: netip.MustParsePrefix("0.0.0.0/0")}, {Net: netip.MustParsePrefix("::/0")}}
	// localhost is appended to every list of a valid message (H-20).
	localhost = Authz{
		Ref:      Ref{Kind: "default", Name: "localhost"},
		networks: []Network{{Net: netip.MustParsePrefix("127.0.0.1/32")}, {Net: netip.MustParsePrefix("::1/128")}},
		who:      who{anyone: true},
	}
)
