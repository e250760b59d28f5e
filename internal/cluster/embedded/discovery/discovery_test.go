package discovery

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/network"
)

const tcp, udp = 6, 17

func pointer[T any](v T) *T { return &v }

func service(spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: spec}
}

// state is an endpoint's address with its conditions.
type state struct {
	address        string
	ready, serving bool
	host           string
}

func endpointSlice(port int32, states ...state) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: pointer("http"), Port: pointer(port), Protocol: pointer(corev1.ProtocolTCP)}},
	}
	for _, e := range states {
		endpoint := discoveryv1.Endpoint{Addresses: []string{e.address}, Conditions: discoveryv1.EndpointConditions{Ready: pointer(e.ready), Serving: pointer(e.serving)}}
		if e.host != "" {
			endpoint.Hostname = pointer(e.host)
		}
		s.Endpoints = append(s.Endpoints, endpoint)
	}
	return s
}

var addresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestBuild(t *testing.T) {
	clusterIP := corev1.ServiceSpec{ClusterIP: "10.96.3.4", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}
	headless := clusterIP
	headless.ClusterIP = corev1.ClusterIPNone
	sticky := clusterIP
	sticky.SessionAffinity = corev1.ServiceAffinityClientIP
	two := clusterIP
	two.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
	at := netip.MustParseAddrPort("10.96.3.4:80")
	endpoint := netip.MustParseAddrPort
	webPort := []Port{{"http", "tcp", 80}}
	for _, c := range []struct {
		claim   string
		service corev1.ServiceSpec
		slices  []*discoveryv1.EndpointSlice
		ports   []network.Service
		record  Record
	}{
		{"ready endpoints of all slices serve", clusterIP,
			[]*discoveryv1.EndpointSlice{endpointSlice(8080, state{"10.244.0.1", true, true, ""}, state{"10.244.0.2", false, false, ""}), endpointSlice(8081, state{"10.244.0.3", true, true, ""})},
			[]network.Service{{Address: at, Protocol: tcp, Endpoints: []netip.AddrPort{endpoint("10.244.0.1:8080"), endpoint("10.244.0.3:8081")}}},
			Record{ClusterIP: at.Addr(), Ports: webPort}},
		{"endpoints on their way out serve when nobody else does", clusterIP,
			[]*discoveryv1.EndpointSlice{endpointSlice(8080, state{"10.244.0.1", false, true, ""})},
			[]network.Service{{Address: at, Protocol: tcp, Endpoints: []netip.AddrPort{endpoint("10.244.0.1:8080")}}},
			Record{ClusterIP: at.Addr(), Ports: webPort}},
		{"endpoints on their way out do not serve beside ready ones", clusterIP,
			[]*discoveryv1.EndpointSlice{endpointSlice(8080, state{"10.244.0.1", false, true, ""}, state{"10.244.0.2", true, true, ""})},
			[]network.Service{{Address: at, Protocol: tcp, Endpoints: []netip.AddrPort{endpoint("10.244.0.2:8080")}}},
			Record{ClusterIP: at.Addr(), Ports: webPort}},
		{"a service without endpoints is kept without", clusterIP, nil,
			[]network.Service{{Address: at, Protocol: tcp}}, Record{ClusterIP: at.Addr(), Ports: webPort}},
		{"session affinity is kept", sticky, nil,
			[]network.Service{{Address: at, Protocol: tcp, Sticky: true}}, Record{ClusterIP: at.Addr(), Ports: webPort}},
		{"a port takes endpoints of its own name and protocol only", two,
			[]*discoveryv1.EndpointSlice{endpointSlice(8080, state{"10.244.0.1", true, true, ""})},
			[]network.Service{{Address: at, Protocol: tcp, Endpoints: []netip.AddrPort{endpoint("10.244.0.1:8080")}}, {Address: netip.MustParseAddrPort("10.96.3.4:53"), Protocol: udp}},
			Record{ClusterIP: at.Addr(), Ports: []Port{{"http", "tcp", 80}, {"dns", "udp", 53}}}},
		{"a headless service is names only, of those that are ready", headless,
			[]*discoveryv1.EndpointSlice{endpointSlice(8080, state{"10.244.0.9", true, true, ""}, state{"10.244.0.1", true, true, "DB-0"}, state{"10.244.0.2", false, true, ""})},
			nil,
			Record{Ports: webPort, Endpoints: []Endpoint{{netip.MustParseAddr("10.244.0.1"), "db-0", []Port{{"http", "tcp", 8080}}}, {netip.MustParseAddr("10.244.0.9"), "10-244-0-9", []Port{{"http", "tcp", 8080}}}}}},
		{"an external service is a name only", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}, nil, nil, Record{External: "example.com"}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			got := Build([]*corev1.Service{service(c.service)}, c.slices)
			want := &Snapshot{Ports: c.ports, Names: map[ServiceName]Record{{"ns", "web"}: c.record}}
			if diff := cmp.Diff(want, got, addresses, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error("(-want +got):", diff)
			}
		})
	}
}

func TestEndpointsOfAnotherServiceOrFamilyAreNotTaken(t *testing.T) {
	other := endpointSlice(8080, state{"10.244.0.1", true, true, ""})
	other.Labels[discoveryv1.LabelServiceName] = "other"
	ipv6 := endpointSlice(8080, state{"fd00::1", true, true, ""})
	ipv6.AddressType = discoveryv1.AddressTypeIPv6
	foreign := endpointSlice(8080, state{"10.244.0.2", true, true, ""})
	foreign.Namespace = "elsewhere"
	got := Build([]*corev1.Service{service(corev1.ServiceSpec{ClusterIP: "10.96.3.4", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}})},
		[]*discoveryv1.EndpointSlice{other, ipv6, foreign})
	if len(got.Ports) != 1 || len(got.Ports[0].Endpoints) != 0 {
		t.Errorf("got %+v", got.Ports)
	}
}
