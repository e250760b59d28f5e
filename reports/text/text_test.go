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
