package engine

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func TestABenchRefusesWhatNeedsTheClusterForItself(t *testing.T) {
	const text = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: alone}
spec:
  summary: It needs the cluster for itself
  SETTING
  workloads: [{name: app, kind: echo}]
  clients: [{name: unmeshed, kind: unmeshed, shared: true}]
  steps:
    - name: a call
      claims: [{name: is allowed, call: {client: unmeshed, target: "app:http", protocol: http1, expect: allowed}}]
`
	for _, setting := range []string{"serial: true", "namespace: fixed", "namespaces: [{name: fixed, exact: true}]"} {
		set, err := scenarios.Parse("alone.yaml", []byte(strings.Replace(text, "SETTING", setting, 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		b := &Bench{&run{plan: &scenarios.Plan{Set: set}}}
		res := b.Run(t.Context(), scenarios.NewPlan(set, nil).Scenarios[0])
		if res.Outcome != result.Error || !strings.Contains(res.Reason, "among others") {
			t.Errorf("%s: it is %s: %s", setting, res.Outcome, res.Reason)
		}
	}
}
