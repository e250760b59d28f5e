package generate

import (
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
)

// Transition is a kind of edit.
type Transition string

// The transitions, which Transitions lists.
const (
	CreateServer         Transition = "create a Server"
	CreateAuthorization  Transition = "create an authorization"
	CreateAuthentication Transition = "create an authentication"
	CreateRoute          Transition = "create a route"
	DeleteServer         Transition = "delete a Server"
	DeleteAuthorization  Transition = "delete an authorization"
	DeleteAuthentication Transition = "delete an authentication"
	DeleteRoute          Transition = "delete a route"
	ChangeSelector       Transition = "change a selector"
	UnmatchSelector      Transition = "make a selector match nothing"
	ChangePort           Transition = "change a port"
	ChangeProtocol       Transition = "change a protocol"
	ChangeAccess         Transition = "change an access policy"
	ChangeClients        Transition = "change who is authorized"
	ChangeTarget         Transition = "change what is authorized"
	ChangeAuthentication Transition = "change an authentication"
	ChangeRoute          Transition = "change a route"
	LabelPods            Transition = "label pods"
	LabelServer          Transition = "label a Server"
	AnnotatePods         Transition = "annotate pods"
	AnnotateNamespace    Transition = "annotate the namespace"
	Touch                Transition = "annotate an object"
	Rename               Transition = "rename an object"
	Recreate             Transition = "delete and create an object"
	SwapWinner           Transition = "let the next Server win"
	Overlap              Transition = "create overlapping Servers at once"
)

// Transitions lists every kind of edit; tables derive from it.
func Transitions() []Transition {
	return []Transition{CreateServer, CreateAuthorization, CreateAuthentication, CreateRoute, DeleteServer, DeleteAuthorization, DeleteAuthentication, DeleteRoute,
		ChangeSelector, UnmatchSelector, ChangePort, ChangeProtocol, ChangeAccess, ChangeClients, ChangeTarget, ChangeAuthentication, ChangeRoute,
		LabelPods, LabelServer, AnnotatePods, AnnotateNamespace, Touch, Rename, Recreate, SwapWinner, Overlap}
}

// edit is a change by chance: actions that make one kind of transition.
type edit struct {
	transition Transition
	// name says what is changed, for the step.
	name    string
	actions []scenarios.Action
	// tells are the calls that tell a rule from its contrary after it.
	tells []place
}

// weights are how often each transition is tried.
func weights() []weighted[Transition] {
	return []weighted[Transition]{
		{7, CreateServer}, {12, CreateAuthorization}, {8, CreateAuthentication}, {6, CreateRoute},
		{5, DeleteServer}, {9, DeleteAuthorization}, {8, DeleteAuthentication}, {6, DeleteRoute},
		{3, ChangeSelector}, {3, UnmatchSelector}, {3, ChangePort}, {3, ChangeProtocol}, {3, ChangeAccess},
		{9, ChangeClients}, {8, ChangeTarget}, {12, ChangeAuthentication}, {8, ChangeRoute},
		{6, LabelPods}, {5, LabelServer}, {4, AnnotatePods}, {2, AnnotateNamespace}, {4, Touch},
		{6, Rename}, {4, Recreate}, {4, SwapWinner}, {3, Overlap},
	}
}

