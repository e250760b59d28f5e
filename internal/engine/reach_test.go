package engine

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/scenarios"
)

const reaching = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: reaching}
spec:
  summary: who calls whom through a Service
  workloads: [{name: app, kind: echo}, {name: other, kind: echo}]
  clients:
    - {name: alice, kind: meshed}
    - {name: stranger, kind: unmeshed, network: outside}
    - {name: bare, kind: unmeshed}
    - {name: tls, kind: tls-no-identity}
  steps:
    - name: first
      claims:
        - name: all
          matrix: {protocols: [http1], rows: [{target: "app:http", expect: {allowed: [alice, stranger, bare, tls]}}]}
        - {name: pod, call: {client: bare, target: "other:http", protocol: http1, via: pod, expect: allowed}}
        - {name: admin, call: {client: bare, target: "other:linkerd-admin", protocol: http1, expect: allowed}}
`

// withPods is a run that knows these pods.
func withPods(t *testing.T, capabilities cluster.Capabilities, pods ...*corev1.Pod) (*run, *scenarioRun) {
	t.Helper()
	set, err := scenarios.Parse("reaching.yaml", []byte(reaching), nil)
	if err != nil {
		t.Fatal(err)
	}
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, pod := range pods {
		if err := indexer.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	plan := scenarios.NewPlan(set, nil)
	e := &run{Options: Options{ID: "20261122-000000-abcd", Capabilities: capabilities}, plan: plan, pods: &podStore{lister: listers.NewPodLister(indexer)}}
	return e, newScenarioRun(e, plan.Scenarios[0])
}

func TestOnlyWhoDialsAServiceHimselfWaitsForItsRules(t *testing.T) {
	e, s := withPods(t, cluster.Capabilities{Nodes: 1, Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32")}})
	for _, c := range s.planned.Spec.Clients {
		s.clients[c.Name] = client{Client: c, clientPod: &clientPod{meshed: c.Kind == scenarios.Meshed, onHost: e.onHost(c)}}
	}
	got := s.reaches(func(*scenarios.Workload) bool { return true })
	slices.SortFunc(got, func(a, b reach) int { return len(a.client) - len(b.client) })
	if want := []reach{{"tls", "app"}, {"bare", "app"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAServiceIsListedWhenItsEndpointsAreItsPodsAndNoOthers(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "mp-abcd-reaching", Name: "app-1", UID: "new", Labels: map[string]string{"app": "app"}}}
	slice := func(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: "app-x", Labels: map[string]string{discoveryv1.LabelServiceName: "app"}}, Endpoints: endpoints}
	}
	endpoint := func(uid types.UID, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: &corev1.ObjectReference{UID: uid}}
	}
	for name, test := range map[string]struct {
		slice  *discoveryv1.EndpointSlice
		listed bool
	}{
		"its pod":                     {slice(endpoint("new", true)), true},
		"its pod, and one that ends":  {slice(endpoint("new", true), endpoint("old", false)), true},
		"none yet":                    {slice(), false},
		"its pod, which is not ready": {slice(endpoint("new", false)), false},
		"the old one too":             {slice(endpoint("new", true), endpoint("old", true)), false},
	} {
		e, s := withPods(t, cluster.Capabilities{}, pod)
		e.kube = &kube{typed: fake.NewClientset(test.slice)}
		if err := s.listed(t.Context(), pod.Namespace, "app", "app"); (err == nil) != test.listed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMeshedClientOnItsNodesNetworkSpeaksAsAProxyDoes(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{opaquePorts: "25,9000-9090"}}, Status: corev1.PodStatus{PodIP: "10.244.0.7"}}
	e := &run{}
	named := clients.Request{Protocol: clients.TCP, Address: "10.244.0.7:9090"}
	got, err := e.asProxy(t.Context(), named, pod, 9090, "app.ns")
	if err != nil || got.Address != "10.244.0.7:4143" || got.TLS != clients.OwnIdentity || got.ServerName != "app.ns" || *got.Transport != (clients.TransportHeader{Port: 9090}) {
		t.Errorf("a port that the pod calls opaque: %+v, %v", got, err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	got, err = e.asProxy(t.Context(), clients.Request{Protocol: clients.HTTP1, Address: "10.244.0.7:4191"}, pod, adminPort, "app.ns")
	if err != nil || got.Address != "10.244.0.7:4191" || got.Transport != nil || got.TLS != clients.OwnIdentity {
		t.Errorf("the proxy's own port: %+v, %v", got, err)
	}
}

func TestSharedClientsWithoutPrivilegesAreKeptApart(t *testing.T) {
	hosts, _ := withPods(t, cluster.Capabilities{Outside: cluster.Outside{How: cluster.OutsideHosts}})
	pods, _ := withPods(t, cluster.Capabilities{Outside: cluster.Outside{How: cluster.OutsidePods}})
	meshed, bare, stranger := scenarios.Client{Kind: scenarios.Meshed}, scenarios.Client{Kind: scenarios.TLSNoIdentity}, scenarios.Client{Kind: scenarios.Unmeshed, Network: scenarios.Outside}
	for _, test := range []struct {
		e    *run
		c    scenarios.Client
		want string
	}{
		{hosts, meshed, privileged}, {hosts, bare, restricted}, {hosts, stranger, privileged}, {pods, meshed, privileged}, {pods, bare, restricted}, {pods, stranger, restricted},
	} {
		s := newSharedClients(test.e)
		if got := s.spaces[s.namespaceOf(test.c)].podSecurity; got != test.want {
			t.Errorf("%+v lives under %s, want %s", test.c, got, test.want)
		}
	}
}
