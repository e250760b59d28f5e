package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/clients/certify"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/manifests"
)

// clientPod is a pod with an agent that calls.
type clientPod struct {
	name types.NamespacedName
	// meshed: its calls carry identity.
	meshed bool
	// onHost: it runs on its node's network, without a proxy, and a meshed one
	// speaks as a proxy does.
	onHost  bool
	address netip.Addr
	agent   *control.Client
	// identity is the mesh identity of a meshed client's pod.
	identity string
	// clock is the node's, seen from here.
	clock clock
}

// proxied says whether a proxy calls in its place, from ports of its own.
func (p *clientPod) proxied() bool { return p.meshed && !p.onHost }

// podName is the same for clients that can share a pod: those that speak TLS
// for themselves call from an unmeshed pod.
func podName(c scenarios.Client) string {
	kind := "unmeshed"
	switch c.Kind {
	case scenarios.Meshed:
		kind = "meshed-" + account(c.ServiceAccount)
	case scenarios.MeshedDirect:
		kind = "direct-" + account(c.ServiceAccount)
	}
	if c.Network == scenarios.Outside {
		kind += "-outside"
	}
	if c.Apart != "" {
		kind += "-apart-" + c.Apart
	}
	return "client-" + kind
}

// makeClientPod creates the pod of a client; one that is there is taken.
func (e *run) makeClientPod(ctx context.Context, namespace string, c scenarios.Client) error {
	serviceAccount := c.ServiceAccount
	if c.Kind != scenarios.Meshed && c.Kind != scenarios.MeshedDirect {
		serviceAccount = ""
	}
	if err := e.makeAccount(ctx, namespace, serviceAccount); err != nil {
		return err
	}
	onHost := e.onHost(c)
	options := manifests.ClientOptions{OnHost: onHost, Options: manifests.Options{Name: podName(c), Namespace: namespace, ServiceAccount: serviceAccount,
		Mesh: injected(c.Kind == scenarios.Meshed && !onHost), Outside: c.Network == scenarios.Outside && !onHost, Labels: e.labels(), Spread: e.labels(), Apart: c.Apart}}
	if onHost {
		var err error
		if options.Nodes, err = e.hostsOutside(ctx); err != nil {
			return err
		}
	}
	if c.Kind == scenarios.MeshedDirect || c.Kind == scenarios.Meshed && onHost {
		var err error
		if options.TrustAnchors, err = e.trustAnchors(ctx); err != nil {
			return err
		}
	}
	name := types.NamespacedName{Namespace: namespace, Name: podName(c)}
	return e.start(ctx, 1, func() error {
		for _, object := range manifests.Client(options) {
			if _, err := e.kube.apply(ctx, object.Object, namespace, false); err != nil {
				return err
			}
		}
		return nil
	}, func() []*corev1.Pod { return e.pods.named(name) })
}

// awaitClientPod waits for the pod and its agent.
func (e *run) awaitClientPod(ctx context.Context, namespace string, c scenarios.Client) (*clientPod, error) {
	name := types.NamespacedName{Namespace: namespace, Name: podName(c)}
	out := &clientPod{name: name, meshed: c.Kind == scenarios.Meshed, onHost: e.onHost(c), identity: identity(namespace, c.ServiceAccount)}
	var wrong error
	err := e.pods.started(ctx, podsBudget, func() (bool, string) {
		pod, ok := e.pods.get(name)
		if !ok {
			return false, fmt.Sprintf("pod %s is not there", name)
		}
		if !ready(pod) {
			return false, why(pod)
		}
		if out.proxied() != meshed(pod) {
			wrong = fmt.Errorf("pod %s should have a proxy: %v, and has one: %v", name, out.proxied(), meshed(pod))
			return true, "" // it stays so
		}
		out.address, _ = netip.ParseAddr(pod.Status.PodIP)
		return true, ""
	}, func() []*corev1.Pod { return e.pods.named(name) })
	if err = errors.Join(err, wrong); err != nil {
		return nil, err
	}
	port := control.Port
	if out.onHost {
		if port, err = e.controlPort(ctx, name); err != nil {
			return nil, err
		}
	}
	out.agent = control.New(e.forward.transport(name, port))
	if err := eventually(ctx, settleBudget, func() error { return out.agent.Ready(ctx) }); err != nil {
		return nil, fmt.Errorf("the agent in %s: %w", name, err)
	}
	out.clock = readClock(func() (time.Time, error) { return out.agent.Time(ctx) })
	return out, nil
}

// announceLimit bounds what is read of an agent's log to find its port, which
// is in its first line.
const announceLimit int64 = 4 << 10

// controlPort finds the port that an agent on its node's network has taken: a
// fixed one could be taken by another run's.
func (e *run) controlPort(ctx context.Context, name types.NamespacedName) (port int, err error) {
	limit := announceLimit
	err = eventually(ctx, settleBudget, func() error {
		text, err := e.kube.typed.CoreV1().Pods(name.Namespace).GetLogs(name.Name, &corev1.PodLogOptions{LimitBytes: &limit}).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("read the log of %s for its control port: %w", name, err)
		}
		var ok bool
		if port, ok = control.Announced(string(text)); !ok {
			return fmt.Errorf("%s has not said on which port it listens", name)
		}
		return nil
	})
	return port, err
}

// Where the mesh keeps its trust anchors for everybody to read.
const (
	anchorsName = "linkerd-identity-trust-roots"
	anchorsKey  = "ca-bundle.crt"
)

