package lint

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

// The library is what people copy from: nothing is found in it.
func TestNothingIsFoundInTheLibrary(t *testing.T) {
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, dialect := range []scenarios.Dialect{scenarios.Documented, scenarios.Linkerd} {
		for _, finding := range Set(dialect, set) {
			t.Errorf("%s: %s", dialect, finding)
		}
	}
}

// sound has nothing wrong with it; each test below spoils one line.
const sound = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: sound, feature: LiveChanges}
spec:
  summary: Alice is granted
  workloads:
    - {name: app, kind: echo}
  clients:
    - {name: alice, kind: meshed, serviceAccount: alice}
  traffic:
    - {name: alice, client: alice, target: "app:http", protocol: http1, rate: 20}
  steps:
    - name: a Server
      actions:
        - apply: [{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http}, spec: {podSelector: {matchLabels: {app: app}}, port: http}}]
      after: {alice: denied}
      shows: [X-11]
    - name: a grant
      actions:
        - apply: [{apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: alice}, spec: {server: {name: http}, client: {meshTLS: {identities: ["*"]}}}}]
        - hold: {name: open, client: alice, target: "app:tcp", protocol: tcp}
      during: {alice: old-or-new}
      after: {alice: allowed}
      claims:
        - {name: she is let in, shows: [X-32], call: {client: alice, target: "app:http", protocol: http1, expect: allowed}}
        - {name: and stays, shows: [L-09], held: {connection: open, state: open}}
`

func TestEachMistakeIsFoundWhereItIs(t *testing.T) {
	if found := linted(t, sound); found != "" {
		t.Fatalf("in what is sound: %s", found)
	}
	for _, test := range []struct{ what, old, new, want string }{
		{"a client that never calls", "  clients:\n", "  clients:\n    - {name: bob, kind: unmeshed}\n", `s.yaml:9:7: warning: client "bob" never calls (unused-client)`},
		{"a workload that nobody calls", "  workloads:\n", "  workloads:\n    - {name: other, kind: echo}\n", `s.yaml:7:7: warning: workload "other" is never called, nor named by a claim, an action or an object (unused-workload)`},
		{"a connection that nobody claims", "        - {name: and stays, shows: [L-09], held: {connection: open, state: open}}\n", "", `s.yaml:21:17: warning: no claim is about the connection "open" (unused-connection)`},
		{"a stream that nobody claims", "        - hold:", "        - start: {name: more, client: alice, target: app, protocol: http1, rate: 1}\n        - hold:", `s.yaml:21:18: warning: no claim is about the stream "more" (unused-stream)`},
		{"a rule that does not exist", "X-32", "X-99", `s.yaml:25:11: warning: X-99 is no rule of the rule book (unknown-rule)`},
		{"an expectation that the rules exclude", "expect: allowed", "expect: denied", `s.yaml:25:11: error: she is let in: alice to app:http by http1: denied is expected, and the oracle says delivered (contradiction)`},
		{"an after that they exclude", "after: {alice: allowed}", "after: {alice: denied}", `s.yaml:23:15: error: alice: after the change it is said to be denied, and the oracle says delivered (contradiction)`},
		{"a before that they exclude", "      during:", "      before: {alice: allowed}\n      during:", `s.yaml:22:16: error: alice: before the change it is said to be allowed, and the oracle says http-403 (contradiction)`},
		{"a course that they exclude", "old-or-new", "allowed", `s.yaml:22:16: error: alice: during the change it is said to be allowed, and the oracle denies it before the first write (contradiction)`},
		{"a window that cannot be", "old-or-new", "denied-window", `s.yaml:22:16: error: alice: during the change it is said to be denied-window, and the oracle denies it at no time between two at which it lets it through (contradiction)`},
		{"a state that a held connection cannot have", "state: open", "state: cut", `s.yaml:26:11: error: and stays: it is said to be cut, and the oracle says delivered`},
		{"a write that nobody waits for", "        - hold:", "          wait: none\n        - hold:", `s.yaml:20:11: warning: nothing waits until this is in force`},
		{"a change that is none", "server: {name: http}", "server: {name: htpp}", `s.yaml:18:7: warning: by the rules step "a grant" changes nothing for any stream`},
		{"something that is deleted and was never there", "      claims:\n", "      claims:\n        - {name: x, shows: [X-32], call: {client: alice, target: app, protocol: http1}}\n    - name: end\n      actions: [{delete: [{kind: Server, name: other}]}]\n      claims:\n", `s.yaml:1:1: warning: Server mp-sound/other is deleted and does not exist (unplayable)`},
	} {
		if strings.Count(sound, test.old) == 0 {
			t.Fatalf("%s: %q is not in the text", test.what, test.old)
		}
		text := strings.Replace(sound, test.old, test.new, 1)
		if test.what == "a change that is none" { // what follows from it is not of interest here
			text = strings.Replace(strings.Replace(text, "      during: {alice: old-or-new}\n      after: {alice: allowed}\n", "", 1), "expect: allowed", "expect: denied", 1)
		}
		if found := linted(t, text); !strings.Contains(found, test.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", test.what, found, test.want)
		}
	}
}

func TestAScenarioInWhichNobodyIsDeniedIsTold(t *testing.T) {
	text := sound[:strings.Index(sound, "  traffic:")] + `  steps:
    - name: nothing is there
      claims:
        - {name: she is let in, call: {client: alice, target: app, protocol: http1, expect: allowed}}
`
	if found := linted(t, text); found != "s.yaml:1:1: warning: nobody is denied at any time: a mesh without any policy would pass (never-denied)\n" {
		t.Errorf("got %s", found)
	}
}

func TestTwoScenariosOfOneNameAreTold(t *testing.T) {
	set, err := scenarios.Parse("s.yaml", []byte(sound), nil)
	if err != nil {
		t.Fatal(err)
	}
	set.Scenarios = append(set.Scenarios, set.Scenarios[0])
	if found := Set(scenarios.Documented, set); len(found) != 1 || found[0].Rule.ID != "duplicate-name" {
		t.Errorf("got %v", found)
	}
}

func linted(t *testing.T, text string) string {
	t.Helper()
	set, err := scenarios.Parse("s.yaml", []byte(text), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var lines strings.Builder
	for _, finding := range Set(scenarios.Documented, set) {
		lines.WriteString(finding.String() + "\n")
	}
	return lines.String()
}
