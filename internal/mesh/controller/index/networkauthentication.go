package index

import "github.com/meshproof/meshproof/internal/policy/api"

// NetworksSpec is all that policy depends on in a NetworkAuthentication.
type NetworksSpec struct {
	UID string
	// Networks is not empty unless there are Problems.
	Networks []Network
	// Problems, if any, make it admit nobody, unless kept is set.
	Problems Problems
	// kept means that the rest is the previous version, still in force although
	// the object now has Problems.
	kept bool
}

// NewNetworksSpec reads a NetworkAuthentication.
func NewNetworksSpec(authentication *api.NetworkAuthentication) NetworksSpec {
	spec := NetworksSpec{UID: string(authentication.UID)}
	spec.Networks = NewNetworks("spec.networks", authentication.Spec.Networks, &spec.Problems)
	if len(authentication.Spec.Networks) == 0 {
		spec.Problems.add("spec.networks", "is empty, it admits nobody")
	}
	return spec
}

// NewUnreadableNetworksSpec stands for an object whose fields have other types
// than they should: it admits nobody.
func NewUnreadableNetworksSpec(uid string, err error) NetworksSpec {
	return NetworksSpec{UID: uid, Problems: Problems{{"spec", err.Error()}}}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old.
func (s NetworksSpec) inForce(old *NetworksSpec, dialect api.Dialect) NetworksSpec {
	if len(s.Problems) == 0 || dialect.InvalidRevokes || old == nil || !old.usable() {
		return s
	}
	kept := *old
	kept.Problems, kept.kept = s.Problems, true
	return kept
}

func (s *NetworksSpec) usable() bool { return len(s.Problems) == 0 || s.kept }
