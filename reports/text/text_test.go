package text

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
)

func scenario(name string, outcome result.Outcome, reason string, claims ...result.Claim) result.Scenario {
	return result.Scenario{Name: name, Outcome: outcome, Reason: reason, Steps: []result.Step{{Name: "first", Claims: claims}}}
}

func summary(t *testing.T, scenarios ...result.Scenario) string {
	t.Helper()
	var out strings.Builder
	if err := Summary(&out, &result.Run{Outcome: result.Error, ExitCode: 3, Scenarios: scenarios}, "report.html"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAReasonThatManyScenariosShareIsToldOnce(t *testing.T) {
	unjudged := result.Claim{Name: "denied", Outcome: result.Skipped, Reason: "not reached: no namespaces"}
	var all []result.Scenario
	for i := range 12 {
		all = append(all, scenario(fmt.Sprintf("s%02d", i), result.Error, "no namespaces", unjudged, unjudged))
	}
	all = append(all, scenario("other", result.Error, "no image", unjudged))
	got := summary(t, all...)
	for _, want := range []string{
		"✗ error: s00, s01, s02, s03, s04, s05, s06 and 5 more: no namespaces (24 of 24 claims were not judged)\n",
		"✗ error: other: no image (1 of 1 claims were not judged)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "no namespaces"); n != 1 {
		t.Errorf("the reason is told %d times, want once:\n%s", n, got)
	}
}

func TestAReasonThatIsAClaimsIsToldWithTheClaim(t *testing.T) {
	failed := result.Claim{Name: "denied", Outcome: result.Failed, Reason: "expected denied, observed allowed"}
	got := summary(t, scenario("one", result.Failed, "denied: "+failed.Reason, failed),
		scenario("two", result.Failed, "the policy is not in force", failed))
	if strings.Contains(got, "failed: one: ") || !strings.Contains(got, "failed: one / first / denied\n") {
		t.Errorf("scenario one is not told by its claim alone:\n%s", got)
	}
	if !strings.Contains(got, "failed: two: the policy is not in force\n") {
		t.Errorf("scenario two has a reason of its own:\n%s", got)
	}
}

func denied(client, protocol, reason string) result.Claim {
	return result.Claim{Name: "nobody: " + client + " → app over " + protocol + " is denied", Client: client, Target: "app", Protocol: protocol,
		Outcome: result.Failed, Reason: reason, Source: result.Source{File: "one.yaml", Line: 7}}
}

func TestCellsThatFailAlikeAreToldOnce(t *testing.T) {
	const reason = "expected denied (http-403), observed allowed (HTTP 200)"
	var claims []result.Claim
	for i := range 8 {
		claims = append(claims, denied(fmt.Sprintf("c%d", i), "http1", reason))
	}
	claims = append(claims, denied("c0", "grpc", "expected denied (permission-denied), observed allowed (grpc-status 0)"))
	elsewhere := denied("c9", "http1", reason)
	elsewhere.Source.Line = 8
	got := summary(t, scenario("one", result.Failed, "", append(claims, elsewhere)...))
	for _, want := range []string{
		"✗ failed: one / first / nobody: c0 → app over http1 is denied\n",
		"    likewise  c1 → app over http1, c2 → app over http1, c3 → app over http1, c4 → app over http1 and 3 more\n",
		"✗ failed: one / first / nobody: c0 → app over grpc is denied\n",
		"✗ failed: one / first / nobody: c9 → app over http1 is denied\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "✗ failed: one / "); n != 3 {
		t.Errorf("%d findings are told whole, want 3:\n%s", n, got)
	}
	if strings.Contains(got, "most frequent") {
		t.Errorf("three findings need no digest:\n%s", got)
	}
}

func TestManyFindingsHaveADigest(t *testing.T) {
	var all []result.Scenario
	for i := range manyFindings {
		all = append(all, scenario(fmt.Sprintf("s%02d", i), result.Failed, "", denied("a", "http1", "often"), denied("b", "http1", "often")))
	}
	all = append(all, scenario("last", result.Failed, "", denied("a", "tcp", "once")))
	got := summary(t, all...)
	often, once := strings.Index(got, "    20 in s00, s01, s02, s03 and 6 more: often\n"), strings.Index(got, "     1 in last: once\n")
	if often < 0 || once < often {
		t.Errorf("the digest lacks a reason, or does not begin with the frequent one:\n%s", got)
	}
	if !strings.Contains(got, "       such as s00 / nobody: a → app over http1 is denied (one.yaml:7)\n") {
		t.Errorf("the digest does not say where it was met:\n%s", got)
	}
}

func TestFindingsInBriefSayWhyInALine(t *testing.T) {
	var claims []result.Claim
	for i := range maxBrief + 2 {
		claims = append(claims, result.Claim{Name: fmt.Sprintf("c%d", i), Outcome: result.Failed, Reason: "it was closed", Details: []string{"the proxy denied it"},
			Source: result.Source{File: "one.yaml", Line: i + 1}})
	}
	claims = append(claims, result.Claim{Name: "fine", Outcome: result.Passed, Reason: "nothing"})
	var out strings.Builder
	Brief(&out, &result.Run{Scenarios: []result.Scenario{scenario("one", result.Failed, "", claims...)}})
	got := out.String()
	for _, want := range []string{"✗ failed: one / first / c0: it was closed\n", "the proxy denied it\n", "and 2 more\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "fine") || strings.Contains(got, fmt.Sprintf("c%d:", maxBrief)) {
		t.Errorf("too much is told:\n%s", got)
	}
}
