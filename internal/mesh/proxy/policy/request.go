package policy

import "bytes"

// maxScratch is how much of a Head's Scratch lasts longer than a request.
const maxScratch = 4 << 10

// Request decides on one request (H-10): route, authorization, filters, rate limit.
// It allocates nothing but for a redirect's location, and takes no longer for many
// authorizations than for one.
func (p *Port) Request(c Client, head *Head) Decision {
	d := Decision{Server: p.Server}
	if p.invalid {
		return d
	}
	if !p.Protocol.hasHTTP() {
		d.Verdict = NotFound
		return d
	}
	if head.Scratch = head.Scratch[:0]; cap(head.Scratch) > maxScratch {
		head.Scratch = nil
	}
	path, judged, changed := head.Path, head.Path, []byte(nil)
	if p.pathSensitive && !isNormal(path) {
		normal, ok := []byte(nil), false
		if normal, head.Scratch, ok = normalise(path, head.Scratch); !ok {
			d.Verdict = Ambiguous
			return d
		}
		if !bytes.Equal(normal, path) {
			changed = normal
		}
		path = normal
		judged, head.Scratch = matchForm(path, head.Scratch)
	}
	if p.Protocol == GRPC && !p.dialect.RawPaths && !isNormal(path) {
		// Applications would read another service or method in it: it names no call
		// (H-17). No client of gRPC's writes such a path.
		judged = nil
	}
	route, rule := p.selectRoute(head, judged)
	if route == nil {
		d.Verdict = NotFound
		return d
	}
	d.Route = route.Ref
	if d.Permit = route.own.of(c, p.dialect); d.Permit == nil {
		d.Permit = route.servers.of(c, p.dialect)
	}
	if d.Permit == nil {
		d.Verdict = Deny
		return d
	}
	for i := range rule.filters {
		f := &rule.filters[i]
		switch {
		case f.redirect != nil:
			location, ok := f.redirect.location(head, path, judged, rule)
			if !ok {
				d.Verdict = Fault
				return d
			}
			d.Verdict, d.Location, d.Status = Redirect, location, f.redirect.Status
			return d
		case f.fault:
			d.Verdict = Fault
			return d
		}
	}
	if p.limit != nil {
		if scope, ok := p.limit.take(c.Identity, head.Now); !ok {
			d.Verdict, d.LimitScope = Limited, scope
			return d
		}
	}
	d.Verdict, d.Path, d.Edits = Allow, changed, rule.edits
	return d
}
