package inbound

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// P14: of a request in a connection's steady state nothing is allocated, from its
// head's being read to its answer's being counted.
func TestDecidingRecordingAndCountingAllocateNothing(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		verdict    policy.Verdict
	}{
		{"allowed", "/api/thing", policy.Allow},
		{"normalised", "/x/..//api/%74hing", policy.Allow},
		{"denied", "/private", policy.Deny},
		{"no route", "/other", policy.NotFound},
		{"ambiguous", "/api%2fthing", policy.Ambiguous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, sess, _ := recorder(t)
			port, err := policy.Parse(server(http1Protocol(
				httpRoute("api", []string{"/api"}, identities(t, "web", webName)),
				httpRoute("private", []string{"/private"}, identities(t, "other", otherName)),
			)), policy.Dialect{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			sess.cell.put(port)
			// No line is written that a test would measure.
			s.log.limit.SetBurst(0)
			head := &policy.Head{Method: []byte("GET"), Path: []byte(tt.path), Fields: []policy.Field{{Name: []byte("X-Request-ID"), Value: []byte("4711")}}}
			var c call
			request := func() {
				c = call{sess: sess, snap: sess.cell.current.Load(), start: time.Now(), head: head, http1: true}
				if s.judge(&c); c.permitted {
					s.answered(&c, 200, -1, nil)
				}
			}
			for range ringSize { // the ring comes into being
				request()
			}
			if c.made.Verdict != tt.verdict {
				t.Fatalf("got %+v", c.made)
			}
			if allocs := testing.AllocsPerRun(300, request); allocs > 0 {
				t.Errorf("%.0f allocations", allocs)
			}
		})
	}
}

func TestARecordOutlivesTheBufferItWasMadeFrom(t *testing.T) {
	var d Decisions
	buffer := []byte("GET/path4711")
	n := note{
		client: netip.MustParseAddrPort("10.0.0.1:9"), identity: "web", tls: "true", port: 80, protocol: "http1", verdict: "allow", reason: "why",
		server: policy.Ref{Kind: "server", Name: "s"}, route: policy.Ref{Kind: "HTTPRoute", Name: "r"}, authz: policy.Ref{Kind: "default", Name: "a"}, hash: "h",
		method: buffer[:3], path: buffer[3:8], id: buffer[8:],
	}
	d.add(&n)
	copy(buffer, strings.Repeat("x", len(buffer)))
	d.add(&n)
	want := Decision{
		Seq: 1, Client: "10.0.0.1:9", ClientIdentity: "web", TLS: "true", TargetPort: 80, Protocol: "http1", Method: "GET", Path: "/path", RequestID: "4711",
		Verdict: "allow", Reason: "why", Server: "server/s", Route: "HTTPRoute/r", Authorization: "default/a", Hash: "h",
	}
	got := d.List(DecisionFilter{}).Decisions[0]
	want.Time = got.Time
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLongPathsOfRecordsAreCutWhereverTheyStand(t *testing.T) {
	var d Decisions
	long := []byte(strings.Repeat("p", 3*maxRecordedPath))
	for range ringSize + 1 { // the first place is used twice
		d.add(&note{method: []byte("GET"), path: long, id: long})
	}
	for _, record := range d.List(DecisionFilter{}).Decisions {
		if record.Method != "GET" || len(record.Path) != maxRecordedPath || len(record.RequestID) != maxRecordedPath {
			t.Fatalf("record %d: %q, %d octets of path, %d of id", record.Seq, record.Method, len(record.Path), len(record.RequestID))
		}
	}
}
