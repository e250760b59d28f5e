package engine

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/manifests"
)

// clientPod is a pod with an agent that calls.
type clientPod struct {
	name    types.NamespacedName
	meshed  bool
	address netip.Addr
	agent   *control.Client
	// identity is the mesh identity of a meshed client's pod.
	identity string
}

// podName is the same for clients that can share a pod: those that speak TLS
// for themselves call from an unmeshed pod.
func podName(c scenarios.Client) string {
	kind := "unmeshed"
	if c.Kind == scenarios.Meshed {
		kind = "meshed-" + account(c.ServiceAccount)
	}
	if c.Network == scenarios.Outside {
		kind += "-outside"
	}
	return "client-" + kind
}

// makeClientPod creates the pod of a client; one that is there is taken.
func (e *run) makeClientPod(ctx context.Context, namespace string, c scenarios.Client) error {
	serviceAccount := c.ServiceAccount
	if c.Kind != scenarios.Meshed {
		serviceAccount = ""
	}
	if err := e.makeAccount(ctx, namespace, serviceAccount); err != nil {
		return err
	}
	objects := manifests.Client(manifests.ClientOptions{Options: manifests.Options{Name: podName(c), Namespace: namespace, ServiceAccount: serviceAccount,
		Mesh: injected(c.Kind == scenarios.Meshed), Outside: c.Network == scenarios.Outside, Labels: e.labels()}})
	for _, object := range objects {
		if _, err := e.kube.apply(ctx, object.Object, namespace, false); err != nil {
			return err
		}
	}
	return nil
}

// awaitClientPod waits for the pod and its agent.
func (e *run) awaitClientPod(ctx context.Context, namespace string, c scenarios.Client) (*clientPod, error) {
	name := types.NamespacedName{Namespace: namespace, Name: podName(c)}
	out := &clientPod{name: name, meshed: c.Kind == scenarios.Meshed, identity: identity(namespace, c.ServiceAccount)}
	err := e.pods.until(ctx, podsBudget, func() (bool, string) {
		pod, ok := e.pods.get(name)
		if !ok {
			return false, fmt.Sprintf("pod %s is not there", name)
		}
		if !ready(pod) {
			return false, why(pod)
		}
		if out.meshed != meshed(pod) {
			return false, fmt.Sprintf("pod %s should have a proxy: %v, and has one: %v", name, out.meshed, meshed(pod))
		}
		out.address, _ = netip.ParseAddr(pod.Status.PodIP)
		return true, ""
	})
	if err != nil {
		return nil, err
	}
	out.agent = control.New(e.forward.transport(name, control.Port))
	if err := eventually(ctx, settleBudget, func() error { return out.agent.Ready(ctx) }); err != nil {
		return nil, fmt.Errorf("the agent in %s: %w", name, err)
	}
	return out, nil
}

// sharedClients are the pods that scenarios have in common.
type sharedClients struct {
	e         *run
	namespace string
	make      sync.Once
	makeErr   error

	mu   sync.Mutex
	pods map[string]*sharedPod
}

type sharedPod struct {
	once sync.Once
	pod  *clientPod
	err  error
}

func newSharedClients(e *run) *sharedClients {
	return &sharedClients{e: e, namespace: "mp-" + e.short() + "-clients", pods: map[string]*sharedPod{}}
}

// ensure makes the namespace once.
func (s *sharedClients) ensure(ctx context.Context) error {
	s.make.Do(func() {
		if s.makeErr = s.e.makeNamespace(ctx, s.namespace, nil, nil); s.makeErr == nil {
			s.makeErr = s.e.makeAccount(ctx, s.namespace, "")
		}
	})
	return s.makeErr
}

// get returns the pod for a shared client; the first to ask has it made.
func (s *sharedClients) get(ctx context.Context, c scenarios.Client) (*clientPod, error) {
	if err := s.ensure(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	one := s.pods[podName(c)]
	if one == nil {
		one = &sharedPod{}
		s.pods[podName(c)] = one
	}
	s.mu.Unlock()
	one.once.Do(func() {
		if one.err = s.e.makeClientPod(ctx, s.namespace, c); one.err == nil {
			one.pod, one.err = s.e.awaitClientPod(ctx, s.namespace, c)
		}
	})
	return one.pod, one.err
}

// ensured says whether there is anything to remove.
func (s *sharedClients) ensured() bool {
	made := true
	s.make.Do(func() { made = false })
	return made && s.makeErr == nil
}

func (s *sharedClients) remove(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ensured() {
		_ = s.e.kube.typed.CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{})
	}
}

// client is a declared client with its pod.
type client struct {
	scenarios.Client
	*clientPod
}

// tls says how the client's own requests speak TLS to a server with that
// identity.
func (c client) tls(r clients.Request, server string) clients.Request {
	switch c.Kind {
	case scenarios.TLSNoIdentity:
		r.TLS, r.ServerName = clients.NoIdentity, server
	case scenarios.ForeignRoot:
		r.TLS, r.ServerName, r.ClaimedIdentity = clients.ForeignRoot, server, server
	}
	return r
}
