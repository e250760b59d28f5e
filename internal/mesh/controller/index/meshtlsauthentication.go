package index

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// MeshTLSSpec is all that policy depends on in a MeshTLSAuthentication.
type MeshTLSSpec struct {
	UID            string
	Authentication Authentication
	// named are the ServiceAccounts and Namespaces that it refers to; they need
	// not exist.
	named []mention
	// Problems, if any, make it admit nobody, unless kept is set.
	Problems Problems
	// kept means that the rest is the previous version, still in force although
	// the object now has Problems.
	kept bool
}

// NewMeshTLSSpec reads a MeshTLSAuthentication.
func (c Config) NewMeshTLSSpec(authentication *api.MeshTLSAuthentication) MeshTLSSpec {
	spec := MeshTLSSpec{UID: string(authentication.UID)}
	identities, refs := authentication.Spec.Identities, authentication.Spec.IdentityRefs
	switch {
	case len(identities) > 0 && len(refs) > 0:
		spec.Problems.add("spec", "holds both identities and identityRefs, want one of them")
	case len(identities)+len(refs) == 0:
		spec.Problems.add("spec", "names no client, it admits nobody")
	}
	var read identityList
	for i, identity := range identities {
		if identity == "" {
			spec.Problems.add(fmt.Sprintf("spec.identities[%d]", i), "is empty")
			continue
		}
		read.add(identity)
	}
	for i, ref := range refs {
		field := fmt.Sprintf("spec.identityRefs[%d]", i)
		switch {
		case ref.Name == "":
			spec.Problems.add(field+".name", "is empty")
		case refers(ref.Group, ref.Kind, "", api.ServiceAccountKind):
			namespace := orOwn(ref.Namespace, authentication.Namespace)
			read.names = append(read.names, c.serviceAccountIdentity(namespace, ref.Name))
			spec.named = append(spec.named, mention{api.ServiceAccountKind, namespace, ref.Name})
		case !refers(ref.Group, ref.Kind, "", api.NamespaceKind):
			spec.Problems.add(field, written(ref.Group, ref.Kind)+" has no identity, want a ServiceAccount or a Namespace")
		case ref.Namespace != "":
			spec.Problems.add(field+".namespace", "is given, but a Namespace is in none")
		default:
			read.suffixes = append(read.suffixes, strings.Split(c.namespaceIdentities(ref.Name), "."))
			spec.named = append(spec.named, mention{kind: api.NamespaceKind, name: ref.Name})
		}
	}
	spec.Authentication = read.authentication()
	spec.named = distinct(spec.named)
	return spec
}

// NewUnreadableMeshTLSSpec stands for an object whose fields have other types
// than they should: it admits nobody.
func NewUnreadableMeshTLSSpec(uid string, err error) MeshTLSSpec {
	return MeshTLSSpec{UID: uid, Problems: Problems{{"spec", err.Error()}}}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old.
func (s MeshTLSSpec) inForce(old *MeshTLSSpec, dialect api.Dialect) MeshTLSSpec {
	if len(s.Problems) == 0 || dialect.InvalidRevokes || old == nil || !old.usable() {
		return s
	}
	kept := *old
	kept.Problems, kept.kept = s.Problems, true
	return kept
}

func (s *MeshTLSSpec) usable() bool { return len(s.Problems) == 0 || s.kept }

// identityList gathers names and suffixes of identities.
type identityList struct {
	names    []string
	suffixes [][]string
}

// add takes an identity as objects write it: * is any, *. begins a suffix, all
// else is a name, a * elsewhere included.
func (l *identityList) add(identity string) {
	switch {
	case identity == "*":
		l.suffixes = append(l.suffixes, []string{})
	case strings.HasPrefix(identity, "*."):
		l.suffixes = append(l.suffixes, strings.Split(identity[len("*."):], "."))
	default:
		l.names = append(l.names, identity)
	}
}

// authentication asks for any of the list. The order in objects means nothing; a
// fixed one keeps equal grants equal.
func (l identityList) authentication() Authentication {
	slices.Sort(l.names)
	slices.SortFunc(l.suffixes, slices.Compare)
	return Authentication{Kind: Identified, Identities: slices.Compact(l.names), Suffixes: slices.CompactFunc(l.suffixes, slices.Equal)}
}
