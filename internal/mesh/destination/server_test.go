package destination

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	netpb "github.com/linkerd/linkerd2-proxy-api/go/net"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience ends a test that waits for a message which never comes.
const patience = 10 * time.Second

// cluster is an index with a client of the API in front of it.
type cluster struct {
	t      *testing.T
	ctx    context.Context
	index  *Index
	client pb.DestinationClient
}

func mkCluster(t *testing.T) *cluster {
	t.Helper()
	index, err := NewIndex(values.Default())
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	pb.RegisterDestinationServer(server, &Server{Index: index})
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///destination", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-served })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c := &cluster{t, ctx, index, pb.NewDestinationClient(conn)}
	// Namespaces are always there; tests that need an annotation put it again.
	c.namespace("emojivoto", nil)
	return c
}

func (c *cluster) namespace(name string, annotations map[string]string) {
	c.index.Namespaces().Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}})
}

// service puts voting-svc: 10.96.0.7, 80 to container port grpc.
func (c *cluster) service(edit func(*corev1.Service)) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "voting-svc"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"},
			Ports: []corev1.ServicePort{{Name: "grpc", Port: 80}}},
	}
	if edit != nil {
		edit(s)
	}
	c.index.Services().Put(s)
}

// slice puts the endpoints of voting-svc: port 8080 of the named pods.
func (c *cluster) slice(pods map[string]string, edit func(*discoveryv1.EndpointSlice)) {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "emojivoto", Name: "voting-svc-1", Labels: map[string]string{discoveryv1.LabelServiceName: "voting-svc"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("grpc"), Port: ptr(int32(8080))}},
	}
	for name, ip := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "emojivoto", Name: name}})
	}
	if edit != nil {
		edit(s)
	}
	c.index.EndpointSlices().Put(s)
}

// pod puts a meshed pod that declares 8080 as grpc.
func (c *cluster) pod(name, ip string, edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: name, UID: "uid-" + "1", Labels: map[string]string{
			"app": "voting-svc", api.ControlPlaneLabel: "linkerd", "pod-template-hash": "5f5b"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "voting-5f5b", Controller: ptr(true)}}},
		Spec: corev1.PodSpec{ServiceAccountName: "voting", Containers: []corev1.Container{
			{Name: "linkerd-proxy", Ports: []corev1.ContainerPort{{Name: "linkerd-admin", ContainerPort: 4191}}},
			{Name: "voting-svc", Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 8080}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	if edit != nil {
		edit(p)
	}
	c.index.Pods().Put(p)
	return p
}

func unmeshed(p *corev1.Pod) {
	delete(p.Labels, api.ControlPlaneLabel)
	p.Spec.Containers = p.Spec.Containers[1:]
}

func server(name string, port any, protocol string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
		"metadata": map[string]any{"namespace": "emojivoto", "name": name},
		"spec": map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "voting-svc"}},
			"port": port, "proxyProtocol": protocol},
	}}
}

const identityOfVoting = "voting.emojivoto.serviceaccount.identity.linkerd.cluster.local"

// addr is the message about a pod of voting; ip 0x0AF40005 is 10.244.0.5.
func addr(ip, port uint32, name string, edit func(*pb.WeightedAddr)) *pb.WeightedAddr {
	m := &pb.WeightedAddr{
		Addr: tcp(ip, port), Weight: 10000,
		MetricLabels: map[string]string{"pod": name, "namespace": "emojivoto", "serviceaccount": "voting",
			"deployment": "voting", "pod_template_hash": "5f5b", "control_plane_ns": "linkerd"},
		TlsIdentity: &pb.TlsIdentity{
			Strategy:   &pb.TlsIdentity_DnsLikeIdentity_{DnsLikeIdentity: &pb.TlsIdentity_DnsLikeIdentity{Name: identityOfVoting}},
			ServerName: &pb.TlsIdentity_DnsLikeIdentity{Name: identityOfVoting}},
		ProtocolHint: &pb.ProtocolHint{Protocol: &pb.ProtocolHint_H2_{H2: &pb.ProtocolHint_H2{}},
			OpaqueTransport: &pb.ProtocolHint_OpaqueTransport{InboundPort: 4143}},
		ResourceRef: resource("Pod", "emojivoto", name, uint16(port)),
	}
	if edit != nil {
		edit(m)
	}
	return m
}

func opaqueHint(m *pb.WeightedAddr) {
	m.ProtocolHint.Protocol = &pb.ProtocolHint_Opaque_{Opaque: &pb.ProtocolHint_Opaque{}}
}

func noHint(m *pb.WeightedAddr) { m.ProtocolHint = nil }

