package engine

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// said is what the rules would say of a call over HTTP/1.
func said(outcome oracle.Outcome, seen clients.Kind) *ruling {
	v := oracle.Verdict{Outcome: outcome, Course: oracle.AsHTTP, TLS: "no_identity", Server: oracle.Label{Group: api.Group, Kind: "server", Name: "web"}, Route: oracle.Label{Kind: "default", Name: "default"}}
	if outcome.Allowed() {
		v.Authorization = oracle.Label{Group: api.Group, Kind: "serverauthorization", Name: "a"}
		v.Fitting = []oracle.Label{v.Authorization}
	}
	return &ruling{&history.Question{Form: history.Call, Client: oracle.Client{Way: oracle.Plain}, Request: oracle.Request{Protocol: oracle.HTTP1}, Observed: history.Observed{Kind: seen}}, v}
}

func TestWithoutWitnessesAnAnswerThatMayBeTheApplicationsIsInconclusive(t *testing.T) {
	for _, row := range []struct {
		name string
		by   seenBy
		want result.Outcome
	}{
		{"nobody could be asked", seenBy{}, result.Inconclusive},
		{"the application has got it", seenBy{delivered: true, deliveryKnown: true}, result.Passed},
		{"the application has not got it", seenBy{deliveryKnown: true}, result.Failed},
	} {
		t.Run(row.name, func(t *testing.T) {
			j := &callJudge{claim: &scenarios.PlannedClaim{Claim: &scenarios.Claim{}, Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.HTTP1}, Expect: scenarios.Expect{"redirected"}}},
				from: client{clientPod: &clientPod{}}, target: scenarios.Target{Port: 8080}, oracle: oracle.Oracle{Dialect: api.Documented()}}
			rules := said(oracle.Delivered, clients.Redirected)
			rules.question.Observed.Reached = row.by.delivered
			if got := j.decideOne(seen(clients.Redirected), rules, row.by); got.outcome != row.want {
				t.Errorf("got %s (%s), want %s", got.outcome, got.reason, row.want)
			}
		})
	}
}

