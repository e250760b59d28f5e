package destination

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

const (
	initContainer     = "linkerd-init"
	skipInboundFlag   = "--inbound-ports-to-ignore"
	opaqueAppProtocol = "linkerd.io/opaque"

	// defaultInbound is where a proxy takes traffic with a transport header; its
	// admin and control ports are never reached through it (T-30).
	defaultInbound, defaultAdmin, defaultControl = 4143, 4191, 4190
	listenVariable                               = "LINKERD2_PROXY_%s_LISTEN_ADDR"
)

// key names a namespaced object.
type key struct{ namespace, name string }

// pod is all that answers depend on in a pod.
type pod struct {
	key
	ips            []netip.Addr
	serviceAccount string
	// owner is the workload, "deployment/web"; "" for a bare pod.
	owner        string
	templateHash string
	// meshed pods have a proxy that speaks for them, except on the ports that
	// bypass it.
	meshed      bool
	skipInbound ports
	// inboundPort, adminPort and controlPort are where the proxy listens.
	inboundPort, adminPort, controlPort uint16
	// opaque holds the pod's own list; without one the namespace's applies.
	opaque    ports
	annotated bool
	hostPorts []hostPort
}

// hostPort is a named port of a container that the node has under another number.
type hostPort struct {
	host, container uint16
	name            string
}

// newPod also returns what the policy index is to know; it does not know pods
// without a proxy.
func newPod(p *corev1.Pod, controlPlane string, dialect api.Dialect) (*pod, index.PodSpec) {
	made := &pod{
		key:            key{p.Namespace, p.Name},
		serviceAccount: p.Spec.ServiceAccountName,
		owner:          owner(p),
		templateHash:   p.Labels["pod-template-hash"],
		meshed:         p.Labels[api.ControlPlaneLabel] == controlPlane && hasProxy(p),
	}
	// Pods that are done keep their address on record after it was given to
	// others; those on the host's network share the node's.
	if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && !p.Spec.HostNetwork {
		for _, ip := range p.Status.PodIPs {
			if address, err := netip.ParseAddr(ip.IP); err == nil {
				made.ips = append(made.ips, address.Unmap())
			}
		}
	}
	spec := index.NewPodSpec(p, dialect)
	made.opaque = portsOf(spec.OpaquePorts)
	_, made.annotated = p.Annotations[api.OpaquePortsAnnotation]
	for _, container := range p.Spec.InitContainers {
		if at := slices.Index(container.Args, skipInboundFlag); container.Name == initContainer && at >= 0 && at+1 < len(container.Args) {
			made.skipInbound = parsePorts(container.Args[at+1])
		}
	}
	made.inboundPort, made.adminPort, made.controlPort = listens(p, "INBOUND", defaultInbound), listens(p, "ADMIN", defaultAdmin), listens(p, "CONTROL", defaultControl)
	for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range container.Ports {
			if port.HostPort > 0 && port.Name != "" && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
				made.hostPorts = append(made.hostPorts, hostPort{uint16(port.HostPort), uint16(port.ContainerPort), port.Name})
			}
		}
	}
	return made, spec
}

// listens reads a port of the pod's proxy off its environment.
func listens(p *corev1.Pod, which string, otherwise uint16) uint16 {
	for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if container.Name != api.ProxyContainer {
			continue
		}
		for _, variable := range container.Env {
			if address, err := netip.ParseAddrPort(variable.Value); err == nil && variable.Name == fmt.Sprintf(listenVariable, which) && address.Port() != 0 {
				return address.Port()
			}
		}
	}
	return otherwise
}

func hasProxy(p *corev1.Pod) bool {
	is := func(c corev1.Container) bool { return c.Name == api.ProxyContainer }
	return slices.ContainsFunc(p.Spec.Containers, is) || slices.ContainsFunc(p.Spec.InitContainers, is)
}