func plain(m *pb.WeightedAddr) {
	m.TlsIdentity, m.ProtocolHint = nil, nil
	delete(m.MetricLabels, "control_plane_ns")
}

func add(addrs ...*pb.WeightedAddr) *pb.Update {
	return &pb.Update{Update: &pb.Update_Add{Add: &pb.WeightedAddrSet{Addrs: addrs,
		MetricLabels: map[string]string{"namespace": "emojivoto", "service": "voting-svc"}}}}
}

func remove(ip, port uint32) *pb.Update {
	set := &pb.AddrSet{}
	set.Addrs = append(set.Addrs, tcp(ip, port))
	return &pb.Update{Update: &pb.Update_Remove{Remove: set}}
}

func none(exists bool) *pb.Update {
	return &pb.Update{Update: &pb.Update_NoEndpoints{NoEndpoints: &pb.NoEndpoints{Exists: exists}}}
}

func votingProfile(opaque bool) *pb.DestinationProfile {
	return &pb.DestinationProfile{FullyQualifiedName: "voting-svc.emojivoto.svc.cluster.local", OpaqueProtocol: opaque,
		ParentRef: resource("Service", "emojivoto", "voting-svc", 80)}
}

// stream reads whole messages and compares each.
type stream[M proto.Message] struct {
	t    *testing.T
	recv func() (M, error)
}

func (c *cluster) get(path string) stream[*pb.Update] {
	c.t.Helper()
	s, err := c.client.Get(c.ctx, &pb.GetDestination{Scheme: "k8s", Path: path})
	if err != nil {
		c.t.Fatal(err)
	}
	return stream[*pb.Update]{c.t, s.Recv}
}

func (c *cluster) profile(path string) stream[*pb.DestinationProfile] {
	c.t.Helper()
	s, err := c.client.GetProfile(c.ctx, &pb.GetDestination{Path: path})
	if err != nil {
		c.t.Fatal(err)
	}
	return stream[*pb.DestinationProfile]{c.t, s.Recv}
}

func (s stream[M]) expect(wants ...M) {
	s.t.Helper()
	for _, want := range wants {
		got, err := s.recv()
		if err != nil {
			s.t.Fatalf("%v instead of %v", err, want)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			s.t.Fatalf("-want +got\n%s", diff)
		}
	}
}

const (
	votingIP = 0x0AF40005 // 10.244.0.5
	otherIP  = 0x0AF40006 // 10.244.0.6
	byName   = "voting-svc.emojivoto.svc.cluster.local:80"
	byIP     = "10.96.0.7:80"
	podIP    = "10.244.0.5:8080"
)

func TestAServiceByNameOrAddressIsItsReadyEndpoints(t *testing.T) {
	for _, path := range []string{byName, byIP} {
		t.Run(path, func(t *testing.T) {
			c := mkCluster(t)
			s := c.get(path)
			s.expect(none(false))
			c.service(nil)
			s.expect(none(true))
			c.pod("a", "10.244.0.5", nil)
			c.slice(map[string]string{"a": "10.244.0.5"}, nil)
			s.expect(add(addr(votingIP, 8080, "a", nil)))
			c.pod("b", "10.244.0.6", unmeshed)
			c.slice(map[string]string{"a": "10.244.0.5", "b": "10.244.0.6"}, nil)
			s.expect(add(addr(otherIP, 8080, "b", plain)))
			c.slice(map[string]string{"b": "10.244.0.6"}, nil)
			s.expect(remove(votingIP, 8080))
			c.slice(map[string]string{"b": "10.244.0.6"}, func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Ready = ptr(false) })
			s.expect(none(true))
			c.index.Services().Remove(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "emojivoto", Name: "voting-svc"}})
			s.expect(none(false))
		})
	}
}

// Speaking plaintext to a meshed pod, because its EndpointSlice was seen before
// the pod, would be denied by an authenticated policy.
func TestAnEndpointWaitsUntilItsPodIsKnown(t *testing.T) {
	c := mkCluster(t)
	c.service(nil)
	c.slice(map[string]string{"a": "10.244.0.5"}, nil)
	s := c.get(byName)
	s.expect(none(true))
	c.pod("a", "10.244.0.5", nil)
	s.expect(add(addr(votingIP, 8080, "a", nil)))
}

func TestAPodByAddressIsItself(t *testing.T) {
	c := mkCluster(t)
	endpoints, profile := c.get(podIP), c.profile(podIP)
	endpoints.expect(none(false))
	profile.expect(&pb.DestinationProfile{})
	p := c.pod("a", "10.244.0.5", nil)
	own := func(a *pb.WeightedAddr) *pb.Update {
		u := add(a)
		u.GetAdd().MetricLabels = nil
		return u
	}
	endpoints.expect(own(addr(votingIP, 8080, "a", nil)))
	profile.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", nil)})
	c.index.Pods().Remove(p)
	endpoints.expect(none(false))
	profile.expect(&pb.DestinationProfile{})
}

