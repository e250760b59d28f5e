package oracle

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Session is what the proxy knows of a connection's TLS when it decides.
type Session struct {
	// Terminated: the proxy itself has ended mesh TLS.
	Terminated bool
	// Identity that the client's certificate proves; empty without one.
	Identity string
	// Transported: with the transport header, on the proxy's own port (7.3).
	Transported bool
	// Foreign: TLS that the proxy passes on unread (T-13).
	Foreign bool
}

// NetworkHolds is H-19: some network holds the address and none of its own
// exceptions does.
func NetworkHolds(listed []Network, address netip.Addr) (bool, string) {
	why := "no network is listed"
	for i, n := range listed {
		if i == 0 {
			why = fmt.Sprintf("%s is in none of its networks", address)
		}
		if !n.Within.Contains(address) {
			continue
		}
		excepted := false
		for _, e := range n.Except {
			if e.Contains(address) {
				excepted, why = true, fmt.Sprintf("%s is in %s, but excepted by %s", address, n.Within, e)
			}
		}
		if !excepted {
			return true, fmt.Sprintf("%s is in %s", address, n.Within)
		}
	}
	return false, why
}

// ClientAddress is T-04: a mapped IPv4 address is the IPv4 address.
func ClientAddress(address netip.Addr) netip.Addr { return address.Unmap() }

// IdentityFits is: a full name compares as a whole, "*" means any
// identity, and "*." a suffix with at least one more label before it. In the
// linkerd dialect both fit only names in DNS form.
func IdentityFits(pattern, identity string, dialect api.Dialect) bool {
	if identity == "" {
		return false
	}
	spiffe := strings.HasPrefix(identity, "spiffe://")
	if pattern == "*" {
		return !spiffe || dialect.AnyVerifiedIdentity
	}
	if suffix, isSuffix := strings.CutPrefix(pattern, "*."); isSuffix {
		before, fits := strings.CutSuffix(identity, "."+suffix)
		return fits && before != "" && !spiffe
	}
	return pattern == identity
}

// ClientsHold is: anyone, any terminated session, or one of the
// identities.
func ClientsHold(clients Clients, session Session, dialect api.Dialect, fits func(pattern, identity string, d api.Dialect) bool) (bool, string) {
	switch {
	case clients.Anyone:
		return true, "it asks for no authentication"
	case clients.TLS:
		if session.Terminated {
			return true, "the client came over mesh TLS"
		}
		return false, "it asks for mesh TLS"
	case session.Identity == "":
		return false, "it asks for an identity, and the client has none"
	}
	for _, pattern := range clients.Identities {
		if fits(pattern, session.Identity, dialect) {
			return true, fmt.Sprintf("%s fits %s", session.Identity, pattern)
		}
	}
	return false, fmt.Sprintf("%s is none of its identities (%s)", session.Identity, strings.Join(clients.Identities, ", "))
}

// holds reports whether the grant admits the client.
func (o Oracle) holds(grant Grant, address netip.Addr, session Session) (holds bool, rule, why string) {
	if grant.Void != "" {
		return false, grant.VoidRule, "it grants nothing: " + grant.Void
	}
	network, whyNetwork := o.Rules.NetworkHolds(grant.Networks, address)
	clients, whyClients := o.Rules.ClientsHold(grant.Clients, session, o.Dialect, o.Rules.IdentityFits)
	switch {
	case !network:
		return false, "H-19", whyNetwork
	case !clients:
		return false, "X-32", whyClients
	default:
		return true, "X-33", whyNetwork + ", and " + whyClients
	}
}

// Suffices is: of all that is granted, one that holds is enough.
func Suffices(holding int) bool { return holding > 0 }

// authorize tries every grant, each with a step, and names those that hold. The
// first grants, so many, are a route's own: they stand before the Server's,
// and get the credit before those.
func (o Oracle) authorize(grants []Grant, own int, address netip.Addr, session Session, v *Verdict) bool {
	fittingOwn := 0
	for i, grant := range grants {
		holds, rule, why := o.holds(grant, address, session)
		localhost := grant.Label == o.Rules.Localhost().Label
		if !holds && localhost {
			continue // everybody else fails it, and nobody asks why
		}
		note(&v.Steps, "authorization", rule, holds, "%s: %s", grant.Label, why)
		if holds {
			v.Fitting = append(v.Fitting, grant.Label)
			if i < own {
				fittingOwn++
			}
		}
	}
	if !o.Rules.Suffices(len(v.Fitting)) {
		if len(grants) == 1 {
			note(&v.Steps, "authorization", "X-11", false, "nothing is granted to anybody but localhost")
		}
		return false
	}
	among := v.Fitting
	if fittingOwn > 0 {
		among = among[:fittingOwn]
	}
	v.Authorization = among[0]
	for _, label := range among[1:] {
		if o.Rules.NamedFirst(label, v.Authorization) {
			v.Authorization = label
		}
	}
	v.Logged = o.Rules.Audited(v.Authorization)
	if v.Logged {
		note(&v.Steps, "authorization", "N-14", true, "default/audit decided: the proxy logs that it was allowed")
	}
	return true
}

// NamedFirst is the row of 19.1 about X-50: of several in one list that fit, those
// that somebody wrote come before the built-in ones, and then names decide.
func NamedFirst(a, b Label) bool {
	if builtIn, other := a.Kind == "default", b.Kind == "default"; builtIn != other {
		return other
	}
	return a.Name < b.Name || a.Name == b.Name && a.Kind < b.Kind
}

// Audited is N-14: what default/audit decides is logged.
func Audited(decided Label) bool {
	return decided.Kind == "default" && decided.Name == string(api.Audit)
}
