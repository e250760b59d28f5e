package engine

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestOutsideIsOnePrefixWithoutPods(t *testing.T) {
	for _, test := range []struct {
		name     string
		how      cluster.OutsideHow
		networks []netip.Prefix
		pods     []netip.Prefix
		want     string
		whole    bool
	}{
		{"none", cluster.OutsideNone, nil, nil, nowhere, true},
		{"a network of pods", cluster.OutsidePods, prefixes("198.51.100.0/24"), nil, "198.51.100.0/24", true},
		{"one node", cluster.OutsideHosts, prefixes("172.18.0.2/32"), prefixes("10.244.0.0/16"), "172.18.0.2/32", true},
		{"three nodes", cluster.OutsideHosts, prefixes("172.18.0.2/32", "172.18.0.3/32", "172.18.0.4/32"), prefixes("10.244.0.0/16"), "172.18.0.0/29", true},
		{"one network holds the other", cluster.OutsideHosts, prefixes("172.18.0.0/16", "172.18.0.3/32"), nil, "172.18.0.0/16", true},
		{"pods in between", cluster.OutsideHosts, prefixes("10.0.1.4/32", "10.250.0.4/32"), prefixes("10.244.0.0/16"), "10.0.1.4/32", false},
		{"nothing in common", cluster.OutsideHosts, prefixes("10.0.1.4/32", "172.18.0.4/32"), nil, "10.0.1.4/32", false},
		{"two families", cluster.OutsideHosts, prefixes("172.18.0.2/32", "fc00::2/128"), nil, "172.18.0.2/32", true},
	} {
		prefix, whole := outside(cluster.Capabilities{Outside: cluster.Outside{How: test.how, Networks: test.networks}, ClusterNetworks: test.pods})
		if prefix.String() != test.want || whole != test.whole {
			t.Errorf("%s: got %s, %v, want %s, %v", test.name, prefix, whole, test.want, test.whole)
		}
	}
}

const demanding = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: demanding}
spec:
  summary: one that needs much
  workloads: [{name: app, kind: echo}, {name: far, kind: echo, apart: app}]
  clients:
    - {name: alice, kind: meshed}
    - {name: stranger, kind: unmeshed, network: outside}
    - {name: distant, kind: unmeshed, apart: app}
  steps:
    - name: first
      actions:
        - start: {name: calls, client: stranger, target: "app:http", protocol: http1, rate: 1}
      claims:
        - {name: plain, call: {client: alice, target: app, protocol: http1, expect: allowed}}
        - {name: outside, call: {client: stranger, target: app, protocol: http1, expect: allowed}}
        - {name: client, call: {client: distant, target: app, protocol: http1, expect: allowed}}
        - {name: target, call: {client: alice, target: far, protocol: tcp, expect: allowed}}
        - {name: stream, traffic: {stream: calls, expect: all-allowed}}
        - {name: pods, pods: {workload: far, are: injected}}
