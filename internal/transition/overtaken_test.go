package transition_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// speaking is the Server of the port with another protocol, which lets in who has an
// identity.
func speaking(protocol string) string {
	return strings.Replace(server, "proxyProtocol: HTTP/1", "proxyProtocol: "+protocol+", accessPolicy: all-authenticated", 1)
}

// direct has alice come without a proxy of her own.
func direct(s *story) *story {
	s.recording.Streams[0].Client.Way = oracle.MeshedDirect
	return s
}

// forwarded is the record of a connection that was let through as TCP.
func forwarded(q *history.Request) {
	q.Record = &history.Record{Verdict: "allow", Protocol: "opaque", Server: "server/http", Authorization: "default/all-authenticated"}
}

func TestAConnectionWhoseTLSWasEndedBeforeItsPortBecameOpaqueMayStillBeKnownByIt(t *testing.T) {
	for _, row := range []struct {
		name  string
		at    time.Duration // the change comes at 1000 ms, and is in force at 1030 ms
		kind  clients.Kind
		with  func(*history.Request)
		wrong string
	}{
		{"it is forwarded within the change", 1010 * ms, yes, forwarded, ""},
		{"or finds no route", 1010 * ms, clients.NotFound, nil, ""},
		{"not before the change", 900 * ms, yes, forwarded, "impossible other alice-1"},
		{"nor that", 900 * ms, clients.NotFound, nil, "impossible outage alice-1"},
		{"nor once it is in force", 1040 * ms, yes, forwarded, "impossible leak alice-1"},
		{"nor that", 1040 * ms, clients.NotFound, nil, "impossible other alice-1"},
		{"and nobody is denied by a route", 1010 * ms, clients.Redirected, nil, "impossible other alice-1"},
	} {
		s := direct(tell(t, speaking("unknown"))).writes(1000*ms, speaking("opaque"))
		s.recording.Writes[0].InForce = []history.InForce{{Pod: podOne, Port: 8080, At: 1030 * ms}}
		if row.with == nil {
			row.with = func(*history.Request) {}
		}
		if got := strings.Join(found(s.calls(row.at, podOne, row.kind, row.with).judge()), ", "); got != row.wrong {
			t.Errorf("%s: %q, want %q", row.name, got, row.wrong)
		}
	}
}

func TestAConnectionThatIsOvertakenProvesTheNewPolicy(t *testing.T) {
	s := direct(tell(t, speaking("unknown"))).writes(1000*ms, speaking("opaque")).
		calls(1010*ms, podOne, yes, forwarded).
		calls(1015*ms, podOne, yes) // nothing tells by which policy
	s.calls(1020*ms, podOne, yes, func(q *history.Request) {
		q.Record = &history.Record{Verdict: "allow", Protocol: "http1", Server: "server/http", Route: "default/default", Authorization: "default/all-authenticated"}
	})
	if got, want := found(s.judge()), []string{"backwards leak alice-3"}; !slices.Equal(got, want) {
		t.Errorf("a proxy that goes back: %q, want %q", got, want)
	}
}

func TestWhatWasTakenForOpaqueIsNoHTTPAfterwards(t *testing.T) {
	open := func(protocol string) string {
		return strings.Replace(speaking(protocol), "all-authenticated", "all-unauthenticated", 1)
	}
	heard := func(q *history.Request) {
		forwarded(q)
		q.Record.Authorization = "default/all-unauthenticated"
	}
	for _, row := range []struct {
		name, to string
		kind     clients.Kind
		with     func(*history.Request)
		wrong    []string
	}{
		{"its TLS gets to the application", "unknown", clients.TLSFailure, heard, nil},
		{"it is never answered as a connection", "unknown", yes, heard, []string{"impossible other alice-1"}},
		{"it has no list to be on where HTTP alone is spoken", "HTTP/1", clients.Reset, func(q *history.Request) {
			q.Record = &history.Record{Verdict: "deny", Protocol: "opaque", Server: "server/http"}
		}, nil},
	} {
		s := direct(tell(t, open("opaque"))).writes(1000*ms, open(row.to)).calls(1010*ms, podOne, row.kind, row.with)
		if got := found(s.judge()); !slices.Equal(got, row.wrong) {
			t.Errorf("%s: %q, want %q", row.name, got, row.wrong)
		}
	}
}
