package injector

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// The annotations about where the proxy listens and what it waits for (D-20).
const (
	InboundPortAnnotation      = "config.linkerd.io/inbound-port"
	AdminPortAnnotation        = "config.linkerd.io/admin-port"
	ControlPortAnnotation      = "config.linkerd.io/control-port"
	PodInboundPortsAnnotation  = "config.linkerd.io/pod-inbound-ports"
	DiscoveryTimeoutAnnotation = "config.linkerd.io/proxy-inbound-discovery-cache-unused-timeout"
	NoDetectTimeoutAnnotation  = "config.linkerd.io/proxy-disable-inbound-protocol-detection-timeout"
)

// noDetectTimeout is what no connection waits for.
const noDetectTimeout = "8760h"

// listeners are the proxy's own ports in a pod. Outbound is on loopback and the
// same everywhere.
type listeners struct{ inbound, admin, control int }

var ordinary = listeners{api.InboundPort, api.AdminPort, api.ControlPort}

// chooseListeners takes a pod's own ports where they can be used: numbers that
// neither one another nor the proxy's loopback ports have.
func chooseListeners(pod *corev1.Pod, namespace *corev1.Namespace, note noting) listeners {
	chosen := ordinary
	for _, row := range []struct {
		key  string
		port *int
	}{{InboundPortAnnotation, &chosen.inbound}, {AdminPortAnnotation, &chosen.admin}, {ControlPortAnnotation, &chosen.control}} {
		value, from := annotation(pod, namespace, row.key)
		if from == "" {
			continue
		}
		port, ok := parsePort(value)
		if !ok {
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no port; it has no effect", row.key, from, value)
			continue
		}
		*row.port = int(port)
	}
	ports := []int{chosen.inbound, chosen.admin, chosen.control, outboundPort, observePort}
	slices.Sort(ports)
	if len(slices.Compact(ports)) < 5 {
		note(ReasonInvalidConfig, "the proxy's ports are not different ones: inbound %d, admin %d, control %d, and %d and %d of its own; the ordinary ones hold",
			chosen.inbound, chosen.admin, chosen.control, outboundPort, observePort)
		return ordinary
	}
	return chosen
}

// chooseInboundPorts lists the ports that the proxy asks about at once: those of
// the pod (K-05), or those of an annotation instead.
func chooseInboundPorts(pod *corev1.Pod, namespace *corev1.Namespace, resolve func(key, list string) string) string {
	if ports, from := annotation(pod, namespace, PodInboundPortsAnnotation); from != "" {
		return resolve(PodInboundPortsAnnotation, ports)
	}
	return inboundPorts(pod)
}

// chooseTimeouts are how long the proxy waits for a protocol to show, and how
// long it keeps what it has learnt of a port that nobody uses; "" is its own
// default, 90 s.
func chooseTimeouts(pod *corev1.Pod, namespace *corev1.Namespace, note noting) (detect, unused string) {
	detect = detectTimeout
	switch value, from := annotation(pod, namespace, NoDetectTimeoutAnnotation); value {
	case "true", "enabled":
		detect = noDetectTimeout
	case "false", "disabled":
	default:
		if from != "" {
			note(ReasonInvalidConfig, "annotation %s of the %s is %q, want true or false; it has no effect", NoDetectTimeoutAnnotation, from, value)
		}
	}
	if value, from := annotation(pod, namespace, DiscoveryTimeoutAnnotation); from != "" {
		if d, err := time.ParseDuration(value); err == nil && d > 0 {
			unused = d.String()
		} else {
			note(ReasonInvalidConfig, "annotation %s of the %s: %q is no duration such as 90s; it has no effect", DiscoveryTimeoutAnnotation, from, value)
		}
	}
	return detect, unused
}

// skipped are the ports that are never redirected (D-19).
func (l listeners) skipped() string { return strconv.Itoa(l.control) + "," + strconv.Itoa(l.admin) }

// awaiting is the command that holds up the pod's own containers until the proxy
// is ready.
func (l listeners) awaiting() []string {
	command := []string{agent, "proxy-await", "--timeout=" + awaitTimeout}
	if l.admin != ordinary.admin {
		command = append(command, "--url=http://127.0.0.1:"+strconv.Itoa(l.admin)+"/ready")
	}
	return command
}