func TestTheProxysOwnPortsAreDialledWithTLSButDirectly(t *testing.T) {
	c := mkCluster(t)
	c.pod("a", "10.244.0.5", nil)
	c.profile("10.244.0.5:4191").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 4191, "a", noHint)})
	c.profile("10.244.0.5:4190").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 4190, "a", noHint)})
}

// D-20, T-30: a proxy is spoken to where it listens.
func TestAProxyOnOtherPortsIsSpokenToThere(t *testing.T) {
	c := mkCluster(t)
	c.pod("a", "10.244.0.5", func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", Value: "0.0.0.0:5143"},
			{Name: "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", Value: "[::]:5191"}, {Name: "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", Value: "nowhere"}}
	})
	elsewhere := func(a *pb.WeightedAddr) { a.ProtocolHint.OpaqueTransport.InboundPort = 5143 }
	c.profile("10.244.0.5:8080").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", elsewhere)})
	c.profile("10.244.0.5:5191").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 5191, "a", noHint)})
	c.profile("10.244.0.5:4190").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 4190, "a", noHint)})
	c.profile("10.244.0.5:4191").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 4191, "a", elsewhere)})
}

func TestAPortThatBypassesTheProxyIsNotMeshed(t *testing.T) {
	c := mkCluster(t)
	c.pod("a", "10.244.0.5", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "linkerd-init", Args: []string{"proxy-init", "--inbound-ports-to-ignore", "4190,4191,9000-9001"}}}
	})
	c.profile("10.244.0.5:9001").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 9001, "a", plain)})
	c.profile("10.244.0.5:9002").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 9002, "a", nil)})
	c.profile("10.244.0.5:4191").expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 4191, "a", noHint)})
}

func TestAnAddressIsNobodysUnlessOneLivingPodHasIt(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Pod){
		"on the host's network": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"succeeded":             func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
		"failed":                func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
	} {
		t.Run(name, func(t *testing.T) {
			c := mkCluster(t)
			c.pod("a", "10.244.0.5", edit)
			c.profile(podIP).expect(&pb.DestinationProfile{})
		})
	}
	t.Run("reused", func(t *testing.T) {
		c := mkCluster(t)
		s := c.profile(podIP)
		s.expect(&pb.DestinationProfile{})
		c.pod("a", "10.244.0.5", nil)
		s.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", nil)})
		c.pod("b", "10.244.0.5", nil)
		s.expect(&pb.DestinationProfile{})
		c.pod("a", "10.244.0.5", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		s.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "b", nil)})
	})
}

