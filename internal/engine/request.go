package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/scenarios"
)

// request resolves a request of the scenario for a client.
func (s *scenarioRun) request(ctx context.Context, r *scenarios.Request, id string) (clients.Request, client, error) {
	from, ok := s.clients[r.Client]
	if !ok {
		return clients.Request{}, from, fmt.Errorf("client %s is not there", r.Client)
	}
	target, err := s.planned.Target(r.Target, r.Protocol)
	if err != nil {
		return clients.Request{}, from, err
	}
	via := r.Via
	if from.onHost || r.Transport != nil {
		via = scenarios.ViaPod
	}
	address, pod, err := s.address(ctx, target, via)
	if err != nil {
		return clients.Request{}, from, err
	}
	out := clients.Request{ID: id, Protocol: clients.Protocol(r.Protocol), Address: address, Method: r.Method, Path: r.Path, Host: r.Host, Headers: s.texts(r.Headers),
		Body: []byte(r.Body), Raw: []byte(r.Raw), Connection: clients.Connection(r.Connection), Timeout: r.Timeout, SpeakAfter: r.SpeakAfter, Dribbled: r.Dribbled, Keep: true}
	if out.Timeout == 0 {
		out.Timeout = callTimeout
	}
	if r.Protocol == scenarios.GRPC || r.Protocol == scenarios.GRPCStream {
		out.Method, out.Path = cmp.Or(r.Path, asked.Method(r.Protocol)), ""
	}
	if via == scenarios.ViaLoopback {
		out.Address = hostPort("127.0.0.1", target.Port)
	}
	server := identity(s.space(target.Workload.Namespace), s.accountOf(target))
	if from.onHost && from.meshed && meshed(pod) {
		out, err = s.e.asProxy(ctx, out, pod, target.Port, server)
		return out, from, err
	}
	if out, err = from.tls(out, server); err != nil {
		return out, from, err
	}
	if r.Transport != nil {
		out.Address = hostPort(pod.Status.PodIP, inboundPort)
		out.Transport = &clients.TransportHeader{Port: target.Port, Name: r.Transport.Name, Session: clients.Protocol(r.Transport.Session)}
	}
	return out, from, nil
}

// texts puts named values in.
func (s *scenarioRun) texts(values map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range values {
		out[key] = s.text(value)
	}
	return out
}

func (s *scenarioRun) accountOf(t scenarios.Target) string {
	if t.Workload.Kind == scenarios.FromManifest {
		return t.Workload.Parts[t.Component].ServiceAccount
	}
	if t.Workload.Kind != scenarios.Emojivoto {
		return t.Workload.ServiceAccount
	}
	if t.Component == "vote-bot" {
		return ""
	}
	return t.Component
}

// address is the Service's, unless the pod's is asked for or the Service does
// not have the port; then the pod comes with it, one that is ready if there is.
func (s *scenarioRun) address(ctx context.Context, t scenarios.Target, via scenarios.Via) (string, *corev1.Pod, error) {
	if throughService(t, via) {
		namespace := s.space(t.Workload.Namespace)
		service, err := s.service(ctx, namespace, t.Service)
		if err != nil {
			return "", nil, err
		}
		return hostPort(service.Spec.ClusterIP, t.ServicePort), nil, nil
	}
	pods := s.componentPods(t.Component)
	best := slices.IndexFunc(pods, ready)
	if best < 0 {
		best = slices.IndexFunc(pods, func(pod *corev1.Pod) bool { return pod.Status.PodIP != "" })
	}
	if best < 0 {
		return "", nil, fmt.Errorf("%s has no pod with an address", t.Component)
	}
	return hostPort(pods[best].Status.PodIP, t.Port), pods[best], nil
}

// throughService says whether a call goes to the Service's address.
func throughService(t scenarios.Target, via scenarios.Via) bool {
	return via != scenarios.ViaPod && via != scenarios.ViaLoopback && t.PortName != "" && t.PortName != scenarios.AdminPortName && t.Service != ""
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (s *scenarioRun) service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	s.mu.Lock()
	known := s.services[namespace+"/"+name]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	service, err := s.e.kube.typed.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find Service %s/%s: %w", namespace, name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[namespace+"/"+name] = service
	return service, nil
}
