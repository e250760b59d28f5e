package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is the sample application with its policy.
var sample = []string{"-f", "../../workloads/emojivoto"}

func TestExplainSaysTheVerdictAndWhoDecided(t *testing.T) {
	for _, row := range []struct {
		claim string
		args  []string
		code  int
		want  []string
	}{
		{"web may vote (DOC-29)", []string{"--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "emojivoto/web", "--request", "grpc /emojivoto.v1.VotingService/VoteDog", "--expect", "allowed"},
			ExitOK, []string{"allowed: delivered", "authorization serverauthorization/internal-grpc", "X-02", "at 10.0.0.1 (assumed)", "not considered: 3 of v1 Service"}},
		{"nobody else may (DOC-31)", []string{"--pod", "emojivoto/deployment/voting", "--port", "8080", "--from", "unmeshed", "--request", "grpc /emojivoto.v1.VotingService/VoteDog"},
			ExitOK, []string{"denied: gRPC status 7 (PermissionDenied)", "it asks for an identity, and the client has none"}},
		{"a verdict that is not the expected one is a finding", []string{"--pod", "emojivoto/deploy/web", "--port", "http", "--from", "unmeshed@203.0.113.7", "--request", "GET /", "--expect", "denied"},
			ExitFinding, []string{"allowed: delivered"}},
		{"a request that suits the port is asked by default", []string{"--pod", "emojivoto/deploy/voting", "--port", "prom", "--from", "unmeshed@203.0.113.7", "--expect", "denied"},
			ExitOK, []string{"denied: HTTP 403", "GET /"}},
	} {
		code, out, errOut := runLine(t, append(append([]string{"explain"}, sample...), row.args...)...)
		if code != row.code || (code == ExitOK) != (errOut == "") {
			t.Errorf("%s: code %d, stderr %q", row.claim, code, errOut)
		}
		for _, want := range row.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is missing in\n%s", row.claim, want, out)
			}
		}
	}
}

func TestExplainAndMatrixSayWhatTheyCannotUse(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a}\nspec:\n  podSelector: {}\n  port: http\n  proxyProtocol: grpc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	question := append([]string{"explain"}, sample...)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"explain", "--pod", "a/b", "--port", "1", "--from", "unmeshed"}, "no manifests: name files"},
		{[]string{"explain", "-f", bad, "--pod", "a/b", "--port", "1", "--from", "unmeshed"}, bad + ":7: Server default/a: A-20"},
		{[]string{"explain", "-f", "absent.yaml", "--pod", "a/b", "--port", "1", "--from", "unmeshed"}, "absent.yaml: no such file"},
		{[]string{"explain", "-f", t.TempDir(), "--pod", "a/b", "--port", "1", "--from", "unmeshed"}, "holds no .yaml"},
		{append(question, "--pod", "emojivoto/deploy/votin", "--port", "1", "--from", "unmeshed"), "not among what was read: emojivoto/deploy/emoji"},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "http", "--from", "unmeshed"), `port "http": not a number from 1 to 65535, nor one of`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "70000", "--from", "unmeshed"), "not a number from 1 to 65535"},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "web"), `client "web": want NAMESPACE/SERVICEACCOUNT`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed@here"), `"here" is no address`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--request", "get /"), `request "get /": want`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--request", "GET /", "--tcp"), "exclude each other"},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--dialect", "klingon"), "--dialect"},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--default-inbound-policy", "allow"), `--default-inbound-policy "allow"`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--cluster-networks", "10.0.0.0"), `--cluster-networks: "10.0.0.0" is no network`},
		{append(question, "--pod", "emojivoto/deploy/voting", "--port", "grpc", "--from", "unmeshed", "--expect", "maybe"), `--expect "maybe"`},
		{append(question, "--pod", "emojivoto/deploy/voting"), "explain needs --pod, --port and --from"},
		{[]string{"matrix", "-f", "../../workloads/emojivoto/emojivoto-policy.yml"}, "no workload was read"},
		{append([]string{"matrix", "-o", "yaml"}, sample...), `unknown output "yaml"`},
	} {
		code, out, errOut := runLine(t, row.args...)
		if code != ExitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, row.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", row.args, code, out, errOut)
		}
	}
}

// TestTheMatrixOfTheSamplePolicy is E-13 and DOC-23, written from the document:
// web alone reaches emoji and voting, everybody reaches web and what is for the
// cluster.
func TestTheMatrixOfTheSamplePolicy(t *testing.T) {
	code, out, errOut := runLine(t, append([]string{"matrix", "-o", "json", "--from", "emojivoto/web", "--from", "emojivoto/default", "--from", "unmeshed@10.1.2.3", "--from", "unmeshed@203.0.113.7"}, sample...)...)
	if code != ExitOK || errOut != "" {
		t.Fatalf("code %d, stderr %q", code, errOut)
	}
	var matrix struct {
		Rows []struct {
			Workload, PortName string
			Cells              []struct {
				Client  string
				Allowed bool
				Outcome string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &matrix); err != nil {
		t.Fatal(err)
	}
	// Allowed for web, vote-bot, unmeshed inside and unmeshed outside.
	want := map[string]string{
		"emojivoto/deploy/emoji grpc": "y n n n", "emojivoto/deploy/voting grpc": "y n n n", "emojivoto/deploy/web http": "y y y y",
		"emojivoto/deploy/emoji prom": "y y y n", "emojivoto/deploy/voting prom": "y y y n",
		"emojivoto/deploy/emoji linkerd-admin": "y y y n", "emojivoto/deploy/voting linkerd-admin": "y y y n",
		"emojivoto/deploy/web linkerd-admin": "y y y n", "emojivoto/deploy/vote-bot linkerd-admin": "y y y n",
	}
	got := map[string]string{}
	for _, row := range matrix.Rows {
		var cells []string
		for _, cell := range row.Cells {
			cells = append(cells, map[bool]string{true: "y", false: "n"}[cell.Allowed])
		}
		got[row.Workload+" "+row.PortName] = strings.Join(cells, " ")
	}
	for key, cells := range want {
		if got[key] != cells {
			t.Errorf("%s: %q, want %q", key, got[key], cells)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d: %v", len(got), len(want), got)
	}
}
