package cli

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// revokedRun is the folder of a run in which alice called every ten milliseconds
// for two seconds, and her grant was deleted after one; it came into force after
// thirty milliseconds more. change has the requests before they are written.
func revokedRun(t *testing.T, change func(requests []history.Request) []history.Request) string {
	t.Helper()
	const (
		server = "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http, namespace: ns}, spec: {podSelector: {}, port: 8080}}\n---\n"
		grant  = "{apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: alice, namespace: ns}, spec: {server: {name: http}, client: {meshTLS: {serviceAccounts: [{name: alice}]}}}}"
	)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app", Labels: map[string]string{api.ControlPlaneLabel: "linkerd"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}}}
	worlds := map[string]*history.World{}
	world := func(text string) string {
		set, err := objects.Read([]objects.Source{{Name: "test", Stream: strings.NewReader(text)}}, objects.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := history.NewWorld(api.DialectDocumented, set.World, []*corev1.Pod{pod})
		if err != nil {
			t.Fatal(err)
		}
		worlds[w.ID] = w
		return w.ID
	}
	granted, revoked := world(server+grant), world(server)
	const written, inForce, end, every = time.Second, 1030 * time.Millisecond, 2 * time.Second, 10 * time.Millisecond
	r := &history.Recording{Scenario: "revoke", Dialect: api.DialectDocumented, Budget: 500 * time.Millisecond, Base: granted,
		Streams: []history.Stream{{Name: "alice", ID: "revoke-alice", ClientKind: "meshed", Target: "app:http", Protocol: "http1", Connection: "fresh", Port: 8080, Rate: 100,
			Client:  oracle.Client{Way: oracle.Meshed, Address: netip.MustParseAddr("10.0.0.8"), Identity: "alice.ns.serviceaccount.identity.linkerd.cluster.local"},
			Request: oracle.Request{Protocol: oracle.HTTP1}}},
		Writes:  []history.Write{{Step: "revoke", Group: 1, Verb: "deleted", Kind: api.ServerAuthorizationKind, Namespace: "ns", Name: "alice", Call: written, Ack: written + every/2, World: revoked}},
		Proxies: []history.Proxy{{Pod: "ns/app", World: granted}},
		Steps:   []history.StepSpan{{Name: "revoke", From: written - every, FirstWrite: written, InForce: inForce + every, To: end}}}
	var requests []history.Request
	for at := time.Duration(0); at < end; at += every {
		q := history.Request{Call: int64(len(requests) + 1), Start: at, End: at + every/5, Kind: clients.Allowed, HTTPStatus: 200, GRPCStatus: -1, Pod: "ns/app", Delivered: 1}
		if at >= inForce {
			q.Kind, q.HTTPStatus, q.Delivered = clients.Forbidden, 403, 0
		}
		requests = append(requests, q)
	}
	r.Requests = change(requests)
	for i := range r.Requests {
		r.Requests[i].ID = r.Streams[0].CallID(r.Requests[i].Call)
	}
	folder := t.TempDir()
	writer, err := history.Create(filepath.Join(folder, history.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Record(r, worlds, 0, len(r.Requests)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestAStoredRunIsRefutedByOnePlantedAnswer(t *testing.T) {
	// Call n began at (n-1)*10 ms: the revocation is written at call 101, answered
	// by it from call 104 on, and overdue from 1.505 s on.
	as := func(call int, kind clients.Kind, status, delivered int) func([]history.Request) []history.Request {
		return func(requests []history.Request) []history.Request {
			q := &requests[call-1]
			q.Kind, q.HTTPStatus, q.Delivered = kind, status, delivered
			return requests
		}
	}
	for name, row := range map[string]struct {
		change func([]history.Request) []history.Request
		code   int
		want   []string
	}{
		"as it was": {func(r []history.Request) []history.Request { return r }, ExitOK,
			[]string{"leaks 0   outages 0   requests 200   propagation p50 32ms", "0 questions in 2 worlds judged, 0 differ; 200 requests in 1 scenarios with traffic judged, 0 findings"}},
		"an answer out of date": {func(requests []history.Request) []history.Request {
			for i := 103; i < 154; i++ { // nobody has seen the new policy until 1.54 s
				requests[i].Kind, requests[i].HTTPStatus, requests[i].Delivered = clients.Allowed, 200, 1
			}
			return requests
		}, ExitFinding, []string{"revoke / revoke: stale, leak: request revoke-alice-152 at ns/app", "leaks 3   outages 0", "4 findings"}},
		"one that goes back": {as(120, clients.Allowed, 200, 1), ExitFinding,
			[]string{"backwards, leak: request revoke-alice-120 at ns/app, 1.19s to 1.192s: observed allowed (HTTP 200), and version 1 gives http-403 by server/http", "leaks 1   outages 0"}},
		"one that comes too early": {as(50, clients.Forbidden, 403, 0), ExitFinding,
			[]string{"impossible, outage: request revoke-alice-50 at ns/app", "leaks 0   outages 1"}},
		"a leak that the client does not see": {as(150, clients.Forbidden, 403, 1), ExitFinding,
			[]string{"denied-delivered, leak: request revoke-alice-150 at ns/app", "leaks 1   outages 0"}},
		"a loss that it does not see":     {as(10, clients.Allowed, 200, 0), ExitFinding, []string{"lost: request revoke-alice-10 at ns/app", "leaks 0   outages 0   other wrong answers 1"}},
		"a connection broken for nothing": {as(10, clients.Reset, 0, -1), ExitFinding, []string{"broken, outage: request revoke-alice-10 at ns/app"}},
		"one that is old once the change is in force": {func(requests []history.Request) []history.Request {
			for i := 103; i < 106; i++ { // the engine has waited until 1.04 s
				requests[i].Kind, requests[i].HTTPStatus, requests[i].Delivered = clients.Allowed, 200, 1
			}
			return requests
		}, ExitFinding, []string{"revoke / alice after: request revoke-alice-105, 1.04s to 1.042s, was allowed (HTTP 200), which is right by no policy of this time", "1 findings"}},
		"too few answers to say anything":  {func(r []history.Request) []history.Request { return r[:106] }, ExitInconclusive, []string{"revoke / alice after: 2 answers of a policy in 960ms are too few to say anything"}},
		"a stream that has never answered": {func([]history.Request) []history.Request { return nil }, ExitInconclusive, []string{"stream alice never called"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := runLine(t, "judge", revokedRun(t, row.change))
			if code != row.code {
				t.Errorf("exit code %d, want %d:\n%s%s", code, row.code, out, errOut)
			}
			for _, want := range row.want {
				if !strings.Contains(out, want) {
					t.Errorf("the answer lacks %q:\n%s%s", want, out, errOut)
				}
			}
		})
	}
	many := func(requests []history.Request) []history.Request {
		for i := range 50 {
			requests[i].Kind, requests[i].HTTPStatus, requests[i].Delivered = clients.Forbidden, 403, 0
		}
		return requests
	}
	_, out, _ := runLine(t, "judge", "-v", revokedRun(t, many))
	if strings.Count(out, "\nrevoke: and 45 more of alice that are impossible") != 1 || strings.Count(out, "impossible, outage") != maxAlike || !strings.Contains(out, "rules: X-33 ✓") {
		t.Errorf("of many findings of one kind some are told, with reasons:\n%s", out)
	}
}
