package history

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

const alice = "alice.clients.serviceaccount.identity.linkerd.cluster.local"

// small is a pod with a Server on its port, one grant for alice, and a port
// without a Server.
func small(t *testing.T) *World {
	t.Helper()
	world := oracle.World{Settings: oracle.DefaultSettings(), Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}},
		Servers: []*api.Server{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"kind": "web"}},
			Spec: api.ServerSpec{PodSelector: &api.LabelSelector{MatchLabels: map[string]string{"app": "app"}}, Port: intstr.FromString("http")}}},
		ServerAuthorizations: []*api.ServerAuthorization{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "alice"},
			Spec: api.ServerAuthorizationSpec{Server: api.ServerReference{Name: "web"}, Client: api.Client{MeshTLS: &api.MeshTLS{Identities: []string{alice}}}}}},
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app-1", UID: "1", Labels: map[string]string{"app": "app", api.ControlPlaneLabel: "linkerd"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "somebody"}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "tcp", ContainerPort: 9090}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}}}}}}
	w, err := NewWorld(api.DialectDocumented, world, []*corev1.Pod{pod})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var (
	asAlice   = oracle.Client{Way: oracle.Meshed, Address: netip.MustParseAddr("10.0.0.7"), Identity: alice}
	asAnybody = oracle.Client{Way: oracle.Plain, Address: netip.MustParseAddr("10.0.0.8")}
)

// observed are questions with what a mesh that follows the rules lets be seen.
func observed() []*Question {
	get := oracle.Request{Protocol: oracle.HTTP1, Path: "/"}
	route := "default/default"
	return []*Question{
		{Claim: "s.1.1", Shows: []string{"X-32"}, Form: Call, Pod: "ns/app-1", Port: 8080, Client: asAlice, Request: get,
			Observed: Observed{Kind: clients.Allowed, HTTPStatus: 200, Reached: true, Record: &Record{Verdict: "allow", Protocol: "http1", Server: "server/web", Route: route, Authorization: "serverauthorization/alice"}}},
		{Claim: "s.1.2", Shows: []string{"N-01", "X-11"}, Form: Call, Pod: "ns/app-1", Port: 8080, Client: asAnybody, Request: get,
			Observed: Observed{Kind: clients.Forbidden, HTTPStatus: 403, Record: &Record{Verdict: "deny", Protocol: "http1", Server: "server/web", Route: route}}},
		{Claim: "s.1.3", Shows: []string{"X-02"}, Form: Policy, Pod: "ns/app-1", Port: 8080, Observed: Observed{Server: "server/web"}},
		{Claim: "s.1.4", Shows: []string{"X-10"}, Form: Held, Pod: "ns/app-1", Port: 9090, Client: asAnybody, Request: oracle.Request{Protocol: oracle.TCP}, Observed: Observed{Kind: clients.Allowed}},
		{Claim: "s.1.5", Shows: []string{"P-06"}, Form: Probe, Pod: "ns/app-1", Port: 8080, Client: asAnybody, Request: get, Observed: Observed{Kind: clients.Closed}},
	}
}

func written(t *testing.T, end bool) string {
	t.Helper()
	folder := t.TempDir()
	writer, err := Create(filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	world := small(t)
	for _, q := range observed() {
		if err := writer.Add(world, q); err != nil {
			t.Fatal(err)
		}
	}
	if end {
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestARunIsJudgedAgainAsItWas(t *testing.T) {
	h, err := Open(written(t, true))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Worlds) != 1 || len(h.Questions) != len(observed()) || h.Cut {
		t.Fatalf("%d worlds, %d questions, cut %v", len(h.Worlds), len(h.Questions), h.Cut)
	}
	for _, q := range h.Questions {
		if differences, err := q.Judge(oracle.DefaultRules()); err != nil || len(differences) > 0 {
			t.Errorf("%s: %v %v", q.Claim, differences, err)
		}
	}
}

func TestARunThatCrashedIsReadAsFarAsItWent(t *testing.T) {
	folder := written(t, false)
	h, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Questions) != len(observed()) || !h.Cut {
		t.Errorf("%d questions, cut %v", len(h.Questions), h.Cut)
	}
	text, err := os.ReadFile(filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, FileName), text[:len(text)*9/10], 0o644); err != nil {
		t.Fatal(err)
	}
	if h, err = Open(folder); err != nil || len(h.Questions) == 0 || len(h.Questions) == len(observed()) || !h.Cut {
		t.Errorf("of most of the file %d questions were read, cut %v: %v", len(h.Questions), h.Cut, err)
	}
}