// edit makes one of a kind; ok is false where the state does not offer any.
func (b *builder) edit(t Transition) (e edit, ok bool) {
	e.transition = t
	switch t {
	case CreateServer:
		return e, b.create(&e, api.ServerKind)
	case CreateAuthorization:
		return e, b.create(&e, pick(b.random, api.ServerAuthorizationKind, api.AuthorizationPolicyKind))
	case CreateAuthentication:
		return e, b.create(&e, pick(b.random, api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind))
	case CreateRoute:
		return e, b.create(&e, b.routeKind())
	case DeleteServer:
		return e, b.delete(&e, api.ServerKind)
	case DeleteAuthorization:
		return e, b.delete(&e, api.ServerAuthorizationKind, api.AuthorizationPolicyKind)
	case DeleteAuthentication:
		return e, b.delete(&e, api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind)
	case DeleteRoute:
		return e, b.delete(&e, routeKinds...)
	case ChangeSelector, UnmatchSelector, ChangePort, ChangeProtocol, ChangeAccess:
		return e, b.changeServer(&e)
	case ChangeClients:
		return e, b.changeClients(&e)
	case ChangeTarget:
		return e, b.changeTarget(&e)
	case ChangeAuthentication:
		return e, b.changeAuthentication(&e)
	case ChangeRoute:
		return e, b.changeRoute(&e)
	case LabelPods, AnnotatePods, AnnotateNamespace, LabelServer, Touch:
		return e, b.annotate(&e)
	case Rename, Recreate:
		return e, b.again(&e)
	case SwapWinner:
		return e, b.swap(&e)
	case Overlap:
		return e, b.overlap(&e)
	}
	return e, false
}

var routeKinds = []string{api.HTTPRouteKind, api.HTTPRouteKind + "." + api.GatewayGroup, api.GRPCRouteKind}

func (b *builder) routeKind() string {
	return choose(b.random, weighted[string]{6, routeKinds[0]}, weighted[string]{2, routeKinds[1]}, weighted[string]{2, routeKinds[2]})
}

// make is a new object of a kind under one of the kind's names that is free.
func (b *builder) make(ref string) (object, string, bool) {
	k, _ := kindNamed(ref)
	var free []string
	for _, suffix := range suffixes[:k.most] {
		if name := k.stem + "-" + suffix; !slices.Contains(b.state.names(ref), name) {
			free = append(free, name)
		}
	}
	if len(free) == 0 {
		return nil, "", false
	}
	name := pick(b.random, free...)
	// The storage version for the most part; the others have fewer fields.
	version := k.storage()
	if b.chance(30) {
		version = pick(b.random, k.versions...)
	}
	metadata := object{"name": name}
	if k.ref == api.ServerKind && b.chance(70) {
		metadata["labels"] = object{setLabel: pick(b.random, sets...)}
	}
	return object{"apiVersion": k.group + "/" + version, "kind": k.kind, "metadata": metadata, "spec": k.spec(b, version)}, name, true
}

func (b *builder) create(e *edit, ref string) bool {
	made, name, ok := b.make(ref)
	if !ok {
		return false
	}
	e.name = "create " + ref + " " + name
	e.actions = []scenarios.Action{{Apply: []scenarios.Object{{Content: made}}}}
	return true
}

// one is an object of some kinds, by chance; nil when there is none.
func (b *builder) one(refs ...string) *entry {
	var all []*entry
	for _, ref := range refs {
		all = append(all, b.state.of(ref)...)
	}
	if len(all) == 0 {
		return nil
	}
	return pick(b.random, all...)
}

func (b *builder) delete(e *edit, refs ...string) bool {
	one := b.one(refs...)
	if one == nil {
		return false
	}
	e.name = "delete " + one.kind.ref + " " + one.name
	e.actions = []scenarios.Action{{Delete: []scenarios.Ref{{Kind: one.kind.ref, Name: one.name}}}}
	return true
}

// merge is the action that patches an object's spec. What the spec has and the
// patch does not, at the first level of the fields that it names, goes.
func (e *edit) merge(one *entry, spec object) {
	before, _ := one.content["spec"].(object)
	for key, value := range spec {
		replaced, isObject := value.(object)
		was, wasObject := before[key].(object)
		if !isObject || !wasObject {
			continue
		}
		for old := range was {
			if _, kept := replaced[old]; !kept {
				replaced[old] = nil
			}
		}
	}
	e.actions = []scenarios.Action{{Patch: &scenarios.Patch{Kind: one.kind.ref, Name: one.name, Merge: scenarios.Object{Content: object{"spec": spec}}}}}
}

