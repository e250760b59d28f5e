package timelines

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

const server = `
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {name: http, namespace: ns}
spec: {podSelector: {}, port: 8080, proxyProtocol: HTTP/1}
`

const grant = `---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: alice, namespace: ns}
spec: {server: {name: http}, client: {meshTLS: {serviceAccounts: [{name: alice}]}}}
`

func world(t *testing.T, manifest string) *history.World {
	t.Helper()
	set, err := objects.Read([]objects.Source{{Name: "world", Stream: strings.NewReader(manifest)}}, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set.World.Settings = oracle.DefaultSettings()
	w, err := history.NewWorld(api.DialectDocumented, set.World, []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", Labels: map[string]string{api.ControlPlaneLabel: "linkerd"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}, {Name: api.ProxyContainer}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const ms = time.Millisecond

// revoked is a history in which alice, who is granted, is revoked after a second;
// one of her requests is let through two seconds too late. Requests come every
// 10 ms.
func revoked(t *testing.T) *history.History {
	before, after := world(t, server+grant), world(t, server)
	r := &history.Recording{Scenario: "revoke", Dialect: string(api.DialectDocumented), Budget: time.Second, Base: before.ID,
		Streams: []history.Stream{{Name: "alice", ClientKind: "meshed", Target: "app:http", Protocol: "http1", Port: 8080, Rate: 100,
			Client:  oracle.Client{Way: oracle.Meshed, Identity: "alice.ns.serviceaccount.identity.linkerd.cluster.local", Address: netip.MustParseAddr("10.0.0.9")},
			Request: oracle.Request{Protocol: oracle.HTTP1}}},
		Writes: []history.Write{{Step: "revoke", Group: 1, Verb: "deleted", Kind: "ServerAuthorization", Name: "alice", Call: 1000 * ms, Ack: 1004 * ms, World: after.ID, Observed: 1010 * ms,
			InForce: []history.InForce{{Pod: "ns/a", Port: 8080, At: 1030 * ms, Hash: "new"}}}},
		Proxies: []history.Proxy{{Pod: "ns/a", World: before.ID}},
		Steps:   []history.StepSpan{{Name: "revoke", From: 500 * ms, FirstWrite: 1000 * ms, InForce: 1030 * ms, To: 4000 * ms}},
	}
	for n := range 400 {
		at := time.Duration(n) * 10 * ms
		q := history.Request{Stream: 0, Call: int64(n + 1), Start: at, End: at + 2*ms, Kind: clients.Allowed, HTTPStatus: 200, GRPCStatus: -1, Pod: "ns/a", Hash: "old", Delivered: 1, ID: fmt.Sprintf("q%d", n)}
		if at >= 1030*ms && n != 300 {
			q.Kind, q.HTTPStatus, q.Hash, q.Delivered = clients.Forbidden, 403, "new", 0
		}
		r.Requests = append(r.Requests, q)
	}
	return &history.History{Worlds: map[string]*history.World{before.ID: before, after.ID: after}, Recordings: []*history.Recording{r}}
}

func TestARecordingBecomesATimeLineWithTheFindingsOfItsVerdict(t *testing.T) {
	run := &result.Run{Scenarios: []result.Scenario{{Name: "revoke", Steps: []result.Step{{Name: "revoke", Claims: []result.Claim{{Name: "alice after: denied", Shows: []string{"L-09"}}}}}}}}
	if err := attach(revoked(t), run); err != nil {
		t.Fatal(err)
	}
	line := run.Evidence.Timelines[0]
	if n := len(line.Requests.Call); n != 400 || line.End != 4_000_000 {
		t.Fatalf("%d requests until %d", n, line.End)
	}
	leaks := slices.DeleteFunc(slices.Clone(line.Findings), func(f timeline.Finding) bool { return f.Harm != "leak" })
	if len(leaks) != 1 || leaks[0].Request != 300 || !strings.Contains(leaks[0].Text, "q300") {
		t.Errorf("findings %+v", line.Findings)
	}
	text := func(at int) string { return line.Texts[at] }
	var said []string
	for _, e := range line.Expected {
		said = append(said, fmt.Sprintf("%d: %s", e.Version, text(e.Outcome)))
		if !strings.Contains(text(e.Why), "✓") {
			t.Errorf("version %d has no reasons: %q", e.Version, text(e.Why))
		}
	}
	if len(said) != 2 || !strings.Contains(said[0], "alice") || strings.Contains(said[1], "alice") {
		t.Errorf("the rules say %q", said)
	}
	r := line.Requests
	if text(r.Outcome[0]) != "allowed (HTTP 200)" || r.Class[0] != timeline.Allowed || r.Class[399] != timeline.Denied || text(r.Hash[399]) != "new" {
		t.Errorf("the first was %s, the last %s by %s", text(r.Outcome[0]), text(r.Outcome[399]), text(r.Hash[399]))
	}
	s := line.Streams[0]
	if s.Client != "alice.ns" || len(s.Windows) != 1 || s.Windows[0].Informative < 100 || s.Achieved < 99 {
		t.Errorf("stream %+v", s)
	}
	if len(run.Evidence.Changes) != 1 || !strings.Contains(run.Evidence.Changes[0].Kind, "allow→deny") || run.Evidence.Changes[0].New != 32_000 {
		t.Errorf("changes %+v", run.Evidence.Changes)
	}
}

func TestAMeasuredValueIsKeptUnderWhatItMeasures(t *testing.T) {
	run := &result.Run{}
	if err := attach(revoked(t), run); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, s := range run.Samples {
		got[s.Name] = len(s.Values)
	}
	if len(got) != 2 || got["propagation, ServerAuthorization deleted: allow→deny"] != 1 || got["latency, meshed http1 fresh"] != 400 {
		t.Errorf("samples %v", got)
	}
}

func TestWhatWasSeenIsCountedByRuleClassAndProtocol(t *testing.T) {
	run := &result.Run{Scenarios: []result.Scenario{{Name: "revoke", Steps: []result.Step{{Claims: []result.Claim{{Name: "alice after: denied", Shows: []string{"L-09"}}}}}}}}
	h := revoked(t)
	h.Questions = []*history.Question{{Form: history.Call, Shows: []string{"T-05"}, Client: oracle.Client{Way: oracle.Plain}, Request: oracle.Request{Protocol: oracle.TCP}, Observed: history.Observed{Kind: clients.Closed}}}
	if err := attach(h, run); err != nil {
		t.Fatal(err)
	}
	c := run.Evidence.Coverage
	want := []timeline.Column{{Class: "plain", Protocol: "tcp"}, {Class: "meshed", Protocol: "http1"}}
	if !slices.Equal(c.Columns, want) {
		t.Fatalf("columns %v, want %v", c.Columns, want)
	}
	cell := func(rule string, column int) timeline.Cell {
		t.Helper()
		at := slices.IndexFunc(c.Rules, func(r timeline.Rule) bool { return r.ID == rule })
		if at < 0 {
			t.Fatalf("there is no rule %s", rule)
		}
		return c.Rules[at].Cells[column]
	}
	if got := cell("T-05", 0); got != (timeline.Cell{Denied: 1}) {
		t.Errorf("T-05: %+v", got)
	}
	// The requests that were under way while policy changed are not counted.
	if got := cell("L-09", 1); got.Allowed != 101 || got.Denied != 296 {
		t.Errorf("L-09: %+v", got)
	}
	for _, kind := range c.Transitions {
		if want := map[bool]int{true: 1}[kind.Name == "ServerAuthorization deleted"]; kind.N != want {
			t.Errorf("%s was counted %d times, want %d", kind.Name, kind.N, want)
		}
	}
}

// attach is Attach without a file.
func attach(h *history.History, run *result.Run) error {
	a := &attaching{run: run, evidence: &timeline.Evidence{}, cover: newCover(run), samples: newSamples()}
	of := map[string]evidence{}
	for _, r := range h.Recordings {
		of[r.Scenario] = evidence{}
	}
	return errors.Join(a.add(h, of), a.done())
}

// A page bears only so many requests: what has not passed comes first.
func TestScenariosThatPassedAreDrawnWhileThereIsRoom(t *testing.T) {
	h := revoked(t)
	bad := h.Recordings[0]
	run := &result.Run{Scenarios: []result.Scenario{{Name: "revoke", Outcome: result.Failed}}}
	h.Recordings = nil
	for n := range 3 {
		good := *bad
		good.Scenario = fmt.Sprintf("passed-%d", n)
		good.Requests = nil
		for i := range mostRequests * 2 / 5 {
			q := bad.Requests[0]
			q.Start, q.End = time.Duration(i)*time.Microsecond, time.Duration(i)*time.Microsecond+1
			good.Requests = append(good.Requests, q)
		}
		h.Recordings = append(h.Recordings, &good)
		run.Scenarios = append(run.Scenarios, result.Scenario{Name: good.Scenario, Outcome: result.Passed})
	}
	h.Recordings = append(h.Recordings, bad)
	if err := attach(h, run); err != nil {
		t.Fatal(err)
	}
	var drawn []string
	for _, line := range run.Evidence.Timelines {
		drawn = append(drawn, line.Scenario)
	}
	if want := []string{"revoke", "passed-0", "passed-1"}; !slices.Equal(drawn, want) || run.Evidence.Omitted != 1 {
		t.Errorf("drawn are %q, and %d are not; want %q", drawn, run.Evidence.Omitted, want)
	}
}

func TestARunWithoutAHistoryStaysAsItIs(t *testing.T) {
	run := &result.Run{}
	if err := Attach(t.TempDir(), run); err != nil || run.Evidence != nil {
		t.Errorf("%v, %+v", err, run.Evidence)
	}
}
