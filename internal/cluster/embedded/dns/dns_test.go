package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/internal/cluster/embedded/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

func snapshot() *discovery.Snapshot {
	web := []discovery.Port{{Name: "http", Protocol: "tcp", Port: 8080}}
	return &discovery.Snapshot{Names: map[discovery.ServiceName]discovery.Record{
		{Namespace: "default", Name: "kubernetes"}: {ClusterIP: address("10.96.0.1"),
			Ports: []discovery.Port{{Name: "https", Protocol: "tcp", Port: 443}, {Name: "both", Protocol: "udp", Port: 444}}},
		{Namespace: "emojivoto", Name: "db"}: {Endpoints: []discovery.Endpoint{
			{Address: address("10.244.0.7"), Host: "db-0", Ports: web}, {Address: address("10.244.0.8"), Host: "10-244-0-8", Ports: web}}},
		{Namespace: "emojivoto", Name: "empty"}:     {},
		{Namespace: "emojivoto", Name: "elsewhere"}: {External: "example.com"},
	}}
}

// ask returns the code and the records of an answer, without header lines.
func ask(s *Server, name string, kind uint16) (code string, answer, extra []string) {
	request := new(dns.Msg).SetQuestion(name, kind)
	reply := s.answer(request)
	text := func(records []dns.RR) (out []string) {
		for _, r := range records {
			if r.Header().Rrtype != dns.TypeOPT {
				out = append(out, strings.Join(strings.Fields(r.String()), " "))
			}
		}
		return out
	}
	return dns.RcodeToString[reply.Rcode], text(reply.Answer), text(reply.Extra)
}

func TestAnswers(t *testing.T) {
	s := &Server{}
	s.Update(snapshot())
	const noError, noName = "NOERROR", "NXDOMAIN"
	for _, c := range []struct {
		claim, name   string
		kind          uint16
		code          string
		answer, extra []string
	}{
		{"a service has its ClusterIP", "kubernetes.default.svc.cluster.local.", dns.TypeA, noError,
			[]string{"kubernetes.default.svc.cluster.local. 1 IN A 10.96.0.1"}, nil},
		{"case does not matter and comes back as it was", "Kubernetes.DEFAULT.svc.cluster.local.", dns.TypeA, noError,
			[]string{"Kubernetes.DEFAULT.svc.cluster.local. 1 IN A 10.96.0.1"}, nil},
		{"an existing name has no IPv6 address, which is not the same as no name", "kubernetes.default.svc.cluster.local.", dns.TypeAAAA, noError, nil, nil},
		{"a service's port is found by name and protocol", "_https._tcp.kubernetes.default.svc.cluster.local.", dns.TypeSRV, noError,
			[]string{"_https._tcp.kubernetes.default.svc.cluster.local. 1 IN SRV 0 1 443 kubernetes.default.svc.cluster.local."},
			[]string{"kubernetes.default.svc.cluster.local. 1 IN A 10.96.0.1"}},
		{"a port of another protocol is another port", "_https._udp.kubernetes.default.svc.cluster.local.", dns.TypeSRV, noName, nil, nil},
		{"a headless service has the addresses of its endpoints", "db.emojivoto.svc.cluster.local.", dns.TypeA, noError,
			[]string{"db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.7", "db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.8"}, nil},
		{"an endpoint has its host name", "db-0.db.emojivoto.svc.cluster.local.", dns.TypeA, noError,
			[]string{"db-0.db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.7"}, nil},
		{"an endpoint without host name has its address for one", "10-244-0-8.db.emojivoto.svc.cluster.local.", dns.TypeA, noError,
			[]string{"10-244-0-8.db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.8"}, nil},
		{"a headless service's ports lead to its endpoints", "_http._tcp.db.emojivoto.svc.cluster.local.", dns.TypeSRV, noError,
			[]string{"_http._tcp.db.emojivoto.svc.cluster.local. 1 IN SRV 0 1 8080 db-0.db.emojivoto.svc.cluster.local.",
				"_http._tcp.db.emojivoto.svc.cluster.local. 1 IN SRV 0 1 8080 10-244-0-8.db.emojivoto.svc.cluster.local."},
			[]string{"db-0.db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.7", "10-244-0-8.db.emojivoto.svc.cluster.local. 1 IN A 10.244.0.8"}},
		{"a headless service without endpoints exists", "empty.emojivoto.svc.cluster.local.", dns.TypeA, noError, nil, nil},
		{"an external service is another name", "elsewhere.emojivoto.svc.cluster.local.", dns.TypeA, noError,
			[]string{"elsewhere.emojivoto.svc.cluster.local. 1 IN CNAME example.com."}, nil},
		{"a namespace with services exists", "emojivoto.svc.cluster.local.", dns.TypeA, noError, nil, nil},
		{"a namespace without services does not", "other.svc.cluster.local.", dns.TypeA, noName, nil, nil},
		{"no such service", "web.emojivoto.svc.cluster.local.", dns.TypeA, noName, nil, nil},
		{"a search path leads to no such name", "web.example.com.emojivoto.svc.cluster.local.", dns.TypeA, noName, nil, nil},
		{"nothing exists beyond the cluster", "example.com.", dns.TypeA, noName, nil, nil},
		{"a name that only ends like the zone is beyond it", "kubernetes.default.svc.notcluster.local.", dns.TypeA, noName, nil, nil},
		{"a pod's address is a name", "10-244-0-9.emojivoto.pod.cluster.local.", dns.TypeA, noError,
			[]string{"10-244-0-9.emojivoto.pod.cluster.local. 1 IN A 10.244.0.9"}, nil},
		{"what is no address is no pod", "web.emojivoto.pod.cluster.local.", dns.TypeA, noName, nil, nil},
		{"a service's address leads back to it", "1.0.96.10.in-addr.arpa.", dns.TypePTR, noError,
			[]string{"1.0.96.10.in-addr.arpa. 1 IN PTR kubernetes.default.svc.cluster.local."}, nil},
		{"an unknown address leads nowhere", "2.0.96.10.in-addr.arpa.", dns.TypePTR, noName, nil, nil},
	} {
		t.Run(c.claim, func(t *testing.T) {
			code, answer, extra := ask(s, c.name, c.kind)
			if code != c.code {
				t.Errorf("code %s, want %s", code, c.code)
			}
			if diff := cmp.Diff(c.answer, answer); diff != "" {
				t.Error("answer (-want +got):", diff)
			}
			if diff := cmp.Diff(c.extra, extra); diff != "" {
				t.Error("extra (-want +got):", diff)
			}
		})
	}
}

