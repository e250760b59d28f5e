package index

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Finding says that an object does not do what it seems to. These kinds have no
// status, so this is how a user learns of it.
type Finding struct {
	Object  Object
	Reason  Reason
	Message string
}

// Object names what a finding is about.
type Object struct {
	// Kind is as in manifests: Server, ServerAuthorization, Pod or Namespace.
	Kind string
	// Namespace is empty for Namespaces.
	Namespace, Name, UID string
}

// Reason enumerates findings; it is the reason of the event.
type Reason string

// The reasons.
const (
	// Unusable: the object cannot be understood and grants nothing, or its
	// previous version stays in force, as the dialect has it.
	Unusable Reason = "Unusable"
	// PortNotDeclared: pods that the Server selects do not declare its port.
	PortNotDeclared Reason = "PortNotDeclared"
	// NoProxy: the Server selects pods where nothing can enforce it.
	NoProxy Reason = "NoProxy"
	// Overlapped: another Server decides on a port that this one selects.
	Overlapped Reason = "Overlapped"
	// NoSuchServer: the ServerAuthorization names a Server that does not exist.
	NoSuchServer Reason = "NoSuchServer"
	// SettingIgnored: an annotation or field of a Pod or Namespace has no effect.
	SettingIgnored Reason = "SettingIgnored"
)

// Reasons lists all of them.
func Reasons() []Reason {
	return []Reason{Unusable, PortNotDeclared, NoProxy, Overlapped, NoSuchServer, SettingIgnored}
}

// Findings lists what is to be told about the objects of a namespace, in a fixed
// order, at most one per object and reason. It works on a copy of what is known,
// so that a large namespace holds up no change.
func (x *Index) Findings(name string) []Finding {
	v, known := x.view(name)
	if !known {
		return nil
	}
	var all []Finding
	add := func(kind, objectName, uid string, reason Reason, message string) {
		namespace := name
		if kind == "Namespace" {
			namespace = ""
		}
		all = append(all, Finding{Object{kind, namespace, objectName, uid}, reason, message})
	}
	facts := v.facts()
	for serverName, server := range v.servers {
		tell := func(reason Reason, message string) { add(api.ServerKind, serverName, server.UID, reason, message) }
		if len(server.Problems) > 0 {
			tell(Unusable, x.unusable(server.Problems))
		}
		f := facts[serverName]
		if len(f.unproxied) > 0 {
			tell(NoProxy, "nothing is enforced on pods without a proxy: "+enumerate(f.unproxied))
		}
		if len(f.lacking) > 0 {
			tell(PortNotDeclared, fmt.Sprintf("port %s is not selected where no container declares it: %s", server.Port, enumerate(f.lacking)))
		}
		if len(f.ceded) > 0 {
			tell(Overlapped, "another Server decides: "+enumerate(f.ceded))
		}
	}
	for authorizationName, authorization := range v.authorizations {
		if len(authorization.Problems) > 0 {
			add(api.ServerAuthorizationKind, authorizationName, authorization.UID, Unusable, x.unusable(authorization.Problems))
		} else if server := authorization.ServerName; server != "" && v.servers[server] == nil {
			add(api.ServerAuthorizationKind, authorizationName, authorization.UID, NoSuchServer,
				fmt.Sprintf("there is no Server %q; access is granted once it exists", server))
		}
	}
	for podName, p := range v.pods {
		if len(p.Problems) > 0 {
			add("Pod", podName, p.UID, SettingIgnored, p.Problems.String())
		}
	}
	if len(v.object.Problems) > 0 {
		add("Namespace", name, v.object.UID, SettingIgnored, v.object.Problems.String())
	}
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Object.Kind, b.Object.Kind), strings.Compare(a.Object.Name, b.Object.Name), strings.Compare(string(a.Reason), string(b.Reason)))
	})
	return all
}

// Namespaces lists those that the index knows of.
func (x *Index) Namespaces() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.namespaces))
}

func (x *Index) unusable(problems Problems) string {
	if x.config.Dialect.InvalidRevokes {
		return "admits nobody until it is valid: " + problems.String()
	}
	return "ignored, a previous valid version stays in force: " + problems.String()
}

// maxEnumerated is how many names a message holds.
const maxEnumerated = 3

func enumerate(names []string) string {
	slices.Sort(names)
	if more := len(names) - maxEnumerated; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxEnumerated], ", "), more)
	}
	return strings.Join(names, ", ")
}
