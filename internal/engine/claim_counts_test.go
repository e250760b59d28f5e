package engine

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func TestAMetricIsTheSumOfTheSeriesThatFit(t *testing.T) {
	text := []byte(`# TYPE deny_total counter
deny_total{srv_name="a",port="1"} 2
deny_total{srv_name="a",port="2",authz_name=""} 3
deny_total{srv_name="b",authz_name="x"} 10
# TYPE watchers gauge
watchers 4
# TYPE latency_ms histogram
latency_ms_bucket{le="1"} 5
latency_ms_bucket{le="+Inf"} 7
latency_ms_sum 12
latency_ms_count 7
`)
	for _, test := range []struct {
		name    string
		labels  map[string]string
		without []string
		want    float64
	}{
		{name: "deny_total", labels: map[string]string{"srv_name": "a"}, want: 5},
		{name: "deny_total", want: 15},
		{name: "deny_total", labels: map[string]string{"srv_name": "c"}, want: 0},
		{name: "deny_total", without: []string{"authz_name"}, want: 5},
		{name: "deny_total", labels: map[string]string{"srv_name": "b"}, without: []string{"authz_name"}, want: 0},
		{name: "watchers", want: 4},
		{name: "latency_ms", want: 7},
		{name: "other", want: 0},
	} {
		if got, err := measured(text, test.name, test.labels, test.without); err != nil || got != test.want {
			t.Errorf("%s%v without %v: got %v, %v, want %v", test.name, test.labels, test.without, got, err, test.want)
		}
	}
}

func TestALineFitsByItsMessageAndAllItsFields(t *testing.T) {
	log := []byte(`{"level":"INFO","msg":"Request denied","client.id":"bob.ns","client.tls":"true"}
not JSON
{"level":"INFO","msg":"Request denied","client.id":"","client.tls":"no_identity"}
{"level":"INFO","msg":"Request allowed","client.id":"bob.ns"}
{"level":"INFO","msg":"Request denied","suppressed":3}
`)
	for _, test := range []struct {
		message string
		fields  map[string]string
		want    int
	}{
		{"Request denied", nil, 3},
		{"Request denied", map[string]string{"client.id": "bob"}, 0},
		{"Request denied", map[string]string{"client.id": "bob[.].*"}, 1},
		{"Request denied", map[string]string{"client.id": ".*"}, 2},
		{"Request denied", map[string]string{"client.id": "bob.ns", "client.tls": "no_identity"}, 0},
		{"Request denied", map[string]string{"suppressed": "3"}, 1},
		{"Request", nil, 0},
	} {
		fields := map[string]*regexp.Regexp{}
		for name, text := range test.fields {
			fields[name] = regexp.MustCompile("^(?:" + text + ")$")
		}
		if got := matching(log, test.message, fields); len(got) != test.want {
			t.Errorf("%s %v: %d lines fit, want %d", test.message, test.fields, len(got), test.want)
		}
	}
}

// A number that is right at first and grows afterwards was not right.
func TestANumberThatMustNotBeHigherIsLookedAtAgain(t *testing.T) {
	s := &scenarioRun{}
	for _, test := range []struct {
		is   scenarios.Count
		want result.Outcome
	}{{"1", result.Failed}, {"none", result.Failed}, {"some", result.Passed}} {
		number := -1.0
		if test.is == "1" || test.is == "some" {
			number = 0
		}
		got := s.counted(context.Background(), &scenarios.Claim{}, test.is, func() verdict {
			number++
			if !test.is.Fits(number) {
				return failed("%v of %s", number, test.is)
			}
			return passed("")
		})
		if got.outcome != test.want {
			t.Errorf("%s: got %s", test.is, got.outcome)
		}
	}
}

func TestAConditionIsThatOfItsParentAndController(t *testing.T) {
	entry := func(controller, kind, name, status, reason string) map[string]any {
		return map[string]any{"controllerName": controller, "parentRef": map[string]any{"kind": kind, "name": name},
			"conditions": []any{map[string]any{"type": "Accepted", "status": status, "reason": reason}}}
	}
	object := map[string]any{"status": map[string]any{
		"parents": []any{
			entry(scenarios.PolicyController, "Server", "http", "True", "Accepted"),
			entry(scenarios.PolicyController, "Server", "gone", "False", "NoMatchingParent"),
			entry("example.com/other", "Server", "http", "False", "Refused"),
			entry("example.com/other", "Gateway", "http", "True", "Accepted"),
			entry(scenarios.PolicyController, "Server", "twice", "True", "Accepted"),
			entry(scenarios.PolicyController, "Server", "twice", "True", "Accepted"),
		},
		"conditions": []any{map[string]any{"type": "Accepted", "status": "False", "reason": "RateLimitReasonAlreadyExists"}},
	}}
	for _, test := range []struct {
		claim scenarios.StatusClaim
		want  result.Outcome
	}{
		{scenarios.StatusClaim{Parent: "http", Is: "True", Reason: "Accepted"}, result.Passed},
		{scenarios.StatusClaim{Parent: "Server/http", Is: "True"}, result.Passed},
		{scenarios.StatusClaim{Parent: "http", Is: "True", Reason: "Other"}, result.Failed},
		{scenarios.StatusClaim{Parent: "http", Is: "False"}, result.Failed},
		{scenarios.StatusClaim{Parent: "http", Is: "absent"}, result.Failed},
		{scenarios.StatusClaim{Parent: "gone", Is: "False", Reason: "NoMatchingParent"}, result.Passed},
		{scenarios.StatusClaim{Parent: "http", Controller: "example.com/other", Is: "False", Reason: "Refused"}, result.Passed},
		{scenarios.StatusClaim{Parent: "Gateway/http", Controller: "example.com/other", Is: "True"}, result.Passed},
		{scenarios.StatusClaim{Parent: "Gateway/http", Is: "absent"}, result.Passed},
		{scenarios.StatusClaim{Parent: "never", Is: "absent"}, result.Passed},
		{scenarios.StatusClaim{Parent: "never", Is: "True"}, result.Failed},
		{scenarios.StatusClaim{Parent: "twice", Is: "True"}, result.Failed},
		{scenarios.StatusClaim{Is: "False", Reason: "RateLimitReasonAlreadyExists"}, result.Passed},
	} {
		test.claim.Condition = "Accepted"
		if got := compareStatus(&test.claim, test.claim.Parent, object); got.outcome != test.want {
			t.Errorf("%+v: got %s (%s)", test.claim, got.outcome, got.reason)
		}
	}
	other := scenarios.StatusClaim{Parent: "http", Condition: "ResolvedRefs", Is: "True"}
	if got := compareStatus(&other, "http", object); got.outcome != result.Failed || !strings.Contains(got.reason, "no such condition") {
		t.Errorf("a condition of another type: got %s (%s)", got.outcome, got.reason)
	}
}
