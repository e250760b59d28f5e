package oracle

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// HTTPProbes is P-01: the probes of a container that are HTTP requests.
func HTTPProbes(c corev1.Container) []*corev1.HTTPGetAction {
	var gets []*corev1.HTTPGetAction
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if probe != nil && probe.HTTPGet != nil {
			gets = append(gets, probe.HTTPGet)
		}
	}
	return gets
}

// ProbeNetworks is P-05: where probes may come from.
func ProbeNetworks(s Settings) []Network { return networks(s.ProbeNetworks) }

// ProbePort is P-02: a number as it is, a name by the TCP ports of the same
// container, ignoring case.
func ProbePort(port intstr.IntOrString, container corev1.Container) (uint16, bool) {
	if port.Type == intstr.Int {
		return uint16(port.IntVal), port.IntVal > 0 && port.IntVal <= 65535
	}
	for _, p := range container.Ports {
		if isTCP(p) && strings.EqualFold(p.Name, port.StrVal) {
			return uint16(p.ContainerPort), true
		}
	}
	return 0, false
}

// ProbePath is P-03: by default /, without a query or fragment, which the kubelet
// does not send as a path; what is no path of a URI is left out.
func ProbePath(path string) (string, bool) {
	if path == "" {
		return "/", true
	}
	path, _, _ = strings.Cut(path, "#")
	path, _, _ = strings.Cut(path, "?")
	for _, c := range []byte(path) {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return path, strings.HasPrefix(path, "/")
}

// probePaths are the distinct paths that the probes of all containers,
// initContainers included, ask for on the port.
func (o Oracle) probePaths(pod *corev1.Pod, port uint16) []string {
	var paths []string
	for _, c := range containers(pod) {
		for _, get := range o.Rules.HTTPProbes(c) {
			number, known := o.Rules.ProbePort(get.Port, c)
			path, ok := o.Rules.ProbePath(get.Path)
			if known && number == port && ok && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// ProbesGranted is P-05 to P-08 and the second row of 19.1: where the route for
// probes is added, given that the port has paths.
func ProbesGranted(server bool, protocol api.ProxyProtocol, routes int, settings Settings, dialect api.Dialect) (bool, string) {
	switch {
	case len(settings.ProbeNetworks) == 0:
		return false, "there are no probe networks"
	case protocol == api.ProtocolGRPC || protocol == api.ProtocolOpaque || protocol == api.ProtocolTLS:
		return false, "the port's protocol is " + string(protocol)
	case routes > 0:
		return false, "the Server has a route"
	case server && dialect.ProbesNeedAuthorization:
		return false, "on a port of a Server they need an authorization"
	default:
		return true, ""
	}
}

// probeRoute is P-04 and P-05.
func (o Oracle) probeRoute(paths []string) Route {
	label := Label{Kind: "default", Name: "probe"}
	return Route{Label: label, Probe: paths, Grants: []Grant{{Label: label, Networks: o.Rules.ProbeNetworks(o.World.Settings), Clients: Clients{Anyone: true}}}}
}
