package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/order"
)

// orderLine runs meshproof order on the sample application and its policy.
func orderLine(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	const folder = "../../workloads/emojivoto/"
	return runLine(t, append([]string{"order", "-f", folder + "emojivoto.yml", "--change", folder + "emojivoto-policy.yml"}, args...)...)
}

func TestOrderSaysInWhichOrderNobodyIsDenied(t *testing.T) {
	code, out, errOut := orderLine(t, "-o", "json", "--check")
	var report order.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s%s", err, out, errOut)
	}
	if code != ExitFinding || !strings.Contains(errOut, "the order of the files has gaps") {
		t.Errorf("exit code %d, want %d, since the Servers of the sample come first: %s", code, ExitFinding, errOut)
	}
	if !report.Exact || report.Orders != 362880 || report.Clean == 0 || len(report.Given.Gaps) == 0 || len(report.Recommended.Gaps) != 0 || len(report.Recommended.Writes) != 9 {
		t.Errorf("the report is %+v", report)
	}
	// What is recommended is taken at its word.
	first := map[string]int{}
	for i, w := range report.Recommended.Writes {
		first[w] = i
	}
	if first["apply ServerAuthorization emojivoto/internal-grpc"] > first["apply Server emojivoto/voting-grpc"] {
		t.Errorf("the grant comes after the Server: %q", report.Recommended.Writes)
	}
	code, out, errOut = orderLine(t, "--check", "--pod", "emojivoto/deploy/emoji", "--port", "prom", "--from", "unmeshed@203.0.113.7", "--request", "GET /metrics")
	if code != ExitOK || !strings.Contains(out, "9 writes, 1 call") || !strings.Contains(out, "as given, and as good as any: no gap") {
		t.Errorf("who is denied before and after has no gap: exit code %d\n%s%s", code, out, errOut)
	}
}

func TestOrderSaysWhatItCannotUse(t *testing.T) {
	const folder = "../../workloads/emojivoto"
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"order", "-f", folder}, "nothing changes"},
		{[]string{"order", "-f", folder, "--change", folder + "/emojivoto.yml"}, "only policy objects and routes"},
		{[]string{"order", "-f", folder, "--change", "absent.yaml"}, "absent.yaml: no such file"},
		{[]string{"order", "-f", folder, "--delete", "Server/voting-grpc"}, "want KIND/NAME"},
		{[]string{"order", "-f", folder, "--delete", "Server/emojivoto/voting-grpc", "--delete", "Server/emojivoto/voting-grpc"}, "deleted twice"},
		{[]string{"order", "-f", folder, "--delete", "Server/emojivoto/voting-grpc", "--port", "grpc"}, "--port needs a --pod"},
		{[]string{"order", "-f", folder, "--delete", "Server/emojivoto/voting-grpc", "-o", "md"}, `unknown output "md"`},
		{[]string{"order", "-f", folder + "/emojivoto-policy.yml", "--delete", "Server/emojivoto/voting-grpc"}, "no workload was read"},
		{[]string{"order", "--change", folder}, "no manifests"},
	} {
		code, out, errOut := runLine(t, row.args...)
		if code != ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, row.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", row.args, code, out, errOut)
		}
	}
}

// TestTheAnswersOnThePageAreTheProgramsOwn runs what docs/order.md shows. A line of
// three dots stands for any.
func TestTheAnswersOnThePageAreTheProgramsOwn(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(sourceTree, "docs/order.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```bash\nbin/meshproof (order[^\n]*)\n```\n\n```\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(shown) < 2 {
		t.Fatalf("%d commands with answers were found", len(shown))
	}
	for _, one := range shown {
		args := strings.Fields(strings.ReplaceAll(one[1], " workloads/", " "+sourceTree+"/workloads/"))
		code, out, errOut := runLine(t, args...)
		if code != ExitOK {
			t.Errorf("%s: exit code %d: %s", one[1], code, errOut)
		}
		rest := out
		for line := range strings.Lines(one[2]) {
			if strings.TrimSpace(line) == "..." {
				continue
			}
			_, after, found := strings.Cut(rest, line)
			if !found {
				t.Errorf("%s: the answer does not go on with %q:\n%s", one[1], line, out)
				break
			}
			rest = after
		}
	}
}
