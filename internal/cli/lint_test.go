package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const lintable = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: lintable, feature: Server}
spec:
  summary: A scenario with a client too many
  workloads: [{name: app, kind: echo}]
  clients:
    - {name: alice, kind: meshed}
    - {name: bob, kind: meshed}
  steps:
    - name: nothing is there
      actions:
        - apply:
            - {apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http}, spec: {podSelector: {}, port: http}}
      claims:
        - {name: she is denied, call: {client: alice, target: "app:http", protocol: http1, expect: EXPECTED}}
`

func TestLintTellsErrorsFromWarningsByItsExitCode(t *testing.T) {
	for _, test := range []struct {
		expected string
		code     int
		want     []string
	}{
		{"denied", ExitOK, []string{`:9:7: warning: client "bob" never calls (unused-client)`}},
		{"allowed", ExitUsage, []string{`:9:7: warning: client "bob"`, `:16:11: error: she is denied: alice to app:http by http1: allowed is expected, and the oracle says http-403 (contradiction)`}},
		{"alowed", ExitUsage, []string{`error: "alowed" is not an outcome: did you mean "allowed"? (parse)`}},
	} {
		file := filepath.Join(t.TempDir(), "lintable.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(lintable, "EXPECTED", test.expected, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errOut := runLine(t, "lint", file)
		if code != test.code {
			t.Errorf("%s: exit code %d, want %d:\n%s%s", test.expected, code, test.code, out, errOut)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: nothing says %q:\n%s", test.expected, want, out)
			}
		}
		code, out, _ = runLine(t, "lint", file, "-o", "json")
		var log sarifLog
		if err := json.Unmarshal([]byte(out), &log); err != nil {
			t.Fatal(err)
		}
		if code != test.code || len(log.Runs) != 1 || len(log.Runs[0].Results) != len(test.want) {
			t.Errorf("%s: exit code %d and as SARIF:\n%s", test.expected, code, out)
		}
	}
}

func TestWhatIsLintedMustExist(t *testing.T) {
	if code, _, errOut := runLine(t, "lint", filepath.Join(t.TempDir(), "nothing.yaml")); code != ExitUsage || !strings.Contains(errOut, "nothing.yaml") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

func TestTheSchemaIsPrinted(t *testing.T) {
	code, out, _ := runLine(t, "schema")
	if code != ExitOK || !json.Valid([]byte(out)) || !strings.Contains(out, `"traffic"`) {
		t.Errorf("exit code %d: %.200s", code, out)
	}
}
