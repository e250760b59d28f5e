package transition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// maxCombinations bounds the worlds in between that a group is taken apart into;
// what is larger is taken apart no further, and any answer fits in its middle.
const maxCombinations = 1024

// version is a state of policy: Base, or what a write has made of it.
type version struct {
	// worlds that it can be; several in the middle of a group.
	worlds []string
	// partial says that it lies in the middle of a group, and anything that any
	// answer fits there, because there are too many worlds.
	partial, anything bool
}

// versions are Base and one for each write, by their numbers. In a group the
// writes before the last share one version: everything that a controller can have
// seen that watches each kind by itself, short of nothing and of all.
func versions(r *history.Recording, worlds map[string]*history.World) ([]version, error) {
	out := []version{{worlds: []string{r.Base}}}
	before := r.Base
	for from := 0; from < len(r.Writes); {
		to := from + 1
		for to < len(r.Writes) && r.Writes[to].Group == r.Writes[from].Group {
			to++
		}
		group := r.Writes[from:to]
		if len(group) > 1 {
			middle, err := between(before, group, worlds)
			if err != nil {
				return nil, fmt.Errorf("recording of %s: %w", r.Scenario, err)
			}
			for range group[1:] {
				out = append(out, middle)
			}
		}
		before = group[len(group)-1].World
		out = append(out, version{worlds: []string{before}})
		from = to
	}
	return out, nil
}

// between is the middle of a group that was written on a world. The worlds that it
// makes are added to the others.
func between(base string, group []history.Write, worlds map[string]*history.World) (version, error) {
	kinds := map[string][]history.Write{}
	var order []string
	for _, w := range group {
		if worlds[w.World] == nil {
			return version{}, fmt.Errorf("world %s after %s %s is missing", w.World, w.Kind, w.Name)
		}
		if kinds[w.Kind] == nil {
			order = append(order, w.Kind)
		}
		kinds[w.Kind] = append(kinds[w.Kind], w)
	}
	from := worlds[base]
	if from == nil {
		return version{}, fmt.Errorf("world %s is missing", base)
	}
	number := 1
	for _, kind := range order {
		if number *= len(kinds[kind]) + 1; number > maxCombinations {
			return version{partial: true, anything: true}, nil
		}
	}
	middle := version{partial: true}
	// Neither nothing, which is the version before, nor all, which is the one after.
	for combination := 1; combination < number-1; combination++ {
		rest, id := combination, []string{base}
		world := *from
		world.Pods = slices.Clone(from.Pods)
		for _, kind := range order {
			seen := rest % (len(kinds[kind]) + 1)
			rest /= len(kinds[kind]) + 1
			for _, w := range kinds[kind][:seen] {
				take(&world, worlds[w.World], w)
				id = append(id, w.World+"/"+w.Kind+"/"+w.Namespace+"/"+w.Name)
			}
		}
		world.ID = strings.Join(id, "+")
		worlds[world.ID] = &world
		middle.worlds = append(middle.worlds, world.ID)
	}
	return middle, nil
}

// take makes of one object of a world what it is in the other one: there, changed
// or gone. A kind that is no object of policy takes the settings along.
func take(into *history.World, from *history.World, w history.Write) {
	to, of := &into.World, &from.World
	switch w.Kind {
	case api.ServerKind:
		swap(&to.Servers, of.Servers, w)
	case api.ServerAuthorizationKind:
		swap(&to.ServerAuthorizations, of.ServerAuthorizations, w)
	case api.AuthorizationPolicyKind:
		swap(&to.AuthorizationPolicies, of.AuthorizationPolicies, w)
	case api.MeshTLSAuthenticationKind:
		swap(&to.MeshTLSAuthentications, of.MeshTLSAuthentications, w)
	case api.NetworkAuthenticationKind:
		swap(&to.NetworkAuthentications, of.NetworkAuthentications, w)
	case api.HTTPRouteKind:
		swap(&to.HTTPRoutes, of.HTTPRoutes, w)
	case api.GRPCRouteKind:
		swap(&to.GRPCRoutes, of.GRPCRoutes, w)
	case api.HTTPLocalRateLimitPolicyKind:
		swap(&to.RateLimits, of.RateLimits, w)
	case api.NamespaceKind:
		swap(&to.Namespaces, of.Namespaces, history.Write{Name: w.Name})
	case podKind:
		swap(&into.Pods, from.Pods, w)
		name := w.Namespace + "/" + w.Name
		to.Origins = maps.Clone(to.Origins)
		if origin, there := of.Origins[name]; there {
			if to.Origins == nil {
				to.Origins = map[string]oracle.Origin{}
			}
			to.Origins[name] = origin
		}
	default:
		to.Settings = of.Settings
	}
}

// podKind is how writes call pods.
const podKind = "Pod"

// named is what all objects have.
type named interface {
	GetName() string
	GetNamespace() string
}

// swap puts the written object of one list in the place of that of another. The
// order of a list means nothing.
func swap[T named](into *[]T, from []T, w history.Write) {
	other := func(o T) bool { return o.GetName() != w.Name || o.GetNamespace() != w.Namespace }
	kept := slices.DeleteFunc(slices.Clone(*into), func(o T) bool { return !other(o) })
	for _, o := range from {
		if !other(o) {
			kept = append(kept, o)
		}
	}
	*into = kept
}
