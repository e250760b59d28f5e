package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// mention is an object that another one names, in whatever namespace. What is
// mentioned may change or come into being, and concerns whoever mentions it.
type mention struct {
	// kind is as in manifests: an authentication, a ServiceAccount or a Namespace,
	// which has no namespace.
	kind, namespace, name string
}

func (m mention) compare(other mention) int {
	return cmp.Or(strings.Compare(m.kind, other.kind), strings.Compare(m.namespace, other.namespace), strings.Compare(m.name, other.name))
}

// distinct sorts mentions and leaves out repetitions.
func distinct(all []mention) []mention {
	slices.SortFunc(all, mention.compare)
	return slices.Compact(all)
}

func (m mention) String() string {
	if m.namespace == "" {
		return m.kind + " " + m.name
	}
	return m.kind + " " + m.namespace + "/" + m.name
}

// referrer is an object that mentions others.
type referrer struct{ kind, namespace, name string }

// target is what an AuthorizationPolicy grants access to, in its own namespace.
type target struct {
	// kind is Server, a kind of route, or namespaceTarget.
	kind Kind
	// name is in lower case for routes, which are named in any case, and
	// empty for the Namespace.
	name string
}

// namespaceTarget stands for all Servers of the namespace.
const namespaceTarget Kind = api.NamespaceKind

// coreGroup is how Kubernetes' own group may be spelt out in references.
const coreGroup = "core"

// refers reports whether a reference is to the kind, whatever the case it is
// written in.
func refers(group, kind, wantGroup, wantKind string) bool {
	if wantGroup == "" && strings.EqualFold(group, coreGroup) {
		group = ""
	}
	return strings.EqualFold(group, wantGroup) && strings.EqualFold(kind, wantKind)
}

// orOwn is the namespace that a reference means.
func orOwn(namespace, own string) string {
	if namespace == "" {
		return own
	}
	return namespace
}

// written is a reference's group and kind as messages show them.
func written(group, kind string) string {
	if group == "" {
		return kind
	}
	return kind + " of group " + group
}
