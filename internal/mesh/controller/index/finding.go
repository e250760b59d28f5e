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
// order, at most one per object and reason.
func (x *Index) Findings(name string) []Finding {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[name]
	if ns == nil {
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
	for serverName, server := range ns.servers {
		tell := func(reason Reason, message string) { add(api.ServerKind, serverName, server.UID, reason, message) }
		if len(server.Problems) > 0 {
			tell(Unusable, x.unusable(server.Problems))
		}
		if server.Pods == nil {
			continue
		}
		if without := ns.bystandersOf(server); len(without) > 0 {
			tell(NoProxy, "nothing is enforced on pods without a proxy: "+enumerate(without))
		}
		if lacking := x.undeclaredBy(ns, server); len(lacking) > 0 {
			tell(PortNotDeclared, fmt.Sprintf("port %s is not selected where no container declares it: %s", server.Port, enumerate(lacking)))
		}
		if ceded := x.ceded(ns, serverName, server); len(ceded) > 0 {
			tell(Overlapped, "an older Server decides: "+enumerate(ceded))
		}
	}
	for authorizationName, authorization := range ns.authorizations {
		if len(authorization.Problems) > 0 {
			add(api.ServerAuthorizationKind, authorizationName, authorization.UID, Unusable, x.unusable(authorization.Problems))
		} else if server := authorization.ServerName; server != "" && ns.servers[server] == nil {
			add(api.ServerAuthorizationKind, authorizationName, authorization.UID, NoSuchServer,
				fmt.Sprintf("there is no Server %q; access is granted once it exists", server))
		}
	}
	for podName, p := range ns.pods {
		if len(p.spec.Problems) > 0 {
			add("Pod", podName, p.spec.UID, SettingIgnored, p.spec.Problems.String())
		}
	}
	if len(ns.object.Problems) > 0 {
		add("Namespace", name, ns.object.UID, SettingIgnored, ns.object.Problems.String())
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

func (ns *namespace) bystandersOf(server *ServerSpec) []string {
	var names []string
	for name, labels := range ns.bystanders {
		if matches(server.Pods, labels) {
			names = append(names, name)
		}
	}
	return names
}

// undeclaredBy lists the selected pods that do not declare the Server's port. A
// name is expected of some of them only: it is how one Server covers the pods
// that have such a port.
func (x *Index) undeclaredBy(ns *namespace, server *ServerSpec) []string {
	if server.Port.Number != 0 && !x.config.Dialect.DeclaredPortsOnly {
		return nil
	}
	var lacking []string
	for name, p := range ns.pods {
		switch {
		case !server.selectsPod(&p.spec):
		case server.Port.Number != 0 && !p.spec.Declared[server.Port.Number]:
			lacking = append(lacking, name)
		case server.Port.Number == 0 && len(p.spec.Named[server.Port.Name]) == 0:
			lacking = append(lacking, name)
		case server.Port.Number == 0:
			return nil
		}
	}
	return lacking
}

// ceded lists the ports that the Server selects and another decides.
func (x *Index) ceded(ns *namespace, name string, server *ServerSpec) []string {
	var ceded []string
	for podName, p := range ns.pods {
		if !server.selectsPod(&p.spec) {
			continue
		}
		ports := p.spec.Named[server.Port.Name]
		if server.Port.Number != 0 {
			ports = []uint16{server.Port.Number}
		}
		for _, port := range ports {
			winner, _ := x.winner(ns, &p.spec, port)
			if winner != name && server.selectsPort(&p.spec, port, x.config.Dialect) {
				ceded = append(ceded, fmt.Sprintf("%s on port %d of %s", winner, port, podName))
			}
		}
	}
	return ceded
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