// owner names the workload as metrics do. A ReplicaSet of a Deployment stands for
// it: its name is the Deployment's and the template's hash.
func owner(p *corev1.Pod) string {
	for _, reference := range p.OwnerReferences {
		if reference.Controller == nil || !*reference.Controller {
			continue
		}
		if hash := p.Labels["pod-template-hash"]; reference.Kind == "ReplicaSet" && hash != "" {
			if name, ok := strings.CutSuffix(reference.Name, "-"+hash); ok {
				return "deployment/" + name
			}
		}
		return strings.ToLower(reference.Kind) + "/" + reference.Name
	}
	return ""
}

// bypassed reports whether the pod's proxy does not see a port. The proxy's own
// ports are not redirected, but the proxy listens there itself.
func (p *pod) bypassed(port uint16) bool {
	return p.skipInbound.contains(port) && port != p.adminPort && port != p.controlPort
}

// service is all that answers depend on in a Service.
type service struct {
	key
	ips      []netip.Addr
	headless bool
	ports    []servicePort
	opaque   ports
	// annotated tells a list of its own from none.
	annotated bool
}

type servicePort struct {
	number uint16
	name   string
	opaque bool // by appProtocol
}

func newService(s *corev1.Service) *service {
	made := &service{key: key{s.Namespace, s.Name}, headless: s.Spec.ClusterIP == corev1.ClusterIPNone}
	for _, ip := range s.Spec.ClusterIPs {
		if address, err := netip.ParseAddr(ip); err == nil {
			made.ips = append(made.ips, address.Unmap())
		}
	}
	names := map[string]uint16{}
	for _, port := range s.Spec.Ports {
		if port.Protocol != "" && port.Protocol != corev1.ProtocolTCP {
			continue
		}
		names[port.Name] = uint16(port.Port)
		made.ports = append(made.ports, servicePort{uint16(port.Port), port.Name, port.AppProtocol != nil && *port.AppProtocol == opaqueAppProtocol})
	}
	list, annotated := s.Annotations[api.OpaquePortsAnnotation]
	made.opaque, made.annotated = parsePorts(list), annotated
	for item := range strings.SplitSeq(list, ",") {
		if number := names[strings.TrimSpace(item)]; number != 0 {
			made.opaque = append(made.opaque, portRange{number, number})
		}
	}
	return made
}

// port is the Service's port of that number, nil when it has none.
func (s *service) port(number uint16) *servicePort {
	for i := range s.ports {
		if s.ports[i].number == number {
			return &s.ports[i]
		}
	}
	return nil
}

// slice is all that answers depend on in an EndpointSlice.
type slice struct {
	service   key
	name      string
	ports     []slicePort
	endpoints []sliceEndpoint
}

type slicePort struct {
	number uint16
	name   string
	opaque bool
}

type sliceEndpoint struct {
	address netip.Addr
	// pod is the zero key for addresses that are no pod's.
	pod  key
	zone string
}

// newSlice keeps only endpoints that are ready. The second result is false for a
// slice that belongs to no Service.
func newSlice(s *discoveryv1.EndpointSlice) (*slice, bool) {
	made := &slice{service: key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}, name: s.Name}
	if made.service.name == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, false
	}
	for _, port := range s.Ports {
		if port.Port == nil || port.Protocol != nil && *port.Protocol != corev1.ProtocolTCP {
			continue
		}
		p := slicePort{number: uint16(*port.Port), opaque: port.AppProtocol != nil && *port.AppProtocol == opaqueAppProtocol}
		if port.Name != nil {
			p.name = *port.Name
		}
		made.ports = append(made.ports, p)
	}
	for _, endpoint := range s.Endpoints {
		if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
			continue
		}
		e := sliceEndpoint{}
		if endpoint.Zone != nil {
			e.zone = *endpoint.Zone
		}
		if target := endpoint.TargetRef; target != nil && target.Kind == "Pod" {
			e.pod = key{target.Namespace, target.Name}
		}
		for _, text := range endpoint.Addresses {
			if address, err := netip.ParseAddr(text); err == nil {
				e.address = address.Unmap()
				made.endpoints = append(made.endpoints, e)
			}
		}
	}
	return made, true
}
