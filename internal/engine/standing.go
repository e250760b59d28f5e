package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/scenarios"
)

// Standing calls pods that stand already, from clients that are made for it and
// go with it. It changes nothing else: a client that has the identity of a
// ServiceAccount runs in that account's namespace, and all others in one of
// their own.
type Standing struct {
	e *run

	mu   sync.Mutex
	made []types.NamespacedName
}

// OpenStanding connects to the cluster. Of the options ID, Registry,
// ImagePullPolicy and Mesh count. It must be closed.
func OpenStanding(ctx context.Context, config *rest.Config, options Options) (*Standing, error) {
	e := &run{Options: options}
	var err error
	if e.kube, err = newKube(config); err != nil {
		return nil, err
	}
	e.kube.registry, e.kube.pullPolicy = e.Registry, e.ImagePullPolicy
	if e.pods, err = startPodStore(ctx, e.kube.typed); err != nil {
		return nil, err
	}
	e.forward = newForwarder(e.kube.config, e.kube.typed)
	e.shared = newSharedClients(e)
	return &Standing{e: e}, nil
}

// Caller is a client that calls standing pods.
type Caller struct {
	client
	s *Standing
}

// Address is the one that called pods see.
func (c *Caller) Address() netip.Addr { return c.address }

// Client makes a client of one of the kinds meshed, unmeshed and tls-no-identity;
// a meshed one is a ServiceAccount of a namespace, which both exist.
func (s *Standing) Client(ctx context.Context, kind scenarios.ClientKind, namespace, account string) (*Caller, error) {
	declared := scenarios.Client{Name: account, Kind: kind, ServiceAccount: account}
	if kind != scenarios.Meshed {
		pod, err := s.e.shared.get(ctx, declared)
		if err != nil {
			return nil, fmt.Errorf("make a client: %w", err)
		}
		return &Caller{client{Client: declared, clientPod: pod}, s}, nil
	}
	if _, err := s.e.kube.typed.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("find the client's ServiceAccount %s/%s: %w", namespace, account, err)
	}
	s.mu.Lock()
	s.made = append(s.made, types.NamespacedName{Namespace: namespace, Name: podName(declared)})
	s.mu.Unlock()
	if err := s.e.makeClientPod(ctx, namespace, declared); err != nil {
		return nil, fmt.Errorf("make a client in namespace %s: %w", namespace, err)
	}
	pod, err := s.e.awaitClientPod(ctx, namespace, declared)
	if err != nil {
		return nil, fmt.Errorf("make a client in namespace %s: %w", namespace, err)
	}
	return &Caller{client{Client: declared, clientPod: pod, identity: pod.identity}, s}, nil
}

// Call is one request to a port of a standing pod.
func (c *Caller) Call(ctx context.Context, pod *corev1.Pod, port uint16, r scenarios.Request) (clients.Outcome, error) {
	out := clients.Request{ID: uuid.NewString(), Protocol: clients.Protocol(r.Protocol), Address: hostPort(pod.Status.PodIP, int(port)),
		Method: r.Method, Path: r.Path, Host: r.Host, Headers: r.Headers, Timeout: callTimeout}
	if r.Protocol == scenarios.GRPC {
		out.Method, out.Path = r.Path, ""
		if out.Method == "" {
			out.Method = asked.EchoMethod
		}
	}
	out, err := c.tls(out, identity(pod.Namespace, pod.Spec.ServiceAccountName))
	if err != nil {
		return clients.Outcome{}, err
	}
	outcomes, err := c.agent.Calls(ctx, []clients.Request{out}, 1)
	switch {
	case err != nil:
		return clients.Outcome{}, fmt.Errorf("call %s from %s: %w", out.Address, c.name, err)
	case len(outcomes) != 1:
		return clients.Outcome{}, fmt.Errorf("call %s from %s: %d answers to one request", out.Address, c.name, len(outcomes))
	}
	return outcomes[0], nil
}

// Close removes the clients, also when ctx has ended.
func (s *Standing) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
	defer cancel()
	var errs []error
	grace := graceSeconds
	for _, name := range s.made {
		err := s.e.kube.typed.CoreV1().Pods(name.Namespace).Delete(ctx, name.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove the client %s: %w", name, err))
		}
	}
	s.e.shared.remove(ctx)
	s.e.awaitGone(ctx)
	s.e.forward.close()
	s.e.pods.close()
	return errors.Join(errs...)
}
