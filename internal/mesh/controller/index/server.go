package index

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// ServerSpec is all that policy depends on in a Server.
type ServerSpec struct {
	UID    string
	Labels map[string]string
	// Created orders overlapping Servers; it has a resolution of one second.
	Created time.Time
	// Pods is nil when the Server selects no pods at all.
	Pods     *api.LabelSelector
	Port     PortReference
	Protocol Protocol
	// AccessPolicy is never empty.
	AccessPolicy api.PolicyName
	// Closed means that nobody is admitted, whatever else says so.
	Closed bool
	// Problems are what cannot be understood in the object as it is now.
	Problems Problems
}

// PortReference is a number or, when that is zero, a name.
type PortReference struct {
	Number uint16
	Name   string
}

func (r PortReference) String() string {
	if r.Number != 0 {
		return fmt.Sprint(r.Number)
	}
	return fmt.Sprintf("%q", r.Name)
}

// protocols has a row for each of api.ProxyProtocols.
var protocols = map[api.ProxyProtocol]Protocol{
	api.ProtocolUnknown: {Kind: Detect, DetectTimeout: DetectTimeout},
	api.ProtocolHTTP1:   {Kind: HTTP1},
	api.ProtocolHTTP2:   {Kind: HTTP2},
	api.ProtocolGRPC:    {Kind: GRPC},
	api.ProtocolOpaque:  {Kind: Opaque},
	api.ProtocolTLS:     {Kind: TLS},
}

// NewServerSpec reads a Server. What the object selects is kept as far as it can
// be understood, so that an unusable Server keeps its port closed instead of
// giving it back to a default policy that may be wider.
func NewServerSpec(server *api.Server) ServerSpec {
	spec := ServerSpec{
		UID: string(server.UID), Labels: server.Labels, Created: server.CreationTimestamp.Time,
		Pods: server.Spec.PodSelector, AccessPolicy: api.Deny, Protocol: protocols[api.ProtocolUnknown],
	}
	switch pods, external := server.Spec.PodSelector != nil, server.Spec.ExternalWorkloadSelector != nil; {
	case pods && external:
		spec.Problems.add("spec", "holds both podSelector and externalWorkloadSelector, want one of them")
	case !pods && !external:
		spec.Problems.add("spec", "holds neither podSelector nor externalWorkloadSelector")
	}
	var problem string
	if spec.Port, problem = portReference(server.Spec.Port); problem != "" {
		spec.Problems.add("spec.port", problem)
	}
	if name := server.Spec.ProxyProtocol; name != "" {
		protocol, known := protocols[name]
		if known {
			spec.Protocol = protocol
		} else {
			spec.Problems.add("spec.proxyProtocol", fmt.Sprintf("%q is not one of %s", name, protocolNames()))
		}
	}
	if name := server.Spec.AccessPolicy; name != "" {
		if name.Valid() {
			spec.AccessPolicy = name
		} else {
			spec.Problems.add("spec.accessPolicy", fmt.Sprintf("%q is not one of %s", name, policyNames()))
		}
	}
	return spec
}

// NewUnreadableServerSpec stands for an object whose fields have other types
// than they should: what it selected before stays selected, and closed.
func NewUnreadableServerSpec(uid string, created time.Time, err error) ServerSpec {
	return ServerSpec{UID: uid, Created: created, AccessPolicy: api.Deny, Protocol: protocols[api.ProtocolUnknown], Problems: Problems{{"spec", err.Error()}}}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old. A valid object counts as it is. An unusable one denies everybody on what
// it selects, or on what it last selected where that part cannot be understood;
// in Linkerd's dialect its previous version stays as it was.
func (s ServerSpec) inForce(old *ServerSpec, dialect api.Dialect) ServerSpec {
	if len(s.Problems) == 0 {
		return s
	}
	if !dialect.InvalidRevokes {
		if old == nil {
			return ServerSpec{UID: s.UID, Created: s.Created, Problems: s.Problems}
		}
		kept := *old
		kept.Problems = s.Problems
		return kept
	}
	s.Closed = true
	if old != nil && s.Pods == nil {
		s.Pods = old.Pods
	}
	if old != nil && s.Port == (PortReference{}) {
		s.Port = old.Port
	}
	return s
}

// understood reports whether the object, or a version of it that is kept, is one.
func (s *ServerSpec) understood() bool { return len(s.Problems) == 0 || s.Pods != nil }

func portReference(port intstr.IntOrString) (PortReference, string) {
	if port.Type == intstr.String {
		if port.StrVal == "" {
			return PortReference{}, "is empty, want a port number or name"
		}
		return PortReference{Name: port.StrVal}, ""
	}
	number, ok := portNumber(int64(port.IntVal))
	if !ok {
		return PortReference{}, fmt.Sprintf("%d is not between 1 and 65535", port.IntVal)
	}
	return PortReference{Number: number}, ""
}

// selectsAs reports whether both decide on the same ports in the same order.
func (s *ServerSpec) selectsAs(other *ServerSpec) bool {
	return s.Port == other.Port && s.Created.Equal(other.Created) && reflect.DeepEqual(s.Pods, other.Pods)
}

// selectsPort reports whether the Server is about this port of a pod that it
// selects.
func (s *ServerSpec) selectsPort(pod *PodSpec, port uint16, dialect api.Dialect) bool {
	if s.Port.Number != 0 {
		return s.Port.Number == port && (pod.Declared[port] || !dialect.DeclaredPortsOnly)
	}
	for _, number := range pod.Named[s.Port.Name] {
		if number == port {
			return true
		}
	}
	return false
}

// before orders Servers that select the same port: the older one decides, then
// the one whose name sorts first.
func (s *ServerSpec) before(name string, other *ServerSpec, otherName string) bool {
	if !s.Created.Equal(other.Created) {
		return s.Created.Before(other.Created)
	}
	return name < otherName
}

func protocolNames() string {
	names := make([]string, 0, len(api.ProxyProtocols()))
	for _, name := range api.ProxyProtocols() {
		names = append(names, string(name))
	}
	return strings.Join(names, ", ")
}
