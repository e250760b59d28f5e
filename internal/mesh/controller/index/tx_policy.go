package index

import (
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// SetAuthorization adds or replaces a ServerAuthorization.
func (tx *Tx) SetAuthorization(namespace, name string, spec AuthorizationSpec) {
	ns := tx.namespace(namespace)
	spec = spec.inForce(ns.authorizations[name], tx.index.config.Dialect)
	tx.authorization(ns, name, &spec)
}

// DeleteAuthorization withdraws what the ServerAuthorization granted.
func (tx *Tx) DeleteAuthorization(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		tx.authorization(ns, name, nil)
	}
}

func (tx *Tx) authorization(ns *namespace, name string, next *AuthorizationSpec) {
	before, changed := exchange(tx, ns, ns.authorizations, name, next)
	if !changed {
		return
	}
	self := referrer{api.ServerAuthorizationKind, ns.name, name}
	if before != nil {
		tx.affect(ns, ns.serversOf(before))
		ns.ways.authorizations.remove(before.ServerName, name)
		tx.unmention(self, before.accounts)
	}
	ns.ways.authorizing.set(PortReference{}, name, nil)
	if next == nil {
		tx.reduce(ns, before.usable())
		return
	}
	tx.affect(ns, ns.serversOf(next))
	if next.ServerSelector != nil {
		ns.ways.authorizing.set(PortReference{}, name, next.ServerSelector)
	} else {
		ns.ways.authorizations.add(next.ServerName, name)
	}
	tx.mention(self, next.accounts)
}

// SetPolicy adds or replaces an AuthorizationPolicy.
func (tx *Tx) SetPolicy(namespace, name string, spec PolicySpec) {
	ns := tx.namespace(namespace)
	spec = spec.inForce(ns.policies[name], tx.index.config.Dialect)
	tx.policy(ns, name, &spec)
}

// DeletePolicy withdraws what the AuthorizationPolicy granted.
func (tx *Tx) DeletePolicy(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		tx.policy(ns, name, nil)
	}
}

func (tx *Tx) policy(ns *namespace, name string, next *PolicySpec) {
	before, changed := exchange(tx, ns, ns.policies, name, next)
	if !changed {
		return
	}
	self := referrer{api.AuthorizationPolicyKind, ns.name, name}
	if before != nil {
		tx.affect(ns, ns.serversUnder(before.target))
		ns.ways.policies.remove(before.target, name)
		tx.unmention(self, before.mentions())
	}
	if next != nil {
		tx.affect(ns, ns.serversUnder(next.target))
		ns.ways.policies.add(next.target, name)
		tx.mention(self, next.mentions())
	} else {
		tx.reduce(ns, before.usable())
	}
}

// SetMeshTLS adds or replaces a MeshTLSAuthentication.
func (tx *Tx) SetMeshTLS(namespace, name string, spec MeshTLSSpec) {
	ns := tx.namespace(namespace)
	spec = spec.inForce(ns.meshTLS[name], tx.index.config.Dialect)
	tx.authentication(ns, name, &spec)
}

// DeleteMeshTLS withdraws what policies that require it granted.
func (tx *Tx) DeleteMeshTLS(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		tx.authentication(ns, name, nil)
	}
}

func (tx *Tx) authentication(ns *namespace, name string, next *MeshTLSSpec) {
	before, changed := exchange(tx, ns, ns.meshTLS, name, next)
	if !changed {
		return
	}
	self := referrer{api.MeshTLSAuthenticationKind, ns.name, name}
	if before != nil {
		tx.unmention(self, before.named)
	}
	if next != nil {
		tx.mention(self, next.named)
	}
	tx.mentioned(mention(self))
}

// SetNetworks adds or replaces a NetworkAuthentication.
func (tx *Tx) SetNetworks(namespace, name string, spec NetworksSpec) {
	ns := tx.namespace(namespace)
	spec = spec.inForce(ns.networks[name], tx.index.config.Dialect)
	if _, changed := exchange(tx, ns, ns.networks, name, &spec); changed {
		tx.mentioned(mention{api.NetworkAuthenticationKind, namespace, name})
	}
}

// DeleteNetworks withdraws what policies that require it granted.
func (tx *Tx) DeleteNetworks(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		if _, changed := exchange(tx, ns, ns.networks, name, nil); changed {
			tx.mentioned(mention{api.NetworkAuthenticationKind, namespace, name})
		}
	}
}