func (b *builder) changeServer(e *edit) bool {
	one := b.one(api.ServerKind)
	if one == nil {
		return false
	}
	fresh := b.server(one.kind.storage())
	change := object{}
	switch e.transition {
	case ChangeSelector:
		change["podSelector"] = fresh["podSelector"]
	case UnmatchSelector:
		change["podSelector"] = object{"matchLabels": object{appLabel: nothing}}
	case ChangePort:
		change["port"] = fresh["port"]
	case ChangeProtocol:
		change["proxyProtocol"] = fresh["proxyProtocol"]
	case ChangeAccess:
		change["accessPolicy"] = string(pick(b.random, api.PolicyNames()...))
	}
	e.name = string(e.transition) + " of Server " + one.name
	e.merge(one, change)
	return true
}

func (b *builder) changeClients(e *edit) bool {
	one := b.one(api.ServerAuthorizationKind, api.AuthorizationPolicyKind)
	if one == nil {
		return false
	}
	e.name = "change whom " + one.kind.ref + " " + one.name + " admits"
	if one.kind.ref == api.ServerAuthorizationKind {
		e.merge(one, object{"client": b.client()})
	} else {
		e.merge(one, object{"requiredAuthenticationRefs": b.authorizationPolicy("")["requiredAuthenticationRefs"]})
	}
	return true
}

func (b *builder) changeTarget(e *edit) bool {
	one := b.one(api.ServerAuthorizationKind, api.AuthorizationPolicyKind)
	if one == nil {
		return false
	}
	e.name = "change the target of " + one.kind.ref + " " + one.name
	if one.kind.ref == api.ServerAuthorizationKind {
		e.merge(one, object{"server": b.serverAuthorization("")["server"]})
	} else {
		e.merge(one, object{"targetRef": b.authorizationPolicy("")["targetRef"]})
	}
	return true
}

func (b *builder) changeAuthentication(e *edit) bool {
	one := b.one(api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind)
	if one == nil {
		return false
	}
	e.name = "change " + one.kind.ref + " " + one.name
	if one.kind.ref == api.NetworkAuthenticationKind {
		e.merge(one, object{"networks": b.networks()})
		return true
	}
	spec := b.meshTLS("")
	for _, field := range []string{"identities", "identityRefs"} {
		if _, given := spec[field]; !given {
			spec[field] = nil
		}
	}
	e.merge(one, spec)
	return true
}

func (b *builder) changeRoute(e *edit) bool {
	one := b.one(routeKinds...)
	if one == nil {
		return false
	}
	fresh := one.kind.spec(b, one.kind.storage())
	e.name = "change " + one.kind.ref + " " + one.name
	field := pick(b.random, "parentRefs", "rules")
	e.merge(one, object{field: fresh[field]})
	return true
}

// touched is an annotation that means nothing to anybody.
const touched = "meshproof.dev/touched"

func (b *builder) annotate(e *edit) bool {
	a := &scenarios.Annotate{Set: map[string]string{}}
	label := false
	value := func(key string, values ...string) {
		if b.chance(20) {
			a.Set, a.Remove = nil, []string{key}
		} else {
			a.Set[key] = pick(b.random, values...)
		}
	}
	switch e.transition {
	case LabelPods:
		label = true
		a.Workload = pick(b.random, b.workloads...)
		if b.chance(75) {
			value(tierLabel, tiers...)
		} else {
			a.Set[appLabel+"-touched"] = pick(b.random, "yes", "no")
		}
		e.name = "label the pods of " + a.Workload
	case AnnotatePods:
		a.Workload = pick(b.random, b.workloads...)
		switch b.IntN(3) {
		case 0:
			value(api.DefaultPolicyAnnotation, string(pick(b.random, api.PolicyNames()...)))
		case 1:
			if b.flows {
				return false
			}
			value(api.OpaquePortsAnnotation, "8080", "9090", "1-100")
		default:
			value(api.RequireIdentityAnnotation, "8080", "9090")
		}
		e.name = "annotate the pods of " + a.Workload
	case AnnotateNamespace:
		a.Kind, a.Name = "Namespace", namespaceValue
		value(api.DefaultPolicyAnnotation, string(pick(b.random, api.PolicyNames()...)))
		e.name = "annotate the namespace"
	case LabelServer, Touch:
		var refs []string
		for _, k := range kinds() {
			refs = append(refs, k.ref)
		}
		label = e.transition == LabelServer
		if label {
			refs = []string{api.ServerKind}
		}
		one := b.one(refs...)
		if one == nil {
			return false
		}
		a.Kind, a.Name = one.kind.ref, one.name
		e.name = "annotate " + a.Kind + " " + a.Name
		if label {
			value(setLabel, sets...)
			e.name = "label Server " + a.Name
		} else {
			a.Set[touched] = pick(b.random, "once", "again")
		}
	}
	action := scenarios.Action{Annotate: a}
	if label {
		action = scenarios.Action{Label: a}
	}
	e.actions = []scenarios.Action{action}
	return true
}