// T-36: everything that makes an endpoint opaque, and nothing else; each appears
// and disappears under an open stream.
func TestOpaqueEndpointsFollowAnnotationsAndServers(t *testing.T) {
	annotate := func(value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{api.OpaquePortsAnnotation: value} }
	}
	put := func(name string, port any, protocol string) func(*cluster) {
		return func(c *cluster) { c.index.Servers().Put(server(name, port, protocol)) }
	}
	for name, row := range map[string]struct {
		before, change func(*cluster)
		opaque         bool
	}{
		"the pod's annotation":                 {nil, func(c *cluster) { c.pod("a", "10.244.0.5", annotate("8080")) }, true},
		"the pod's annotation, by name":        {nil, func(c *cluster) { c.pod("a", "10.244.0.5", annotate("1,grpc")) }, true},
		"the pod's annotation of other ports":  {nil, func(c *cluster) { c.pod("a", "10.244.0.5", annotate("80,8000-8079")) }, false},
		"the namespace's annotation":           {nil, func(c *cluster) { c.namespace("emojivoto", map[string]string{api.OpaquePortsAnnotation: "8080"}) }, true},
		"the namespace's, overridden by a pod": {func(c *cluster) { c.pod("a", "10.244.0.5", annotate("")) }, func(c *cluster) { c.namespace("emojivoto", map[string]string{api.OpaquePortsAnnotation: "8080"}) }, false},
		"another namespace's":                  {nil, func(c *cluster) { c.namespace("other", map[string]string{api.OpaquePortsAnnotation: "8080"}) }, false},
		"the Service's annotation": {nil, func(c *cluster) {
			c.service(func(s *corev1.Service) { s.Annotations = map[string]string{api.OpaquePortsAnnotation: "80"} })
		}, true},
		"the Service's annotation, target port": {nil, func(c *cluster) {
			c.service(func(s *corev1.Service) { s.Annotations = map[string]string{api.OpaquePortsAnnotation: "8080"} })
		}, false},
		"the Service port's appProtocol": {nil, func(c *cluster) {
			c.service(func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = ptr("linkerd.io/opaque") })
		}, true},
		"a Server by number":       {nil, put("s", int64(8080), "opaque"), true},
		"a Server by name":         {nil, put("s", "grpc", "opaque"), true},
		"a Server of another port": {nil, put("s", int64(8801), "opaque"), false},
		"a Server with TLS":        {nil, put("s", int64(8080), "TLS"), false},
		"a Server with HTTP/1":     {nil, put("s", int64(8080), "HTTP/1"), false},
		"a Server in another namespace": {nil, func(c *cluster) {
			s := server("s", int64(8080), "opaque")
			s.SetNamespace("other")
			c.index.Servers().Put(s)
		}, false},
		"a Server that another one precedes":        {put("a", int64(8080), "gRPC"), put("b", int64(8080), "opaque"), false},
		"the annotation, though a Server says HTTP": {put("a", int64(8080), "HTTP/1"), func(c *cluster) { c.pod("a", "10.244.0.5", annotate("8080")) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mkCluster(t)
			reset := func() {
				c.namespace("emojivoto", nil)
				c.service(nil)
				c.pod("a", "10.244.0.5", nil)
				c.slice(map[string]string{"a": "10.244.0.5"}, nil)
				c.index.Servers().Replace(nil)
			}
			reset()
			if row.before != nil {
				row.before(c)
			}
			s := c.get(byName)
			s.expect(add(addr(votingIP, 8080, "a", nil)))
			row.change(c)
			if !row.opaque {
				// A stream that says nothing may only be late: a new one tells.
				c.get(byName).expect(add(addr(votingIP, 8080, "a", nil)))
			} else {
				s.expect(add(addr(votingIP, 8080, "a", opaqueHint)))
				reset()
				s.expect(add(addr(votingIP, 8080, "a", nil)))
			}
			c.slice(nil, nil)
			s.expect(none(true))
		})
	}
}

// T-36: a Server that names its port makes the port's hostPort opaque as well, for
// as long as it does.
func TestTheHostPortOfANamedPortIsAsOpaqueAsThePort(t *testing.T) {
	c := mkCluster(t)
	c.pod("a", "10.244.0.5", func(p *corev1.Pod) { p.Spec.Containers[1].Ports[0].HostPort = 18080 })
	port := addr(votingIP, 8080, "a", nil)
	profile := func(opaque bool) *pb.DestinationProfile {
		if opaque {
			return &pb.DestinationProfile{OpaqueProtocol: true, Endpoint: addr(votingIP, 18080, "a", opaqueHint)}
		}
		return &pb.DestinationProfile{Endpoint: addr(votingIP, 18080, "a", nil)}
	}
	s := c.profile("10.244.0.5:18080")
	s.expect(profile(false))
	c.index.Servers().Put(server("s", "grpc", "opaque"))
	s.expect(profile(true))
	c.index.Servers().Put(server("s", int64(8080), "opaque")) // the port, by number only
	s.expect(profile(false))
	c.index.Servers().Put(server("s", "grpc", "opaque"))
	s.expect(profile(true))
	c.index.Servers().Put(server("s", "grpc", "TLS"))
	s.expect(profile(false))
	c.profile("10.244.0.5:8080").expect(&pb.DestinationProfile{Endpoint: port})
}

func TestAServicesProfileTellsWhetherToLookAtTheBytes(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*cluster)
		opaque bool
	}{
		"nothing said": {func(*cluster) {}, false},
		"the Service's annotation": {func(c *cluster) {
			c.service(func(s *corev1.Service) { s.Annotations = map[string]string{api.OpaquePortsAnnotation: "80"} })
		}, true},
		"its port's name": {func(c *cluster) {
			c.service(func(s *corev1.Service) { s.Annotations = map[string]string{api.OpaquePortsAnnotation: "grpc"} })
		}, true},
		"the namespace's annotation": {func(c *cluster) { c.namespace("emojivoto", map[string]string{api.OpaquePortsAnnotation: "80"}) }, true},
		"the Service's own, without this port": {func(c *cluster) {
			c.namespace("emojivoto", map[string]string{api.OpaquePortsAnnotation: "80"})
			c.service(func(s *corev1.Service) { s.Annotations = map[string]string{api.OpaquePortsAnnotation: "81"} })
		}, false},
		"a Server that makes every endpoint opaque": {func(c *cluster) { c.index.Servers().Put(server("s", "grpc", "opaque")) }, true},
		"one endpoint of two opaque": {func(c *cluster) {
			c.pod("b", "10.244.0.6", func(p *corev1.Pod) { p.Annotations = map[string]string{api.OpaquePortsAnnotation: "8080"} })
			c.slice(map[string]string{"a": "10.244.0.5", "b": "10.244.0.6"}, nil)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := mkCluster(t)
			c.service(nil)
			c.pod("a", "10.244.0.5", nil)
			c.slice(map[string]string{"a": "10.244.0.5"}, nil)
			row.change(c)
			for _, path := range []string{byIP, byName} {
				c.profile(path).expect(votingProfile(row.opaque))
			}
		})
	}
}

