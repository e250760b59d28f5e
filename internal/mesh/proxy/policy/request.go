package policy

// Request decides on one request (H-10): route, authorization, filters, rate limit.
func (p *Port) Request(c Client, head *Head) Decision {
	d := Decision{Server: p.Server}
	if p.invalid {
		return d
	}
	if !p.Protocol.hasHTTP() {
		d.Verdict = NotFound
		return d
	}
	path := head.Path
	if p.pathSensitive {
		normal, ok := NormalPath(path)
		if !ok {
			d.Verdict = Ambiguous
			return d
		}
		path = normal
	}
	route, rule := p.selectRoute(head, path)
	if route == nil {
		d.Verdict = NotFound
		return d
	}
	d.Route = route.Ref
	for i, a := range route.authz {
		if a.permits(c, p.dialect) {
			d.Permit = route.permits[i]
			break
		}
	}
	if d.Permit == nil {
		d.Verdict = Deny
		return d
	}
	for i := range rule.Filters {
		f := &rule.Filters[i]
		switch {
		case f.Redirect != nil:
			location, ok := f.Redirect.location(head, path, rule)
			if !ok {
				d.Verdict = Fault
				return d
			}
			d.Verdict, d.Location, d.Status = Redirect, location, f.Redirect.Status
			return d
		case f.Fault:
			d.Verdict = Fault
			return d
		default:
			d.Rule = rule
		}
	}
	if p.limit != nil {
		if scope, ok := p.limit.take(c.Identity, head.Now); !ok {
			d.Verdict, d.LimitScope = Limited, scope
			return d
		}
	}
	d.Verdict = Allow
	return d
}

// ForwardPath is the path the application is to see for a request with this
// path: the one that was judged. ok is false when that is the path as sent.
func (p *Port) ForwardPath(raw string) (path string, ok bool) {
	if !p.pathSensitive {
		return "", false
	}
	normal, ok := NormalPath(raw)
	return normal, ok && normal != raw
}