// again deletes an object and creates it anew, under its name or another one.
func (b *builder) again(e *edit) bool {
	var refs []string
	for _, k := range kinds() {
		refs = append(refs, k.ref)
	}
	one := b.one(refs...)
	if one == nil {
		return false
	}
	content := one.manifest()
	name := one.name
	if e.transition == Rename {
		var free []string
		for _, suffix := range suffixes[:one.kind.most] {
			if other := one.kind.stem + "-" + suffix; !slices.Contains(b.state.names(one.kind.ref), other) {
				free = append(free, other)
			}
		}
		if len(free) == 0 {
			return false
		}
		name = pick(b.random, free...)
		metadata := content["metadata"].(object)
		metadata["name"] = name
	}
	e.name = "delete and create " + one.kind.ref + " " + one.name
	if name != one.name {
		e.name = "rename " + one.kind.ref + " " + one.name + " to " + name
	}
	remove := scenarios.Action{Delete: []scenarios.Ref{{Kind: one.kind.ref, Name: one.name}}}
	create := scenarios.Action{Apply: []scenarios.Object{{Content: content}}}
	e.actions = []scenarios.Action{remove, create}
	if name != one.name && b.chance(50) {
		e.actions = []scenarios.Action{create, remove}
	}
	return true
}

// manifest is the object as it could be applied anew.
func (e *entry) manifest() object {
	out := copied(e.content).(object)
	out["apiVersion"] = e.kind.group + "/" + e.kind.storage()
	return out
}

// copied is a deep copy.
func copied(value any) any {
	switch value := value.(type) {
	case object:
		out := make(object, len(value))
		for key, inner := range value {
			out[key] = copied(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, inner := range value {
			out[i] = copied(inner)
		}
		return out
	}
	return value
}

// swap deletes the oldest of several Servers, so that a port that it shared goes
// to the next.
func (b *builder) swap(e *edit) bool {
	servers := b.state.of(api.ServerKind)
	if len(servers) < 2 {
		return false
	}
	slices.SortStableFunc(servers, func(a, b *entry) int { return a.born - b.born })
	e.name = "delete the oldest Server " + servers[0].name
	e.actions = []scenarios.Action{{Delete: []scenarios.Ref{{Kind: api.ServerKind, Name: servers[0].name}}}}
	return true
}

// overlap creates two Servers of one port at once: most likely within a second,
// so that the names decide.
func (b *builder) overlap(e *edit) bool {
	first, name, ok := b.make(api.ServerKind)
	if !ok {
		return false
	}
	second, other, ok := b.make(api.ServerKind)
	if !ok || name == other {
		return false
	}
	second["spec"].(object)["port"] = first["spec"].(object)["port"]
	second["spec"].(object)["podSelector"] = copied(first["spec"].(object)["podSelector"])
	second["apiVersion"] = first["apiVersion"]
	delete(second["spec"].(object), "accessPolicy")
	e.name = "create Servers " + name + " and " + other + " at once"
	e.actions = []scenarios.Action{{Apply: []scenarios.Object{{Content: first}, {Content: second}}}}
	return true
}
