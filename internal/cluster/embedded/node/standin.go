package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// standIns tell what stands in for images that are not here. The runtime is told
// too little of a container: not which ports it declares, nor whether it is one
// that must end.
type standIns struct{ pods kubernetes.Interface }

func newStandIns(config *rest.Config) (*standIns, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &standIns{client}, nil
}

// ofMesh are containers that a mesh adds to pods. Nothing stands in for them: it
// would let through what they deny.
var ofMesh = []string{"linkerd-proxy", "linkerd-init", "linkerd-network-validator", "linkerd-await"}

// args are a stand-in's arguments as a container of a pod.
func (s *standIns) args(ctx context.Context, namespace, name, container string) ([]string, error) {
	if slices.Contains(ofMesh, container) {
		return nil, fmt.Errorf("container %s is the mesh's own, and nothing stands in for it", container)
	}
	pod, err := s.pods.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read pod %s/%s: %w", namespace, name, err)
	}
	return standInArgs(&pod.Spec, container), nil
}

// standInArgs are those of a container of the pod: with -once for an init
// container that must end before the next one starts.
func standInArgs(spec *corev1.PodSpec, container string) []string {
	for _, c := range spec.InitContainers {
		if c.Name == container && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways) {
			return []string{"-once"}
		}
	}
	var ports []string
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name == container {
			ports = portsOf(&c)
		}
	}
	if len(ports) == 0 {
		return nil
	}
	return []string{"-ports=" + strings.Join(ports, ",")}
}

// portsOf are the TCP ports that a container declares, and those at which it is
// probed by number.
func portsOf(c *corev1.Container) []string {
	var ports []string
	add := func(port int32) {
		if text := strconv.Itoa(int(port)); port > 0 && !slices.Contains(ports, text) {
			ports = append(ports, text)
		}
	}
	for _, p := range c.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			add(p.ContainerPort)
		}
	}
	number := func(p intstr.IntOrString) {
		if p.Type == intstr.Int {
			add(p.IntVal)
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		switch {
		case probe == nil:
		case probe.HTTPGet != nil:
			number(probe.HTTPGet.Port)
		case probe.TCPSocket != nil:
			number(probe.TCPSocket.Port)
		case probe.GRPC != nil:
			add(probe.GRPC.Port)
		}
	}
	return ports
}