func TestACallIsHeldAgainstExpectationRulesAndRecord(t *testing.T) {
	for _, test := range []struct {
		name    string
		expect  scenarios.Expect
		by      string
		rules   oracle.Outcome
		saw     clients.Kind
		record  string
		arrived bool
		want    result.Outcome
		because string
	}{
		{name: "all agree", expect: scenarios.Expect{"denied"}, rules: oracle.Forbidden, saw: clients.Forbidden, record: "deny", want: result.Passed},
		{name: "nothing is written, and the rules are kept", rules: oracle.Forbidden, saw: clients.Forbidden, record: "deny", want: result.Passed},
		{name: "nothing is written, and the rules are broken", rules: oracle.Forbidden, saw: clients.Allowed, record: "allow", arrived: true, want: result.Failed, because: "expected http-403, observed allowed"},
		{name: "the expectation is wrong", expect: scenarios.Expect{"allowed"}, rules: oracle.Forbidden, saw: clients.Allowed, record: "allow", arrived: true, want: result.Failed, because: "the expectation contradicts the rule book"},
		{name: "the expectation is wrong though the mesh is right", expect: scenarios.Expect{"allowed"}, rules: oracle.Forbidden, saw: clients.Forbidden, record: "deny", want: result.Failed, because: "the expectation contradicts the rule book"},
		{name: "the credit is expected where it is not due", expect: scenarios.Expect{"allowed"}, by: "default/audit", rules: oracle.Delivered, saw: clients.Allowed, record: "allow", arrived: true, want: result.Failed, because: "the authorization default/audit is expected"},
		{name: "denied and delivered all the same", rules: oracle.Forbidden, saw: clients.Forbidden, record: "deny", arrived: true, want: result.Failed, because: "the application got the request"},
		{name: "allowed and not delivered", rules: oracle.Delivered, saw: clients.Allowed, record: "allow", want: result.Failed, because: "never reached the application"},
		{name: "refused by somebody, and the proxy says that it let it pass", rules: oracle.Forbidden, saw: clients.Forbidden, record: "allow", want: result.Failed, because: `the decision is "deny", the proxy recorded "allow"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &callJudge{claim: &scenarios.PlannedClaim{Claim: &scenarios.Claim{}, Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.HTTP1}, Expect: test.expect, By: test.by}},
				from: client{clientPod: &clientPod{}}, target: scenarios.Target{Port: 8080}, oracle: oracle.Oracle{Dialect: api.Documented()}}
			rules := said(test.rules, test.saw)
			record := &decision{Verdict: test.record, Server: "server/web", Route: "default/default", Authorization: rules.verdict.Authorization.String()}
			rules.question.Observed.Record = &history.Record{Verdict: record.Verdict, Server: record.Server, Route: record.Route, Authorization: record.Authorization}
			got := j.decideOne(seen(test.saw), rules, seenBy{record: record, recordKnown: true, delivered: test.arrived, deliveryKnown: true})
			if got.outcome != test.want || !strings.Contains(got.reason, test.because) {
				t.Errorf("got %s (%s), want %s (%s)", got.outcome, got.reason, test.want, test.because)
			}
		})
	}
}

// counted is a page of metrics with one row of denials on port 8080.
func counted(denials int, more string) []byte {
	return fmt.Appendf(nil, `# TYPE inbound_http_authz_deny_total counter
inbound_http_authz_deny_total{srv_group="policy.linkerd.io",srv_kind="server",srv_name="web",srv_port="8080",tls="no_identity",client_id="",route_group="",route_kind="default",route_name="default"%s} %d
`, more, denials)
}

func TestCountersRiseByWhatTheVerdictsSay(t *testing.T) {
	set, err := scenarios.Parse("s.yaml", []byte(`apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: s, feature: Metrics}
spec:
  summary: s
  workloads: [{name: app, kind: echo}, {name: probed, kind: probed, readiness: http}]
  clients: [{name: a, kind: unmeshed}]
  steps: [{name: one, claims: [{name: c, call: {client: a, target: app, protocol: http1}}]}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := scenarios.NewPlan(set, nil)
	for _, test := range []struct {
		name      string
		component string
		before    []byte
		after     []byte
		want      result.Outcome
	}{
		{"as many as were denied", "app", counted(3, ""), counted(5, ""), result.Passed},
		{"fewer", "app", counted(3, ""), counted(4, ""), result.Failed},
		{"more, and nobody else calls", "app", counted(3, ""), counted(6, ""), result.Failed},
		{"more, where probes are denied too", "probed", counted(3, ""), counted(6, ""), result.Passed},
		{"fewer, where probes are denied too", "probed", counted(3, ""), counted(4, ""), result.Failed},
		{"with an authorization, which a denial has none of", "app", counted(3, `,authz_kind="default"`), counted(5, `,authz_kind="default"`), result.Failed},
		{"of another server", "app", counted(3, ""), []byte(strings.Replace(string(counted(5, "")), `"web"`, `"other"`, 1)), result.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scenarioRun{planned: plan.Scenarios[0]}
			j := &callJudge{claim: plan.Claims()[0], target: scenarios.Target{Component: test.component, Port: 8080}, verdict: verdict{outcome: result.Passed},
				outcomes: []clients.Outcome{seen(clients.Forbidden), seen(clients.Forbidden)}, rulings: []*ruling{said(oracle.Forbidden, clients.Forbidden), said(oracle.Forbidden, clients.Forbidden)}}
			log := &witnessLog{meshed: true, counted: [2][]byte{test.before, test.after}}
			s.compareCounters([]*callJudge{j}, map[string][]*witnessLog{test.component: {log}}, &baseline{step: &plan.Scenarios[0].Steps[0]})
			if j.verdict.outcome != test.want {
				t.Errorf("got %s (%s), want %s", j.verdict.outcome, j.verdict.reason, test.want)
			}
		})
	}
}

// parsed is the objects of a stream.
func parsed(t *testing.T, stream string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, text := range strings.Split(stream, "---\n") {
		object := &unstructured.Unstructured{}
		encoded, err := yaml.YAMLToJSON([]byte(text))
		if err == nil {
			err = object.UnmarshalJSON(encoded)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, object)
	}
	return out
}

const (
	aServer = `{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: web, namespace: ns}}
`
	aRoute = `{apiVersion: policy.linkerd.io/v1beta3, kind: HTTPRoute, metadata: {name: r, namespace: ns, generation: 2, resourceVersion: "7"},
 spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]},
 status: {parents: [{controllerName: linkerd.io/policy-controller, parentRef: {group: policy.linkerd.io, kind: Server, name: web},
   conditions: [{type: Accepted, status: "STATUS", reason: X, message: "", observedGeneration: SEEN}]}]}}
`
	aCall = `{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: g, namespace: ns},
 spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]},
 status: {parents: [{controllerName: linkerd.io/policy-controller, parentRef: {group: policy.linkerd.io, kind: Server, name: web}, conditions: [{type: Accepted, status: "True", reason: X, message: ""}]}]}}
`
	aLimit = `{apiVersion: policy.linkerd.io/v1alpha1, kind: HTTPLocalRateLimitPolicy, metadata: {name: NAME, namespace: ns, creationTimestamp: "2026-01-01T00:00:00Z", resourceVersion: "9"},
 spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}}, status: {conditions: [{type: Accepted, status: "STATUS", reason: X, message: ""}]}}
`
)

func route(status string, observed int) string {
	return strings.NewReplacer("STATUS", status, "SEEN", fmt.Sprint(observed)).Replace(aRoute)
}

func limit(name, status string) string {
	return strings.NewReplacer("NAME", name, "STATUS", status).Replace(aLimit)
}

func TestAWriteIsInForceWhenTheStatusesFollow(t *testing.T) {
	for _, test := range []struct {
		name, objects, want string
	}{
		{"an accepted route", aServer + "---\n" + route("True", 2), ""},
		{"a route whose Server is there and that is refused still", aServer + "---\n" + route("False", 2), "HTTPRoute ns/r: its status does not follow: it should be Accepted by Server ns/web, and is Accepted=False because of X"},
		{"a route whose Server is gone and that is accepted still", route("True", 2), "it should be refused by Server ns/web"},
		{"a route whose Server is gone", route("False", 2), ""},
		{"the status of an earlier version", aServer + "---\n" + route("True", 1), "it is that of an earlier version"},
		{"a route that nobody has looked at", aServer + "---\n" + strings.Replace(route("True", 2), "linkerd.io/policy-controller", "somebody.else", 1), "the controller has not written any for its parent Server ns/web"},
		{"a route that shares its Server with a GRPCRoute", aServer + "---\n" + route("False", 2) + "---\n" + aCall, ""},
		{"and is accepted still", aServer + "---\n" + route("True", 2) + "---\n" + aCall, "it should be refused by Server ns/web"},
		{"two limits, of which the first counts", aServer + "---\n" + limit("b", "False") + "---\n" + limit("a", "True"), ""},
		{"two limits, of which both do", aServer + "---\n" + limit("b", "True") + "---\n" + limit("a", "True"), "HTTPLocalRateLimitPolicy ns/b: its status does not follow"},
		{"a limit of no Server", limit("a", "False"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			least := versions{}
			err := unsettled(parsed(t, test.objects), least)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err == nil && strings.Contains(test.objects, "HTTPRoute") && least["httproutes"] != 7 {
				t.Errorf("the bounds are %v", least)
			}
		})
	}
}

func TestEveryKindThatIsWrittenHasANameByWhichItIsWatched(t *testing.T) {
	for _, kind := range policies {
		if watchedAs[kind.GroupKind()] == "" {
			t.Errorf("%s has none", kind)
		}
	}
}

func TestAnyPodWillDoWhenNoWitnessSaysWhich(t *testing.T) {
	up := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	down := &corev1.Pod{}
	logs := []*witnessLog{{running: down}, {running: up}}
	if targetPod(logs, nil, nil) != up || targetPod(logs[:1], nil, nil) != down || targetPod(logs, logs[0], nil) != down || targetPod(nil, nil, nil) != nil {
		t.Error("another pod was taken")
	}
}
