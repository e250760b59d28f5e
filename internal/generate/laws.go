package generate

import (
	"cmp"
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
)

// Law says which two worlds must look the same to clients, whatever the rules say
// (N15). Servers and routes are created in the order of their names in both: then
// it makes no difference whether they are of one second or not.
type Law string

// The laws, which Laws lists.
const (
	// Renaming: objects have other names, and references follow.
	Renaming Law = "renaming"
	// Splitting: an authorization that names several clients is two that name some of
	// them each.
	Splitting Law = "splitting"
	// Ordering: objects are applied one by one, in another order.
	Ordering Law = "ordering"
	// Recreation: objects are deleted and created again.
	Recreation Law = "recreation"
)

// Laws lists every Law.
func Laws() []Law { return []Law{Renaming, Splitting, Ordering, Recreation} }

// twin makes of c the world that its steps come to, and another one that must look
// the same by one of the laws.
func (b *builder) twin(c *Case, p parts) error {
	objects := b.state.objects()
	slices.SortStableFunc(objects, func(a, b scenarios.Object) int {
		return cmp.Or(cmp.Compare(rank(a.Content), rank(b.Content)), cmp.Compare(text(a.Content, "metadata", "name"), text(b.Content, "metadata", "name")))
	})
	if len(objects) == 0 {
		return nil
	}
	c.Law = pick(b.random, Laws()...)
	whole := func(objects []scenarios.Object) []scenarios.Action { return []scenarios.Action{{Apply: objects}} }
	c.Scenario.Spec.Steps = []scenarios.Step{{Name: "the world", Actions: whole(objects), Claims: p.claims()}}
	c.Transitions = nil
	twin, err := Copy(c.Scenario)
	if err != nil {
		return err
	}
	twin.Metadata.Name += "-twin"
	twin.Spec.Summary += ", after " + string(c.Law)
	step := &twin.Spec.Steps[0]
	own := step.Actions[0].Apply
	switch c.Law {
	case Renaming:
		for i := range own {
			rename(own[i].Content)
		}
	case Splitting:
		step.Actions = whole(split(own))
	case Ordering:
		step.Actions = nil
		for _, o := range b.reordered(own) {
			step.Actions = append(step.Actions, scenarios.Action{Apply: []scenarios.Object{o}})
		}
	case Recreation:
		step.Claims = nil
		remove := scenarios.Action{}
		for _, o := range own {
			k, _ := kindOf(o.Content)
			remove.Delete = append(remove.Delete, scenarios.Ref{Kind: k.ref, Name: text(o.Content, "metadata", "name")})
		}
		again := scenarios.Step{Name: "the world again", Actions: []scenarios.Action{remove, {Apply: own}}, Claims: p.claims()}
		twin.Spec.Steps = append(twin.Spec.Steps, again)
	}
	c.Twin = twin
	return nil
}

// rank is the place of an object's kind. Kinds of one name share it: the oldest
// route comes first, of whatever group it is.
func rank(o object) int {
	return slices.IndexFunc(kinds(), func(k kind) bool { return k.kind == text(o, "kind") })
}

// renamed keeps the order of names.
func renamed(name string) string { return "other-" + name }

// rename gives an object another name, and those that it refers to.
func rename(o object) {
	change := func(of any) {
		if fields, ok := of.(object); ok {
			if name := text(fields, "name"); name != "" {
				fields["name"] = renamed(name)
			}
		}
	}
	change(o["metadata"])
	spec, _ := o["spec"].(object)
	change(spec["server"])
	byName := func(of any) {
		fields, _ := of.(object)
		if kind := text(fields, "kind"); kind != api.ServiceAccountKind && kind != api.NamespaceKind {
			change(fields)
		}
	}
	byName(spec["targetRef"])
	for _, list := range []string{"requiredAuthenticationRefs", "parentRefs"} {
		refs, _ := spec[list].([]any)
		for _, ref := range refs {
			byName(ref)
		}
	}
}

// split makes two of every ServerAuthorization that names several clients, and of
// every one that has several networks.
func split(objects []scenarios.Object) []scenarios.Object {
	var out []scenarios.Object
	for _, o := range objects {
		halves := [][]string{{"spec", "client", "networks"}, {"spec", "client", "meshTLS", "identities"}, {"spec", "client", "meshTLS", "serviceAccounts"}}
		at := slices.IndexFunc(halves, func(path []string) bool { return len(listAt(o.Content, path)) > 1 })
		if text(o.Content, "kind") != api.ServerAuthorizationKind || at < 0 {
			out = append(out, o)
			continue
		}
		all := listAt(o.Content, halves[at])
		for i, half := range [][]any{all[:1], all[1:]} {
			one := copied(o.Content).(object)
			setAt(one, halves[at], copied(half))
			metadata := one["metadata"].(object)
			metadata["name"] = text(o.Content, "metadata", "name") + []string{"-one", "-two"}[i]
			out = append(out, scenarios.Object{Content: one})
		}
	}
	return out
}

func listAt(o object, path []string) []any {
	var at any = o
	for _, key := range path {
		fields, _ := at.(object)
		at = fields[key]
	}
	list, _ := at.([]any)
	return list
}

func setAt(o object, path []string, value any) {
	for _, key := range path[:len(path)-1] {
		o = o[key].(object)
	}
	o[path[len(path)-1]] = value
}

// reordered are the objects in another order, in which Servers and routes keep
// theirs among themselves.
func (b *builder) reordered(objects []scenarios.Object) []scenarios.Object {
	out := slices.Clone(objects)
	b.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for _, dated := range [][]string{{api.ServerKind}, {api.HTTPRouteKind}, {api.GRPCRouteKind}} {
		var places []int
		var those []scenarios.Object
		for i, o := range out {
			if slices.Contains(dated, text(o.Content, "kind")) {
				places, those = append(places, i), append(those, o)
			}
		}
		slices.SortStableFunc(those, func(a, b scenarios.Object) int {
			return cmp.Compare(text(a.Content, "metadata", "name"), text(b.Content, "metadata", "name"))
		})
		for i, place := range places {
			out[place] = those[i]
		}
	}
	return out
}
