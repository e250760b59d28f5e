package manifests

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/probed"
)

// Echo is the workload of package echo: ServiceAccount, Deployment, Service.
func Echo(o Options) []*unstructured.Unstructured {
	return o.deployment(corev1.Container{Name: "echo", Args: []string{"echo"}, Ports: []corev1.ContainerPort{
		{Name: echo.NameHTTP, ContainerPort: echo.PortHTTP}, {Name: echo.NameGRPC, ContainerPort: echo.PortGRPC},
		{Name: echo.NameTLS, ContainerPort: echo.PortTLS}, {Name: echo.NameTCP, ContainerPort: echo.PortTCP},
		{Name: echo.NameServerFirst, ContainerPort: echo.PortServerFirst},
	}})
}

// ProbedOptions says which probes a pod of package probed declares. A container
// has one readiness and one liveness probe at most, so kinds are tried side by
// side in several Deployments.
type ProbedOptions struct {
	Options
	// Readiness and Liveness are the kinds of probe, "" for none.
	Readiness, Liveness probed.Kind
	// Path of HTTP probes, probed.Path when empty.
	Path string
	// PeriodSeconds, 1 when 0.
	PeriodSeconds int32
	// ReadinessFailures and LivenessFailures are how many failures in a row
	// count, 1 when 0.
	ReadinessFailures, LivenessFailures int32
}

// Probed is the workload of package probed: ServiceAccount, Deployment, Service.
// An unknown kind of probe is an error.
func Probed(o ProbedOptions) ([]*unstructured.Unstructured, error) {
	container := corev1.Container{Name: "probed", Args: []string{"probed"}}
	for _, probe := range probed.Probes() {
		if probe.Port != 0 {
			container.Ports = append(container.Ports, corev1.ContainerPort{Name: probe.Name, ContainerPort: int32(probe.Port)})
		}
	}
	var err error
	if o.Readiness != "" {
		if container.ReadinessProbe, err = o.probe(o.Readiness, false); err != nil {
			return nil, err
		}
	}
	if o.Liveness != "" {
		if container.LivenessProbe, err = o.probe(o.Liveness, true); err != nil {
			return nil, err
		}
	}
	return o.deployment(container), nil
}

// probeTimeoutSeconds is long: what a policy denies is answered at once, and a
// busy node must not look like a denial.
const probeTimeoutSeconds = 5

func (o ProbedOptions) probe(kind probed.Kind, liveness bool) (*corev1.Probe, error) {
	for _, probe := range probed.Probes() {
		if probe.Kind != kind || probe.Liveness != liveness {
			continue
		}
		failures := o.ReadinessFailures
		if liveness {
			failures = o.LivenessFailures
		}
		made := &corev1.Probe{PeriodSeconds: max(o.PeriodSeconds, 1), TimeoutSeconds: probeTimeoutSeconds, SuccessThreshold: 1, FailureThreshold: max(failures, 1)}
		switch kind {
		case probed.HTTP:
			path := o.Path
			if path == "" {
				path = probed.Path
			}
			made.HTTPGet = &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(probe.Port)}
		case probed.TCP:
			made.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt(probe.Port)}
		case probed.GRPC:
			made.GRPC = &corev1.GRPCAction{Port: int32(probe.Port)}
		case probed.Exec:
			made.Exec = &corev1.ExecAction{Command: []string{agentPath, "probed", "check", probe.Name}}
		}
		return made, nil
	}
	return nil, fmt.Errorf("there is no %s probe", kind)
}