// trustAnchors are the mesh's roots in PEM.
func (e *run) trustAnchors(ctx context.Context) (string, error) {
	anchors, err := e.kube.typed.CoreV1().ConfigMaps(meshNamespace).Get(ctx, anchorsName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read the mesh's trust anchors: %w", err)
	}
	if anchors.Data[anchorsKey] == "" {
		return "", fmt.Errorf("read the mesh's trust anchors: ConfigMap %s/%s has no %s", meshNamespace, anchorsName, anchorsKey)
	}
	return anchors.Data[anchorsKey], nil
}

// sharedClients are the pods that scenarios have in common. Those with a proxy
// or on their node's network are in one namespace; the others, which need no
// privileges, are kept apart in one whose pods must not have any.
type sharedClients struct {
	e      *run
	spaces map[string]*sharedSpace

	mu   sync.Mutex
	pods map[string]*sharedPod
}

// sharedSpace is a namespace of shared clients.
type sharedSpace struct {
	name, podSecurity string

	mu   sync.Mutex
	made bool
	err  error
}

type sharedPod struct {
	once sync.Once
	pod  *clientPod
	err  error
}

// clientsNamespace is that of the shared clients with a proxy, and ${clients}.
func (e *run) clientsNamespace() string { return "mp-" + e.short() + "-clients" }

// bystandersNamespace is that of the shared clients that need no privileges.
func (e *run) bystandersNamespace() string { return "mp-" + e.short() + "-bystanders" }

func newSharedClients(e *run) *sharedClients {
	s := &sharedClients{e: e, spaces: map[string]*sharedSpace{}, pods: map[string]*sharedPod{}}
	s.spaces[e.clientsNamespace()] = &sharedSpace{name: e.clientsNamespace(), podSecurity: privileged}
	s.spaces[e.bystandersNamespace()] = &sharedSpace{name: e.bystandersNamespace(), podSecurity: restricted}
	return s
}

// namespaceOf says where a shared client lives.
func (s *sharedClients) namespaceOf(c scenarios.Client) string {
	if c.Kind == scenarios.Meshed || c.Kind == scenarios.MeshedDirect || s.e.onHost(c) {
		return s.e.clientsNamespace()
	}
	return s.e.bystandersNamespace()
}

// ensure makes a namespace once.
func (s *sharedClients) ensure(ctx context.Context, namespace string) error {
	space := s.spaces[namespace]
	space.mu.Lock()
	defer space.mu.Unlock()
	if space.made || space.err != nil {
		return space.err
	}
	if space.err = s.e.makeNamespace(ctx, namespace, map[string]string{podSecurity: space.podSecurity}, nil); space.err != nil {
		return space.err
	}
	space.made = true
	space.err = s.e.makeAccount(ctx, namespace, "")
	return space.err
}

// get returns the pod for a shared client; the first to ask has it made.
func (s *sharedClients) get(ctx context.Context, c scenarios.Client) (*clientPod, error) {
	namespace := s.namespaceOf(c)
	if err := s.ensure(ctx, namespace); err != nil {
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
		if one.err = s.e.makeClientPod(ctx, namespace, c); one.err == nil {
			one.pod, one.err = s.e.awaitClientPod(ctx, namespace, c)
		}
	})
	return one.pod, one.err
}

// namespaces are those that have been made.
func (s *sharedClients) namespaces() []string {
	var names []string
	for _, space := range s.spaces {
		space.mu.Lock()
		if space.made {
			names = append(names, space.name)
		}
		space.mu.Unlock()
	}
	slices.Sort(names)
	return names
}

func (s *sharedClients) remove(ctx context.Context) {
	for _, name := range s.namespaces() {
		s.e.deleteNamespace(ctx, name)
	}
}

// client is a declared client with its pod.
type client struct {
	scenarios.Client
	*clientPod
	// certificate is what a client of kind spiffe presents, in place of its pod's.
	certificate *clients.KeyPair
	identity    string
}

// identified says whether the client presents an identity that proxies verify.
func (c client) identified() bool {
	return c.Kind == scenarios.Meshed || c.Kind == scenarios.MeshedDirect || c.Kind == scenarios.SPIFFE
}

// tls says how the client's own requests speak TLS to a server with that
// identity.
func (c client) tls(r clients.Request, server string) (clients.Request, error) {
	switch c.Kind {
	case scenarios.MeshedDirect:
		r.TLS, r.ServerName = clients.OwnIdentity, server
	case scenarios.SPIFFE:
		r.TLS, r.ServerName, r.Certificate = clients.Presented, server, c.certificate
		if c.certificate == nil {
			return r, fmt.Errorf("client %s has no certificate", c.Name)
		}
	case scenarios.ForeignTLS:
		r.TLS, r.ServerName = clients.NoIdentity, applicationName
	case scenarios.TLSNoIdentity:
		r.TLS, r.ServerName = clients.NoIdentity, server
	case scenarios.ForeignRoot:
		r.TLS, r.ServerName, r.ClaimedIdentity = clients.ForeignRoot, server, server
	}
	return r, nil
}

// applicationName is the name in the certificate of an echo workload's own.
const applicationName = "echo.example.test"

// certify signs certificates for clients whose identity no pod has.
func (e *run) certify(ctx context.Context, identity string) (*clients.KeyPair, error) {
	secret, err := e.kube.typed.CoreV1().Secrets(meshNamespace).Get(ctx, issuerName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the mesh's issuer: %w", err)
	}
	issuer, err := certify.NewIssuer(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	return issuer.Sign(identity)
}

// issuerName is the Secret with the certificate and key that sign the mesh's.
const issuerName = "linkerd-identity-issuer"