func TestDefaultOpaquePortsHoldForServicesThatSayNothing(t *testing.T) {
	c := mkCluster(t)
	c.service(func(s *corev1.Service) { s.Spec.Ports[0].Port = 3306 })
	want := votingProfile(true)
	want.ParentRef.GetResource().Port = 3306
	c.profile("10.96.0.7:3306").expect(want)
}

func TestAProfileFollowsTheServer(t *testing.T) {
	c := mkCluster(t)
	c.service(nil)
	c.pod("a", "10.244.0.5", nil)
	c.slice(map[string]string{"a": "10.244.0.5"}, nil)
	service, pod := c.profile(byIP), c.profile(podIP)
	service.expect(votingProfile(false))
	pod.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", nil)})
	c.index.Servers().Put(server("s", "grpc", "opaque"))
	service.expect(votingProfile(true))
	pod.expect(&pb.DestinationProfile{OpaqueProtocol: true, Endpoint: addr(votingIP, 8080, "a", opaqueHint)})
	c.index.Servers().Remove(server("s", "grpc", "opaque"))
	service.expect(votingProfile(false))
	pod.expect(&pb.DestinationProfile{Endpoint: addr(votingIP, 8080, "a", nil)})
}

func TestAHeadlessServiceKnowsItsPodsPorts(t *testing.T) {
	c := mkCluster(t)
	c.service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} })
	c.pod("a", "10.244.0.5", nil)
	c.slice(map[string]string{"a": "10.244.0.5"}, nil)
	c.get("voting-svc.emojivoto.svc.cluster.local:8080").expect(add(addr(votingIP, 8080, "a", nil)))
	c.get("voting-svc.emojivoto.svc.cluster.local:9999").expect(none(true))
}

func TestWhatTheWatchMissedIsGoneAfterAList(t *testing.T) {
	c := mkCluster(t)
	c.service(nil)
	p := c.pod("a", "10.244.0.5", nil)
	c.slice(map[string]string{"a": "10.244.0.5"}, nil)
	s := c.get(byName)
	s.expect(add(addr(votingIP, 8080, "a", nil)))
	c.index.Pods().Replace(nil)
	s.expect(none(true))
	c.index.Pods().Replace([]*corev1.Pod{p})
	s.expect(add(addr(votingIP, 8080, "a", nil)))
	c.index.EndpointSlices().Replace(nil)
	s.expect(none(true))
	c.index.Services().Replace(nil)
	s.expect(none(false))
}

func TestPathsThatAreNoDestination(t *testing.T) {
	c := mkCluster(t)
	for _, path := range []string{"", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000", "example.org:80", "svc.cluster.local:80", "a.b.c.svc.cluster.local:80", "voting-svc.emojivoto.svc.example.org:80"} {
		_, err := c.profile(path).recv()
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("GetProfile %q: %v", path, err)
		}
		_, err = c.get(path).recv()
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("Get %q: %v", path, err)
		}
	}
}

func TestStreamsEndWithTheRole(t *testing.T) {
	c := mkCluster(t)
	done := make(chan struct{})
	ended := make(chan error, 1)
	w := c.index.watch(target{name: key{"emojivoto", "voting-svc"}, port: 80})
	w.Close()
	s := &Server{Index: c.index, Done: done}
	go func() { ended <- s.follow(background{}, target{}, func(*Watch) error { return nil }) }()
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.index.mu.Lock()
	defer c.index.mu.Unlock()
	if len(c.index.watches) != 0 {
		t.Errorf("%d watches are left", len(c.index.watches))
	}
}

// background is a stream whose client stays.
type background struct{ grpc.ServerStream }

func (background) Context() context.Context { return context.Background() }

func ptr[T any](v T) *T { return &v }

func tcp(ip, port uint32) *netpb.TcpAddress {
	return &netpb.TcpAddress{Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: ip}}, Port: port}
}
