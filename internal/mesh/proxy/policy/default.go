package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Defaults are the names of the default policies (D-01).
var Defaults = []string{
	"all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "cluster-authenticated", "deny", "audit",
}

// DefaultPort is what the proxy itself makes of a default policy, without the
// controller (L-02 to L-04). Only dialect linkerd ever judges by it.
func DefaultPort(name string, networks []netip.Prefix, opaque bool, detect time.Duration, d Dialect) (*Port, error) {
	if !slices.Contains(Defaults, name) {
		return nil, fmt.Errorf("unknown default policy %q (want one of %v)", name, Defaults)
	}
	p := &Port{Server: Ref{Kind: "default", Name: name}, Protocol: Detect, DetectTimeout: detect, dialect: d, onlyDefaults: true}
	if opaque {
		p.Protocol = Opaque
	}
	a := Authz{Ref: Ref{Kind: "default", Name: name}, networks: everywhere}
	switch name {
	case "deny":
		// Opaque and without any authorization, localhost included (L-03).
		p.Protocol = Opaque
		return p, nil
	case "audit":
		if len(networks) == 0 && d.AuditNeedsNetworks {
			return nil, fmt.Errorf("default policy %s needs cluster networks", name)
		}
		a.who.anyone = true
	case "all-unauthenticated":
		a.who.anyone = true
	case "all-authenticated":
		a.who.any = true
	case "cluster-unauthenticated", "cluster-authenticated":
		if len(networks) == 0 {
			return nil, fmt.Errorf("default policy %s needs cluster networks", name)
		}
		a.networks = nil
		for _, n := range networks {
			a.networks = append(a.networks, Network{Net: n.Masked()})
		}
		a.who.anyone, a.who.any = name == "cluster-unauthenticated", name == "cluster-authenticated"
	}
	p.permits = newPermits(p.Server, Ref{}, newGrants([]Authz{a, localhost}))
	if p.Protocol.hasHTTP() {
		p.routes = []*Route{p.defaultRoute()}
	}
	return p, nil
}