`

func TestWhatAClusterCannotDoIsSkippedWithTheCapabilityThatIsMissing(t *testing.T) {
	set, err := scenarios.Parse("demanding.yaml", []byte(demanding), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := scenarios.NewPlan(set, nil)
	hosts := cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32")}
	for _, test := range []struct {
		name    string
		has     cluster.Capabilities
		skipped map[string]string
	}{
		{"nothing", cluster.Capabilities{Nodes: 1}, map[string]string{"outside": lacksOutside, "stream": lacksOutside, "client": lacksNodes, "target": lacksNodes, "pods": lacksNodes}},
		{"hosts", cluster.Capabilities{Nodes: 1, Outside: hosts}, map[string]string{"client": lacksNodes, "target": lacksNodes, "pods": lacksNodes}},
		{"all", cluster.Capabilities{Nodes: 2, Outside: hosts}, map[string]string{}},
	} {
		s := newScenarioRun(&run{Options: Options{ID: "20261122-000000-abcd", Capabilities: test.has}, plan: plan}, plan.Scenarios[0])
		for i, claim := range plan.Claims() {
			if got := s.skipped(claim); got != test.skipped[claim.Name] {
				t.Errorf("%s: %s is skipped because %q, want %q", test.name, claim.Name, got, test.skipped[claim.Name])
			}
			if got := s.res.Steps[0].Claims[i]; test.skipped[claim.Name] != "" && got.Reason != test.skipped[claim.Name] || got.Outcome != result.Skipped {
				t.Errorf("%s: %s begins as %s: %s", test.name, claim.Name, got.Outcome, got.Reason)
			}
		}
		left := s.lackedByAction(&plan.Scenarios[0].Steps[0].Actions[0])
		if left != test.skipped["stream"] {
			t.Errorf("%s: the stream is left out because %q", test.name, left)
		}
	}
}

func TestAClockIsAheadOnlyByWhatTheQuestionDoesNotExplain(t *testing.T) {
	asked := time.Unix(1000, 0)
	for there, want := range map[time.Duration]clock{
		5 * time.Millisecond:   {},
		0:                      {},
		10 * time.Millisecond:  {},
		3 * time.Second:        {ahead: 2995 * time.Millisecond, slack: 5 * time.Millisecond},
		-40 * time.Millisecond: {ahead: -45 * time.Millisecond, slack: 5 * time.Millisecond},
	} {
		got := compareClocks(asked, asked.Add(10*time.Millisecond), asked.Add(there))
		if got != want {
			t.Errorf("a clock that shows %v is %+v, want %+v", there, got, want)
		}
	}
	if got := (clock{ahead: time.Hour}).local(asked.Add(time.Hour)); !got.Equal(asked) {
		t.Errorf("an hour ahead, %v is %v here", asked.Add(time.Hour), got)
	}
}

func TestARecordIsFoundThoughTheProxysClockIsOff(t *testing.T) {
	j := &callJudge{claim: &scenarios.PlannedClaim{Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.TCP}}},
		from: client{clientPod: &clientPod{onHost: true, meshed: true, address: netip.MustParseAddr("10.1.1.1")}}, target: scenarios.Target{Port: 9090}}
	log := &witnessLog{meshed: true, clock: clock{ahead: -time.Hour}, decisions: decisions{Decisions: recorded("deny", func(d *decision) { d.Time = began.Add(-time.Hour) })}}
	if found, _, _ := j.record(seen("closed"), []*witnessLog{log}); found == nil {
		t.Error("not found with a clock that is an hour behind")
	}
	log.clock = clock{}
	if found, _, _ := j.record(seen("closed"), []*witnessLog{log}); found != nil {
		t.Error("found, though an hour old")
	}
	// A client on its node's network shares the address with others there.
	log.decisions.Decisions[0].Time, log.decisions.Decisions[0].Client = began, "10.1.1.1:5001"
	if found, _, _ := j.record(seen("closed"), []*witnessLog{log}); found != nil {
		t.Error("found, though it is about another port of the node")
	}
}

func TestAPodWhoseImageCannotBeHadIsHopeless(t *testing.T) {
	for reason, want := range map[string]struct{ hopeless, final bool }{
		"InvalidImageName": {true, true}, "ErrImageNeverPull": {true, true}, "ErrImagePull": {true, false}, "ImagePullBackOff": {true, false},
		"CreateContainerConfigError": {true, false}, "PodInitializing": {}, "CrashLoopBackOff": {},
	} {
		pod := &corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{
			{Name: "linkerd-init", Image: "registry.invalid/agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "because"}}}}}}
		trouble, final := hopeless(pod)
		if (trouble != "") != want.hopeless || final != want.final {
			t.Errorf("%s: %q, final %v", reason, trouble, final)
		}
		if strings.Contains(reason, "Image") && !strings.Contains(trouble, "registry.invalid/agent is not loadable") {
			t.Errorf("%s: the image is not named: %q", reason, trouble)
		}
	}
}

func TestImagesOfAllContainersComeFromTheRegistry(t *testing.T) {
	container := func(image string) map[string]any { return map[string]any{"name": "one", "image": image} }
	object := map[string]any{"kind": "Deployment", "spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{container("meshproof/agent:latest")}, "initContainers": []any{container("meshproof/agent:latest")}}}}}
	k := &kube{registry: "registry.invalid/mirror", pullPolicy: corev1.PullNever}
	k.relocate(object)
	spec := object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	for _, list := range []string{"containers", "initContainers"} {
		got := spec[list].([]any)[0].(map[string]any)
		if got["image"] != "registry.invalid/mirror/meshproof/agent:latest" || got["imagePullPolicy"] != "Never" {
			t.Errorf("%s: %v", list, got)
		}
	}
	server := map[string]any{"kind": "Server", "spec": map[string]any{"containers": []any{container("x")}}}
	if k.relocate(server); server["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["image"] != "x" {
		t.Error("an object without pods was changed")
	}
}
