package index

import (
	"iter"
	"maps"
	"slices"
)

// ways lead from an object to those of its namespace that depend on it, so that a
// change finds them without looking at all the others.
type ways struct {
	// watched files the labels of pods with watched ports, for the Servers that
	// select them.
	watched labelSets
	// selecting files the Servers' pod selectors by port, for pods that look for
	// theirs.
	selecting selectors
	// labelled files the Servers' own labels, and authorizing the selectors of
	// ServerAuthorizations over them.
	labelled    labelSets
	authorizing selectors
	// authorizations, routes and limits are those that name a Server.
	authorizations multimap[string, string]
	routes         multimap[string, Reference]
	limits         multimap[string, string]
	// policies are the AuthorizationPolicies on a target.
	policies multimap[target, string]
}

func newWays() ways {
	return ways{
		watched: newLabelSets(), selecting: newSelectors(), labelled: newLabelSets(), authorizing: newSelectors(),
		authorizations: multimap[string, string]{}, routes: multimap[string, Reference]{}, limits: multimap[string, string]{},
		policies: multimap[target, string]{},
	}
}

// multimap holds a set per key.
type multimap[K, V comparable] map[K]map[V]bool

func (m multimap[K, V]) add(key K, value V) {
	if m[key] == nil {
		m[key] = map[V]bool{}
	}
	m[key][value] = true
}

func (m multimap[K, V]) remove(key K, value V) {
	delete(m[key], value)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// portReferences yields how a Server may refer to the port of the pod.
func portReferences(p *PodSpec, port uint16) iter.Seq[PortReference] {
	return func(yield func(PortReference) bool) {
		if !yield(PortReference{Number: port}) {
			return
		}
		for name, numbers := range p.Named {
			if slices.Contains(numbers, port) && !yield(PortReference{Name: name}) {
				return
			}
		}
	}
}

// grantsOn yields the authorizations of a Server.
func (ns *namespace) grantsOn(name string, spec *ServerSpec) iter.Seq2[string, *AuthorizationSpec] {
	return func(yield func(string, *AuthorizationSpec) bool) {
		for authorization := range ns.ways.authorizations[name] {
			if !yield(authorization, ns.authorizations[authorization]) {
				return
			}
		}
		for authorization := range ns.ways.authorizing.matching(PortReference{}, spec.Labels) {
			if !yield(authorization, ns.authorizations[authorization]) {
				return
			}
		}
	}
}

// serversOf yields the Servers that an authorization is about.
func (ns *namespace) serversOf(spec *AuthorizationSpec) iter.Seq[string] {
	if spec.ServerSelector != nil {
		return ns.ways.labelled.fulfilling(spec.ServerSelector)
	}
	return func(yield func(string) bool) {
		if spec.ServerName != "" {
			yield(spec.ServerName)
		}
	}
}

// serversUnder yields the Servers whose policy a grant on the target is part of.
func (ns *namespace) serversUnder(t target) iter.Seq[string] {
	switch {
	case t.kind == Server:
		return slices.Values([]string{t.name})
	case t.kind == namespaceTarget:
		return maps.Keys(ns.servers)
	default:
		if route := ns.routes[Reference{t.kind, t.name}]; route != nil {
			return slices.Values(route.Servers)
		}
		return slices.Values([]string(nil))
	}
}
