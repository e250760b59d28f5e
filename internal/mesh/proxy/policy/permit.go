package policy

import "sync/atomic"

// permits are what the authorizations of one list grant to connections, or to the
// requests of one route. Each is made when it is first granted: a port may have
// thousands for every route, and few clients.
type permits struct {
	server, route Ref
	grants        *grants
	made          []atomic.Pointer[Permit]
}

func newPermits(server, route Ref, g *grants) *permits {
	return &permits{server: server, route: route, grants: g, made: make([]atomic.Pointer[Permit], len(g.refs))}
}

// of returns the permit of the first authorization that permits the client, the
// same one each time; nil when there is none.
func (p *permits) of(c Client, d Dialect) *Permit {
	if p == nil {
		return nil
	}
	i := p.grants.first(c, d)
	if i == none {
		return nil
	}
	if made := p.made[i].Load(); made != nil {
		return made
	}
	authz := p.grants.refs[i]
	p.made[i].CompareAndSwap(nil, &Permit{
		Server: p.server, Route: p.route, Authz: authz,
		Audit: authz == Ref{Kind: "default", Name: "audit"},
	})
	return p.made[i].Load()
}
