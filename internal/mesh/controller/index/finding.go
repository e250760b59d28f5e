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
	// Kind is as in manifests, followed by its group where that is the Gateway
	// API's, as in HTTPRoute.gateway.networking.k8s.io.
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
	// NoSuchServer: the object names a Server that does not exist.
	NoSuchServer Reason = "NoSuchServer"
	// NoServers: the AuthorizationPolicy is about a namespace without Servers.
	NoServers Reason = "NoServers"
	// NoSuchRoute: the AuthorizationPolicy names a route that does not exist.
	NoSuchRoute Reason = "NoSuchRoute"
	// WrongGroup: the route that is named exists in another API group only.
	WrongGroup Reason = "WrongGroup"
	// NoSuchAuthentication: the AuthorizationPolicy requires an authentication that
	// does not exist or cannot be used, and grants nothing (X-45, U-06).
	NoSuchAuthentication Reason = "NoSuchAuthentication"
	// NoSuchAccount: the object names a ServiceAccount that does not exist.
	NoSuchAccount Reason = "NoSuchAccount"
	// NoSuchNamespace: the object names a Namespace that does not exist.
	NoSuchNamespace Reason = "NoSuchNamespace"
	// ParentIsNoServer: a parent of the route is a Gateway, which the kind is when
	// it is left out (C-27).
	ParentIsNoServer Reason = "ParentIsNoServer"
	// RouteIgnored: the whole route is left out of policy.
	RouteIgnored Reason = "RouteIgnored"
	// FilterIgnored: a filter of the route has no effect.
	FilterIgnored Reason = "FilterIgnored"
	// WrongProtocol: routes of the kind, or rate limits, mean nothing to a Server of
	// that protocol.
	WrongProtocol Reason = "WrongProtocol"
	// SettingIgnored: an annotation or field of a Pod or Namespace has no effect.
	SettingIgnored Reason = "SettingIgnored"
)

// Reasons lists all of them.
func Reasons() []Reason {
	return []Reason{
		Unusable, PortNotDeclared, NoProxy, Overlapped, NoSuchServer, NoServers, NoSuchRoute, WrongGroup, NoSuchAuthentication,
		NoSuchAccount, NoSuchNamespace, ParentIsNoServer, RouteIgnored, FilterIgnored, WrongProtocol, SettingIgnored,
	}
}

// Findings lists what is to be told about the objects of a namespace, in a fixed
// order, at most one per object and reason. It works on a copy of what is known,
// so that a large namespace holds up no change.
func (x *Index) Findings(name string) []Finding {
	v, known := x.view(name)
	if !known {
		return nil
	}
	f := &findings{namespace: name, view: v}
	f.aboutServers()
	f.aboutAuthorizations()
	f.aboutPolicies()
	f.aboutAuthentications()
	f.aboutRoutes()
	f.aboutLimits()
	for podName, p := range v.pods {
		f.problems("Pod", podName, p.UID, SettingIgnored, p.Problems)
	}
	f.problems(api.NamespaceKind, name, v.object.UID, SettingIgnored, v.object.Problems)
	slices.SortFunc(f.all, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Object.Kind, b.Object.Kind), strings.Compare(a.Object.Name, b.Object.Name), strings.Compare(string(a.Reason), string(b.Reason)))
	})
	return f.all
}

// findings gathers what is told about the objects of one namespace.
type findings struct {
	*view
	namespace string
	all       []Finding
}

func (f *findings) tell(kind, name, uid string, reason Reason, messages ...string) {
	if len(messages) == 0 {
		return
	}
	namespace := f.namespace
	if kind == api.NamespaceKind {
		namespace = ""
	}
	f.all = append(f.all, Finding{Object{kind, namespace, name, uid}, reason, strings.Join(messages, "; ")})
}

func (f *findings) problems(kind, name, uid string, reason Reason, problems Problems) {
	if len(problems) > 0 {
		f.tell(kind, name, uid, reason, problems.String())
	}
}

// unusable tells that the object cannot be understood, and whether it can.
func (f *findings) unusable(kind, name, uid, consequence string, problems Problems) bool {
	if len(problems) == 0 {
		return false
	}
	if !f.dialect.InvalidRevokes {
		consequence = "ignored, a previous valid version stays in force"
	}
	f.tell(kind, name, uid, Unusable, consequence+": "+problems.String())
	return true
}

// revoked is what becomes of an object that would admit clients.
const revoked = "admits nobody until it is valid"

func (f *findings) aboutServers() {
	facts := f.facts()
	for name, server := range f.servers {
		f.unusable(api.ServerKind, name, server.UID, revoked, server.Problems)
		fact := facts[name]
		if len(fact.unproxied) > 0 {
			f.tell(api.ServerKind, name, server.UID, NoProxy, "nothing is enforced on pods without a proxy: "+enumerate(fact.unproxied))
		}
		if len(fact.lacking) > 0 {
			f.tell(api.ServerKind, name, server.UID, PortNotDeclared,
				fmt.Sprintf("port %s is not selected where no container declares it: %s", server.Port, enumerate(fact.lacking)))
		}
		if len(fact.ceded) > 0 {
			f.tell(api.ServerKind, name, server.UID, Overlapped, "another Server decides: "+enumerate(fact.ceded))
		}
	}
}

// Namespaces lists those that the index knows of.
func (x *Index) Namespaces() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.namespaces))
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
