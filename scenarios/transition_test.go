package scenarios

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const transition = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: revoke}
spec:
  summary: A grant is revoked while two clients call.
  budget: 3s
  workloads: [{name: app, kind: echo}]
  clients: [{name: alice, kind: meshed}, {name: bob, kind: unmeshed}]
  traffic:
    - {name: alice, client: alice, target: "app:http", protocol: http1, rate: 100}
    - {name: bob, client: bob, target: "app:http", protocol: http2, connection: reused, rate: 50}
  steps:
    - name: look
      claims:
        - {name: bob is let in, call: {client: bob, target: "app:http", protocol: http1}}
    - name: revoke
      before: {alice: allowed}
      actions:
        - delete: [{kind: Server, name: http}]
      during: {bob: denied-window}
      after: {alice: denied, bob: [allowed, http-403]}
`

func TestAStepThatChangesSomethingHasThreeClaimsForEachStream(t *testing.T) {
	set, err := Parse("revoke.yaml", []byte(transition), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, claim := range NewPlan(set, nil).Claims() {
		names = append(names, claim.ID+" "+claim.Name)
	}
	want := []string{"revoke.1.1 bob is let in",
		"revoke.2.1 alice before: allowed", "revoke.2.2 alice during: old or new", "revoke.2.3 alice after: denied",
		"revoke.2.4 bob before", "revoke.2.5 bob during: denied-window", "revoke.2.6 bob after: allowed or http-403"}
	if !slices.Equal(names, want) {
		t.Errorf("claims are\n%s, want\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	step := set.Scenarios[0].Spec.Steps[1]
	for value, want := range map[any]string{&step.After: "alice: denied\nbob:\n    - allowed\n    - http-403\n", &step.During: "bob: denied-window\n"} {
		text, err := yaml.Marshal(value)
		if err != nil || string(text) != want {
			t.Errorf("written again it is %q (%v), want %q", text, err, want)
		}
	}
}

func TestWhatIsSaidOfStreamsMustBeAboutStreams(t *testing.T) {
	for name, one := range map[string]struct{ old, new, want string }{
		"a stream that is not there":      {"before: {alice:", "before: {alise:", `revoke.yaml:17:16: no stream of spec.traffic is called "alise": did you mean "alice"?`},
		"a course that is none":           {"denied-window}", "denied-windows}", `did you mean "denied-window"?`},
		"an outcome that is none":         {"after: {alice: denied", "after: {alice: refuse", `did you mean "refused"?`},
		"a stream twice":                  {"name: bob, client: bob", "name: alice, client: bob", `two streams are called "alice"`},
		"a step that changes nothing":     {"    - name: look\n", "    - name: look\n      after: {bob: allowed}\n", "changes nothing"},
		"a rate of nothing":               {"rate: 50", "rate: 0", "rate 0"},
		"a budget without streams":        {"  traffic:", "  trafic:", `did you mean "traffic"?`},
		"an end of what flows to the end": {"delete: [{kind: Server, name: http}]", "stop: {stream: alice}", "flows until the end"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(transition, one.old, one.new, 1)
			if _, err := Parse("revoke.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("the error is %v, want one that says %s", err, one.want)
			}
		})
	}
}
