package transition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/objects"
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
	// member is a write of a group. What is written by a status counts by nothing
	// before: cause is the world in which it does not count yet.
	type member struct {
		history.Write
		cause string
	}
	kinds := map[string][]member{}
	var order []string
	cause := ""
	for _, w := range group {
		if worlds[w.World] == nil {
			return version{}, fmt.Errorf("world %s after %s %s is missing", w.World, w.Kind, w.Name)
		}
		if kinds[w.Kind] == nil {
			order = append(order, w.Kind)
		}
		if w.Verb == accepted {
			kinds[w.Kind] = append(kinds[w.Kind], member{w, cause})
			continue
		}
		kinds[w.Kind] = append(kinds[w.Kind], member{Write: w})
		cause = w.World
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
		for _, kind := range order {
			seen := rest % (len(kinds[kind]) + 1)
			rest /= len(kinds[kind]) + 1
			for _, w := range kinds[kind][:seen] {
				take(&world, worlds[w.World], w.Write)
				id = append(id, w.World+"/"+w.Kind+"/"+w.Namespace+"/"+w.Name)
			}
			for _, w := range kinds[kind][seen:] {
				if w.cause != "" {
					take(&world, worlds[w.cause], w.Write)
					id = append(id, w.cause+"/"+w.Kind+"/"+w.Namespace+"/"+w.Name)
				}
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
	if objects.Take(&into.World, from.World, w.Kind, w.Namespace, w.Name) {
		return
	}
	if w.Kind != podKind {
		into.World.Settings = from.World.Settings
		return
	}
	name := w.Namespace + "/" + w.Name
	is := func(pod *corev1.Pod) bool { return pod.Namespace == w.Namespace && pod.Name == w.Name }
	into.Pods = slices.DeleteFunc(slices.Clone(into.Pods), is)
	if at := slices.IndexFunc(from.Pods, is); at >= 0 {
		into.Pods = append(into.Pods, from.Pods[at])
	}
	if origin, there := from.World.Origins[name]; there {
		into.World.Origins = maps.Clone(into.World.Origins)
		if into.World.Origins == nil {
			into.World.Origins = map[string]oracle.Origin{}
		}
		into.World.Origins[name] = origin
	}
}

// accepted is the verb of a status that makes an object count.
const accepted = "accepted"

// podKind is how writes call pods.
const podKind = "Pod"