// SetRoute adds or replaces a route of the kind.
func (tx *Tx) SetRoute(kind Kind, namespace, name string, spec RouteSpec) {
	ns, ref := tx.namespace(namespace), Reference{kind, name}
	spec = spec.inForce(ns.routes[ref], tx.index.config.Dialect)
	tx.route(ns, ref, &spec)
}

// DeleteRoute leaves the requests that the route was for to the others, or to the
// built-in ones.
func (tx *Tx) DeleteRoute(kind Kind, namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		tx.route(ns, Reference{kind, name}, nil)
	}
}

func (tx *Tx) route(ns *namespace, ref Reference, next *RouteSpec) {
	before, changed := exchange(tx, ns, ns.routes, ref, next)
	if !changed {
		return
	}
	if before != nil {
		for _, server := range before.Servers {
			ns.ways.routes.remove(server, ref)
		}
		tx.affect(ns, slices.Values(before.Servers))
	}
	if next != nil {
		for _, server := range next.Servers {
			ns.ways.routes.add(server, ref)
		}
		tx.affect(ns, slices.Values(next.Servers))
	} else {
		tx.reduce(ns, before.understood())
	}
}

// SetRateLimit adds or replaces an HTTPLocalRateLimitPolicy.
func (tx *Tx) SetRateLimit(namespace, name string, spec RateLimitSpec) {
	ns := tx.namespace(namespace)
	spec = spec.inForce(ns.limits[name], tx.index.config.Dialect)
	tx.limit(ns, name, &spec)
}

// DeleteRateLimit lets the next limit of the Server hold, or none.
func (tx *Tx) DeleteRateLimit(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		tx.limit(ns, name, nil)
	}
}

func (tx *Tx) limit(ns *namespace, name string, next *RateLimitSpec) {
	before, changed := exchange(tx, ns, ns.limits, name, next)
	if !changed {
		return
	}
	self := referrer{api.HTTPLocalRateLimitPolicyKind, ns.name, name}
	if before != nil {
		ns.ways.limits.remove(before.Server, name)
		tx.affect(ns, slices.Values([]string{before.Server}))
		tx.unmention(self, before.clients)
	}
	if next != nil {
		ns.ways.limits.add(next.Server, name)
		tx.affect(ns, slices.Values([]string{next.Server}))
		tx.mention(self, next.clients)
	} else {
		tx.reduce(ns, before.understood())
	}
}

// SetAccount notes that a ServiceAccount exists; it only matters to findings.
func (tx *Tx) SetAccount(namespace, name string, _ struct{}) {
	if ns := tx.namespace(namespace); !ns.accounts[name] {
		ns.accounts[name] = true
		tx.mentioned(mention{api.ServiceAccountKind, namespace, name})
	}
}

// DeleteAccount notes that a ServiceAccount is gone.
func (tx *Tx) DeleteAccount(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil && ns.accounts[name] {
		delete(ns.accounts, name)
		tx.touch(namespace)
		tx.mentioned(mention{api.ServiceAccountKind, namespace, name})
	}
}

// AccountsKnown notes that all ServiceAccounts have been seen; before it none is
// said to be missing.
func (tx *Tx) AccountsKnown() {
	if tx.index.accountsKnown {
		return
	}
	tx.index.accountsKnown = true
	for name := range tx.index.namespaces {
		tx.touch(name)
	}
}

// reduce marks a namespace that has lost an object which counted.
func (tx *Tx) reduce(ns *namespace, counted bool) {
	if counted {
		mark(&tx.reduced, ns.name)
	}
}

// mention notes what an object refers to in whatever namespace.
func (tx *Tx) mention(self referrer, all []mention) {
	for _, m := range all {
		if tx.index.mentions[m] == nil {
			tx.index.mentions[m] = map[referrer]bool{}
		}
		tx.index.mentions[m][self] = true
	}
}

func (tx *Tx) unmention(self referrer, all []mention) {
	for _, m := range all {
		delete(tx.index.mentions[m], self)
		if len(tx.index.mentions[m]) == 0 {
			delete(tx.index.mentions, m)
		}
	}
}

// mentioned marks what depends on an object that others refer to: findings of
// whoever does, and what policies grant that require it.
func (tx *Tx) mentioned(m mention) {
	for self := range tx.index.mentions[m] {
		tx.touch(self.namespace)
		if ns := tx.index.namespaces[self.namespace]; ns != nil && self.kind == api.AuthorizationPolicyKind {
			tx.affect(ns, ns.serversUnder(ns.policies[self.name].target))
		}
	}
}