func TestNoSnapshotIsAFailureAndNotAnAnswer(t *testing.T) {
	if code, _, _ := ask(&Server{}, "kubernetes.default.svc.cluster.local.", dns.TypeA); code != "SERVFAIL" {
		t.Errorf("code %s", code)
	}
}

func TestNegativeAnswersSayForHowLong(t *testing.T) {
	s := &Server{}
	s.Update(snapshot())
	for _, name := range []string{"web.emojivoto.svc.cluster.local.", "empty.emojivoto.svc.cluster.local."} {
		reply := s.answer(new(dns.Msg).SetQuestion(name, dns.TypeA))
		if len(reply.Ns) != 1 {
			t.Fatalf("%s: %v", name, reply)
		}
		if soa, ok := reply.Ns[0].(*dns.SOA); !ok || soa.Minttl != lifetime {
			t.Errorf("%s: %v", name, reply.Ns[0])
		}
	}
}

// connection records what is written to a client on UDP.
type connection struct {
	dns.ResponseWriter
	reply *dns.Msg
}

func (c *connection) RemoteAddr() net.Addr          { return &net.UDPAddr{} }
func (c *connection) WriteMsg(reply *dns.Msg) error { c.reply = reply; return nil }

func TestLongAnswersAreCutForDatagrams(t *testing.T) {
	record := discovery.Record{}
	for i := range 100 {
		record.Endpoints = append(record.Endpoints, discovery.Endpoint{Address: netip.AddrFrom4([4]byte{10, 244, 1, byte(i)})})
	}
	s := &Server{}
	s.Update(&discovery.Snapshot{Names: map[discovery.ServiceName]discovery.Record{{Namespace: "a", Name: "b"}: record}})
	for _, c := range []struct {
		size uint16
		cut  bool
	}{{0, true}, {4096, false}} {
		request := new(dns.Msg).SetQuestion("b.a.svc.cluster.local.", dns.TypeA)
		if c.size > 0 {
			request.SetEdns0(c.size, false)
		}
		w := &connection{}
		s.ServeDNS(w, request)
		if w.reply.Truncated != c.cut || w.reply.Len() > max(int(c.size), dns.MinMsgSize) {
			t.Errorf("client takes %d: truncated %t at %d bytes", c.size, w.reply.Truncated, w.reply.Len())
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	started := false
	err := (&Server{}).Serve(ctx, address("127.0.0.1"), func() { started = true })
	// Port 53 may be closed to this user, or taken; both are errors at once.
	if started != (err == nil) {
		t.Errorf("started %t, error %v", started, err)
	}
	if err != nil && !slices.ContainsFunc([]string{"permission denied", "address already in use"}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
		t.Error(err)
	}
}