func TestAnEmptyFolderHasNoHistory(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestARuleThatIsTurnedRoundTurnsTheClaimsThatShowIt(t *testing.T) {
	h, err := Open(written(t, true))
	if err != nil {
		t.Fatal(err)
	}
	noticed := map[string]bool{}
	for _, n := range oracle.Negations() {
		turned, err := h.Turned(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, claim := range turned {
			noticed[n.Rule] = true
			at := slices.IndexFunc(h.Questions, func(q *Question) bool { return q.Claim == claim })
			if !slices.Contains(h.Questions[at].Shows, n.Rule) {
				t.Errorf("%s turns %s, which does not show it", n.Rule, claim)
			}
		}
	}
	for _, rule := range []string{"X-32", "N-01", "X-02", "P-06"} {
		if !noticed[rule] {
			t.Errorf("no claim turns with the contrary of %s", rule)
		}
	}
}

// An answer that came before its policy was in force is wrong by every rule, and
// so tells nothing of one.
func TestWhatIsAtOddsAlreadyTurnsNothing(t *testing.T) {
	folder := t.TempDir()
	writer, err := Create(filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	early := observed()[0]
	early.Observed, early.Early = Observed{Kind: clients.Forbidden, HTTPStatus: 403}, true
	if err := errors.Join(writer.Add(small(t), early), writer.Close()); err != nil {
		t.Fatal(err)
	}
	h, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if !h.Questions[0].Early {
		t.Error("it is not known any more that the question came early")
	}
	for _, n := range oracle.Negations() {
		if turned, err := h.Turned(n); err != nil || len(turned) > 0 {
			t.Errorf("the contrary of %s turns %v, %v", n.Rule, turned, err)
		}
	}
}

// A list that is there and empty means something else than none (C-08).
func TestAWorldIsReadAsItWasWritten(t *testing.T) {
	expressions := []api.SelectorRequirement{{Key: "a", Operator: api.Exists, Values: []string{}}, {Key: "a", Operator: api.Exists}}
	world := oracle.World{Servers: []*api.Server{{Spec: api.ServerSpec{PodSelector: &api.LabelSelector{MatchExpressions: expressions}}}}}
	w, err := NewWorld(api.DialectDocumented, world, nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	writer, err := Create(filepath.Join(folder, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writer.Add(w, observed()[0]), writer.Close()); err != nil {
		t.Fatal(err)
	}
	h, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Worlds[w.ID].World.Servers[0].Spec.PodSelector.MatchExpressions; !reflect.DeepEqual(got, expressions) {
		t.Errorf("expressions are %#v, were %#v", got, expressions)
	}
}

func TestWhatIsAtOddsWithTheRulesIsFound(t *testing.T) {
	world := small(t)
	for _, row := range []struct {
		claim  string
		at     int
		change func(*Observed)
		want   string
	}{
		{"another outcome", 0, func(o *Observed) { *o = Observed{Kind: clients.Forbidden} }, "by the rules it is delivered, observed http-403"},
		{"another server", 0, func(o *Observed) { o.Record.Server = "default/deny" }, "the server is"},
		{"another route", 0, func(o *Observed) { o.Record.Route = "HTTPRoute/a" }, "the route is"},
		{"another authorization", 0, func(o *Observed) { o.Record.Authorization = "default/audit" }, "the authorization is"},
		{"another decision", 1, func(o *Observed) { o.Record.Verdict = "allow" }, "the decision is"},
		{"a connection in place of requests", 1, func(o *Observed) { o.Record.Protocol = "opaque" }, "the course is"},
		{"an application that is away", 0, func(o *Observed) { o.Kind, o.Reached, o.Record = clients.Unavailable, false, nil }, "observed unavailable"},
		{"an application that was reached and says so itself", 0, func(o *Observed) { o.Kind = clients.NotFound }, ""},
		{"a line in the log", 0, func(o *Observed) { yes := true; o.Logged = &yes }, "logged as audited: false"},
		{"another policy", 2, func(o *Observed) { o.Server = "default/deny" }, "the port has the policy of"},
		{"a connection that is cut", 3, func(o *Observed) { o.Kind = clients.Closed }, "observed closed"},
		{"a probe that is let in", 4, func(o *Observed) { o.Kind = clients.Allowed }, "observed allowed"},
	} {
		t.Run(row.claim, func(t *testing.T) {
			q := observed()[row.at]
			row.change(&q.Observed)
			differences, err := world.Differences(q, oracle.DefaultRules())
			if err != nil {
				t.Fatal(err)
			}
			if found := strings.Join(differences, "; "); (row.want == "") != (found == "") || !strings.Contains(found, row.want) {
				t.Errorf("%q, want %q", found, row.want)
			}
		})
	}
}

func TestANilWriterForgets(t *testing.T) {
	var writer *Writer
	if err := errors.Join(writer.Add(small(t), observed()...), writer.Close()); err != nil {
		t.Error(err)
	}
}
