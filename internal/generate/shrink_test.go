package generate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

// reducible is small, and holds something of everything that can be left out.
const reducible = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: reducible}
spec:
  summary: What can be left out
  workloads:
    - {name: app, kind: echo, replicas: 2, labels: {tier: front}, ports: [{name: extra, port: 9999}]}
    - {name: peer, kind: echo}
  clients:
    - {name: alice, kind: meshed, serviceAccount: alice, shared: true}
    - {name: unmeshed, kind: unmeshed, shared: true}
  steps:
    - name: world
      actions:
        - apply:
            - {apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: server-a}, spec: {podSelector: {matchLabels: {app: app}}, port: http}}
            - {apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: grant-a}, spec: {server: {name: server-a}, client: {unauthenticated: true, networks: [{cidr: 10.0.0.0/8}, {cidr: 0.0.0.0/0}]}}}
      claims:
        - {name: first, matrix: {protocols: [http1], rows: [{target: "app:http", clients: [alice, unmeshed]}]}}
    - name: relabel
      actions: [{label: {workload: app, set: {tier: back}}}]
      claims:
        - {name: second, matrix: {protocols: [http1], rows: [{target: "app:http", clients: [alice, unmeshed]}, {target: "peer:http", clients: [alice]}]}}
    - name: change
      actions: [{patch: {kind: Server, name: server-a, merge: {spec: {port: 8080}}}}]
      claims:
        - {name: third, matrix: {protocols: [http1, http2], rows: [{target: "app:http", clients: [alice, unmeshed]}]}}
    - name: later
      actions: [{delete: [{kind: Server, name: server-a}]}]
      claims:
        - {name: fourth, matrix: {protocols: [http1], rows: [{target: "app:http", clients: [alice]}]}}
`

func read(t *testing.T, text string) *scenarios.PlannedScenario {
	t.Helper()
	planned, err := Read("reducible.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return planned
}

func TestTheBoldestReductionLeavesTheClaimInTheWorldThatThereWas(t *testing.T) {
	planned := read(t, reducible)
	focus := FocusOf(planned, 2, 1) // alice over http2
	if focus.Client != "alice" || focus.Protocol != scenarios.HTTP2 || focus.Step != "change" {
		t.Fatalf("the focus is %+v", focus)
	}
	coarse := Coarse(focus)
	small, err := Reduced(planned.Scenario, coarse[0])
	if err != nil {
		t.Fatal(err)
	}
	if size := SizeOf(small); size.Steps != 1 || size.Objects != 2 || size.Clients != 1 || len(small.Spec.Workloads) != 1 {
		t.Errorf("it is %+v with %d workloads", size, len(small.Spec.Workloads))
	}
	if label := small.Spec.Workloads[0].Labels["tier"]; label != "back" {
		t.Errorf("its pods are in tier %q, and were relabelled before", label)
	}
	if port := small.Spec.Steps[0].Actions[0].Apply[0].Content["spec"].(map[string]any)["port"]; fmt.Sprint(port) != "8080" {
		t.Errorf("the port is %v, and was changed before", port)
	}
	two, err := Reduced(planned.Scenario, coarse[1])
	if err != nil {
		t.Fatal(err)
	}
	if len(two.Spec.Steps) != 2 || two.Spec.Steps[1].Name != "change" || len(two.Spec.Steps[1].Actions) != 1 {
		t.Errorf("the steps before the last are %+v", two.Spec.Steps)
	}
}

func TestEverythingThatCanBeLeftOutIsOffered(t *testing.T) {
	planned := read(t, reducible)
	offered := map[string]bool{}
	for _, r := range append(Fine(planned.Scenario), Fields(planned.Scenario)...) {
		offered[r.What] = true
	}
	for _, want := range []string{"object Server server-a", "object ServerAuthorization grant-a", "action 1 of step \"relabel\"", "replicas of app", "a port of app", "label tier of app",
		"spec.client.networks.0 of grant-a", "spec.client.networks of grant-a", "spec.podSelector.matchLabels.app of server-a"} {
		if !offered[want] {
			t.Errorf("%s is not offered", want)
		}
	}
}

func TestWhatHasNoMeaningAnyMoreGoesToo(t *testing.T) {
	planned := read(t, reducible)
	var server Reduction
	for _, r := range Fine(planned.Scenario) {
		if r.What == "object Server server-a" {
			server = r
		}
	}
	small, err := Reduced(planned.Scenario, server)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Write(small)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "patch:") || strings.Contains(string(text), "delete:") {
		t.Errorf("actions about a Server that is not there remain:\n%s", text)
	}
}

func TestWhatAClusterWouldRefuseIsNoReduction(t *testing.T) {
	planned := read(t, reducible)
	refused := 0
	for _, r := range Fields(planned.Scenario) {
		if _, err := Reduced(planned.Scenario, r); err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("a Server without a port would be taken")
	}
	before, _ := Write(planned.Scenario)
	for _, r := range Fine(planned.Scenario) {
		_, _ = Reduced(planned.Scenario, r)
	}
	if after, _ := Write(planned.Scenario); string(before) != string(after) {
		t.Error("a reduction has changed what it was given")
	}
}

func TestTrafficIsHalvedUntilItTellsNothing(t *testing.T) {
	s := &scenarios.Scenario{Spec: scenarios.Spec{Traffic: []scenarios.Stream{{Name: "a", Rate: 50}}}}
	times := 0
	for Halve(s) {
		times++
	}
	if times != 2 || s.Spec.Traffic[0].Rate != 12.5 {
		t.Errorf("halved %d times, to %v", times, s.Spec.Traffic[0].Rate)
	}
}
