package index

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// PodSpec is all that policy depends on in a meshed pod.
type PodSpec struct {
	// UID tells a pod from a later one of the same name.
	UID    string
	Labels map[string]string
	// Declared holds the TCP ports of all containers, init containers included.
	Declared map[uint16]bool
	// Named maps port names, in the case they are written in, to those of their
	// numbers that are TCP.
	Named map[string][]uint16
	// Probes maps a port to the distinct paths of HTTP probes on it, sorted.
	Probes map[uint16][]string
	// DefaultPolicy is "" when the cluster's applies.
	DefaultPolicy api.PolicyName
	// OpaquePorts and IdentityPorts come from the pod's annotations (D-17, D-18).
	OpaquePorts   PortSet
	IdentityPorts PortSet
	// Problems are what could not be used, for an event on the pod.
	Problems Problems
}

// equal reports whether policy cannot tell the two from one another. It is asked
// for every update of every pod, hence written out; a test sees to it that no field
// is forgotten.
func (s *PodSpec) equal(other *PodSpec) bool {
	return s.UID == other.UID && s.DefaultPolicy == other.DefaultPolicy &&
		maps.Equal(s.Labels, other.Labels) && maps.Equal(s.Declared, other.Declared) &&
		maps.EqualFunc(s.Named, other.Named, slices.Equal[[]uint16]) && maps.EqualFunc(s.Probes, other.Probes, slices.Equal[[]string]) &&
		slices.Equal(s.OpaquePorts, other.OpaquePorts) && slices.Equal(s.IdentityPorts, other.IdentityPorts) &&
		slices.Equal(s.Problems, other.Problems)
}

// NewPodSpec reads a pod that carries api.ControlPlaneLabel. Every pod can be
// read: what cannot be used is left out and named in Problems.
func NewPodSpec(pod *corev1.Pod, dialect api.Dialect) PodSpec {
	spec := PodSpec{
		UID: string(pod.UID), Labels: pod.Labels,
		Declared: map[uint16]bool{}, Named: map[string][]uint16{}, Probes: map[uint16][]string{},
	}
	for container := range containers(pod) {
		for _, port := range container.Ports {
			number, ok := portNumber(int64(port.ContainerPort))
			if !ok || (port.Protocol != "" && port.Protocol != corev1.ProtocolTCP) {
				continue
			}
			spec.Declared[number] = true
			if port.Name != "" && !slices.Contains(spec.Named[port.Name], number) {
				spec.Named[port.Name] = append(spec.Named[port.Name], number)
			}
		}
		for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe, container.StartupProbe} {
			spec.addProbe(container, probe)
		}
	}
	for _, numbers := range spec.Named {
		slices.Sort(numbers)
	}
	spec.OpaquePorts = spec.portsAnnotation(pod, api.OpaquePortsAnnotation, dialect)
	spec.IdentityPorts = spec.portsAnnotation(pod, api.RequireIdentityAnnotation, dialect)
	spec.readDefaultPolicy(pod, dialect)
	return spec
}

// readDefaultPolicy takes the pod's default from the one place where the dialect
// keeps it.
func (s *PodSpec) readDefaultPolicy(pod *corev1.Pod, dialect api.Dialect) {
	annotation, annotated := pod.Annotations[api.DefaultPolicyAnnotation]
	if annotated && dialect.InvalidDefaultReported && !api.PolicyName(annotation).Valid() {
		s.Problems.add("metadata.annotations["+api.DefaultPolicyAnnotation+"]", fmt.Sprintf("%q is not one of %s, it has no effect", annotation, policyNames()))
	}
	value, field := annotation, ""
	if dialect.DefaultFixedAtCreation {
		value, field = proxyDefault(pod)
	}
	switch policy := api.PolicyName(value); {
	case policy.Valid():
		s.DefaultPolicy = policy
	case value != "" && field != "":
		s.Problems.add(field, fmt.Sprintf("%q is not one of %s, the cluster's default applies", value, policyNames()))
	}
}

// proxyDefault is the default policy that the pod's proxy was created with, and
// where it stands.
func proxyDefault(pod *corev1.Pod) (value, field string) {
	for container := range containers(pod) {
		if container.Name != api.ProxyContainer {
			continue
		}
		for _, variable := range container.Env {
			if variable.Name == api.ProxyDefaultPolicyVariable {
				return variable.Value, "spec.containers[" + container.Name + "].env[" + variable.Name + "]"
			}
		}
	}
	return "", ""
}

// addProbe keeps the path of an HTTP probe; other probes contribute nothing
// (P-01 to P-03).
func (s *PodSpec) addProbe(container *corev1.Container, probe *corev1.Probe) {
	if probe == nil || probe.HTTPGet == nil {
		return
	}
	port, ok := probePort(container, probe.HTTPGet.Port)
	if !ok {
		return
	}
	path, ok := probePath(probe.HTTPGet.Path)
	if !ok {
		s.Problems.add("spec.containers["+container.Name+"]", fmt.Sprintf("probe path %q does not begin with /, the probe is not authorized by itself", probe.HTTPGet.Path))
		return
	}
	if at, found := slices.BinarySearch(s.Probes[port], path); !found {
		s.Probes[port] = slices.Insert(s.Probes[port], at, path)
	}
}

// probePort resolves a probe's port within its own container.
func probePort(container *corev1.Container, port intstr.IntOrString) (uint16, bool) {
	if port.Type == intstr.Int {
		return portNumber(int64(port.IntVal))
	}
	for _, declared := range container.Ports {
		if strings.EqualFold(declared.Name, port.StrVal) && (declared.Protocol == "" || declared.Protocol == corev1.ProtocolTCP) {
			return portNumber(int64(declared.ContainerPort))
		}
	}
	return 0, false
}

// probePath is the path that requests of the probe are matched by: without the
// query. A path that is no absolute path cannot be matched.
func probePath(path string) (string, bool) {
	if path == "" {
		return "/", true
	}
	if cut := strings.IndexAny(path, "?#"); cut >= 0 {
		path = path[:cut]
	}
	unprintable := strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' })
	return path, strings.HasPrefix(path, "/") && !unprintable
}

// containers yields init containers too: native sidecars are among them.
func containers(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

func portNumber(n int64) (uint16, bool) { return uint16(n), n >= 1 && n <= 65535 }

func policyNames() string {
	names := make([]string, 0, len(api.PolicyNames()))
	for _, name := range api.PolicyNames() {
		names = append(names, string(name))
	}
	return strings.Join(names, ", ")
}
