package scenarios

import (
	"strings"
	"testing"
)

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	const text = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: broken}
spec:
  summary: something breaks
  serial: true
  workloads: [{name: app, kind: echo}]
  steps:
    - name: one
      actions:
        - fault: FAULT
    - name: two
      actions:
        - HEAL
`
	for _, row := range []struct{ fault, heal, problem string }{
		{"{kind: controller-killed}", "heal: controller-killed", ""},
		{"{kind: controller-killed, for: 2s}", "await: {workload: app}", ""},
		{"{kind: controller-restarted}", "await: {workload: app}", ""},
		{"{name: cut, kind: policy-stream-cut, workload: app}", "heal: cut", ""},
		{"{kind: policy-stream-delayed, workload: app, delay: 2s, for: 1s}", "await: {workload: app}", ""},
		{"{kind: controller-killed}", "await: {workload: app}", "nothing says how long the fault lasts"},
		{"{kind: controller-killed}", "heal: controller-kiled", `no fault up to here is called "controller-kiled"`},
		{"{kind: proxy-killed, workload: app, for: 1s}", "await: {workload: app}", "is over by itself"},
		{"{kind: proxy-killed, workload: app}", "heal: proxy-killed", "is over by itself"},
		{"{kind: policy-stream-cut, for: 1s}", "await: {workload: app}", "give their workload"},
		{"{kind: policy-stream-cut, workload: ap, for: 1s}", "await: {workload: app}", "did you mean"},
		{"{kind: controller-killed, workload: app, for: 1s}", "await: {workload: app}", "remove workload"},
		{"{kind: controller-killed, delay: 1s, for: 1s}", "await: {workload: app}", "only slow connections have one"},
		{"{kind: policy-stream-cut, workload: app, rate: 3, for: 1s}", "await: {workload: app}", "only flapping connections have one"},
		{"{kind: packets-lost, workload: app, percent: 100, for: 1s}", "await: {workload: app}", "not all of them"},
		{"{kind: controler-killed, for: 1s}", "await: {workload: app}", "controller-killed"},
		{"{kind: controller-killed}\n        - fault: {kind: controller-killed}", "heal: controller-killed", "lasts already"},
	} {
		_, err := Parse("broken.yaml", []byte(strings.NewReplacer("FAULT", row.fault, "HEAL", row.heal).Replace(text)), nil)
		switch {
		case row.problem == "" && err != nil:
			t.Errorf("%s, %s: %v", row.fault, row.heal, err)
		case row.problem != "" && (err == nil || !strings.Contains(err.Error(), row.problem)):
			t.Errorf("%s, %s: %v, want %q", row.fault, row.heal, err, row.problem)
		}
	}
	shared := strings.NewReplacer("  serial: true\n", "", "FAULT", "{kind: controller-killed, for: 1s}", "HEAL", "await: {workload: app}").Replace(text)
	if _, err := Parse("broken.yaml", []byte(shared), nil); err == nil || !strings.Contains(err.Error(), "needs serial: true") {
		t.Errorf("a fault of the control plane among other scenarios: %v", err)
	}
}
