package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

const (
	// policiesOf is how many policies P16 is about, and fewPolicies how many are
	// written where only a few of everything are.
	policiesOf, fewPolicies = 500, 20
)

// policies has the harness itself write one policy after the other on an embedded
// cluster, each of which lets in whom the last one kept out and the other way
// round, and judge a call of each of the two: P16.
func (r *runner) policies(ctx context.Context, program string, n int, rows []Row) error {
	dir, err := os.MkdirTemp("", "meshproof-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(file, []byte(onePolicyAfterTheOther(n)), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "run", "--quiet", "--output-dir", dir, file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // the cluster is given back
	var out []byte
	err = on(slices.Concat(r.where.load, r.where.target), func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		return fmt.Errorf("%s run: %w: %s", program, err, out[max(len(out)-tailLength, 0):])
	}
	return fromRun(filepath.Join(dir, "latest", "run.json"), n, rows)
}

// onePolicyAfterTheOther is a scenario of n policies after a first step without
// claims.
func onePolicyAfterTheOther(n int) string {
	var b strings.Builder
	b.WriteString(`apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: policies, feature: Authentications}
spec:
  summary: One policy after the other, each with somebody let in and somebody kept out
  annotations: {config.linkerd.io/default-inbound-policy: deny}
  workloads: [{name: app, kind: echo}]
  clients:
    - {name: alice, kind: meshed, serviceAccount: alice}
    - {name: bob, kind: meshed, serviceAccount: bob}
  steps:
    - name: a Server
      actions:
        - apply:
            - {apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http}, spec: {podSelector: {matchLabels: {app: app}}, port: http, proxyProtocol: HTTP/1}}
`)
	in, out := "alice", "bob"
	for i := range n {
		fmt.Fprintf(&b, `    - name: policy %d
      actions:
        - apply:
            - {apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: only}, spec: {server: {name: http}, client: {meshTLS: {serviceAccounts: [{name: %s}]}}}}
      claims:
        - {name: let in, call: {client: %s, target: "app:http", protocol: http1, path: /, expect: allowed}}
        - {name: kept out, call: {client: %s, target: "app:http", protocol: http1, path: /, expect: denied}}
`, i+1, in, in, out)
		in, out = out, in
	}
	return b.String()
}

// fromRun fills in what a run of n policies has taken: a step is one policy, from
// its write to the verdict on both calls.
func fromRun(file string, n int, rows []Row) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var run result.Run
	if err := json.Unmarshal(text, &run); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var took []float64
	sum := 0.0
	for _, s := range run.Scenarios {
		for _, step := range s.Steps {
			if len(step.Claims) > 0 {
				took, sum = append(took, 1e3*step.Duration), sum+step.Duration
			}
		}
	}
	if len(took) != n {
		return fmt.Errorf("%s has %d policies with claims, not %d", file, len(took), n)
	}
	fill(rows, "P16/scenario", median(took))
	fill(rows, "P16/suite", sum/float64(n)*policiesOf)
	return nil
}
