package cli

import (
	"strings"
	"testing"
)

// What can be seen to be wrong without a cluster is said before one is looked
// for, in one line.
func TestQuestionsToAMeshAreCheckedFirst(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"diagnostics", "policy", "web-0", "80"}, `"web-0": want NAMESPACE/POD`},
		{[]string{"diagnostics", "policy", "a/b/c", "80"}, `"a/b/c": want NAMESPACE/POD`},
		{[]string{"diagnostics", "policy", "a/b"}, "accepts 2 arg(s), received 1"},
		{[]string{"diagnostics", "policy", "a/b", "80", "-o", "yaml"}, `unknown output "yaml"`},
		{[]string{"authz", "po", "-o", "wide"}, `unknown output "wide"`},
		{[]string{"authz", "po", "--policies", "-t", "1m"}, "--time-window and --policies exclude each other"},
		{[]string{"authz", "po", "-t", "1s"}, "time window 1s: want 15s to 10m0s"},
	} {
		code, out, errOut := runLine(t, c.args...)
		if code != ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
	}
}
