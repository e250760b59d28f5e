package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func TestTheRunsOutcomeIsTheWorstOfItsClaims(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	terminated, terminate := context.WithCancelCause(context.Background())
	terminate(coded(143))
	lost, lose := context.WithCancelCause(context.Background())
	lose(&Lost{errors.New("the cluster has ended")})
	scenario := func(outcome result.Outcome, claims ...result.Outcome) result.Scenario {
		step := result.Step{}
		for _, c := range claims {
			step.Claims = append(step.Claims, result.Claim{Outcome: c})
		}
		return result.Scenario{Outcome: outcome, Reason: "because", Steps: []result.Step{step}}
	}
	for _, test := range []struct {
		name  string
		ctx   context.Context
		all   []result.Scenario
		input bool
		want  result.Outcome
		code  int
	}{
		{"all passed", context.Background(), []result.Scenario{scenario(result.Passed, result.Passed)}, false, result.Passed, result.ExitPassed},
		{"passed and skipped", context.Background(), []result.Scenario{scenario(result.Passed, result.Passed, result.Skipped)}, false, result.Passed, result.ExitPassed},
		{"one failed", context.Background(), []result.Scenario{scenario(result.Failed, result.Passed, result.Failed)}, false, result.Failed, result.ExitFailed},
		{"a failure outweighs a set-up", context.Background(), []result.Scenario{scenario(result.Error, result.Skipped), scenario(result.Failed, result.Failed)}, false, result.Failed, result.ExitFailed},
		{"one inconclusive", context.Background(), []result.Scenario{scenario(result.Inconclusive, result.Passed, result.Inconclusive)}, false, result.Inconclusive, result.ExitInconclusive},
		{"set-up", context.Background(), []result.Scenario{scenario(result.Passed, result.Passed), scenario(result.Error, result.Skipped)}, false, result.Error, result.ExitSetup},
		{"wrong scenario", context.Background(), []result.Scenario{scenario(result.Error, result.Skipped)}, true, result.Error, result.ExitInput},
		{"nothing ran", context.Background(), nil, false, result.Inconclusive, result.ExitInconclusive},
		{"only skipped", context.Background(), []result.Scenario{scenario(result.Skipped, result.Skipped)}, false, result.Inconclusive, result.ExitInconclusive},
		{"terminated", terminated, []result.Scenario{scenario(result.Passed, result.Passed)}, false, result.Inconclusive, 143},
		{"terminated after a failure", terminated, []result.Scenario{scenario(result.Failed, result.Failed)}, false, result.Failed, 143},
		{"the cluster is gone", lost, []result.Scenario{scenario(result.Error, result.Skipped)}, false, result.Error, result.ExitSetup},
		{"the cluster is gone after a failure", lost, []result.Scenario{scenario(result.Failed, result.Failed)}, false, result.Failed, result.ExitFailed},
		{"interrupted", cancelled, []result.Scenario{scenario(result.Passed, result.Passed)}, false, result.Inconclusive, result.ExitInterrupted},
	} {
		run := &result.Run{Scenarios: test.all}
		conclude(test.ctx, run, test.input)
		if run.Outcome != test.want || run.ExitCode != test.code {
			t.Errorf("%s: got %s with exit code %d, want %s with %d", test.name, run.Outcome, run.ExitCode, test.want, test.code)
		}
	}
}

// coded is a cause that has an exit code.
type coded int

func (c coded) Error() string { return "interrupted by a signal" }
func (c coded) ExitCode() int { return int(c) }

func TestWhatIsCutOffIsNotJudged(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	for _, before := range []verdict{passed("200"), failed("reset"), unsure("no witness")} {
		if got := cutOff(ctx, before); got.outcome != before.outcome {
			t.Errorf("while the run goes on, %s becomes %s", before.outcome, got.outcome)
		}
	}
	cancel(&Lost{errors.New("the cluster has ended")})
	if got := cutOff(ctx, passed("200")); got.outcome != result.Passed {
		t.Errorf("what had passed becomes %s", got.outcome)
	}
	for _, before := range []verdict{failed("reset"), unsure("no witness")} {
		if got := cutOff(ctx, before); got.outcome != result.Skipped || got.reason != "not reached: the cluster has ended" {
			t.Errorf("%s becomes %s: %s", before.outcome, got.outcome, got.reason)
		}
	}
}

func TestAnInterruptedSetUpIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(coded(143))
	out := Abandon(ctx, tinyPlan(t), Options{ID: "20261122-000000-abcd"}, errors.New("the cluster did not become ready: context canceled"))
	if out.Outcome != result.Inconclusive || out.ExitCode != 143 || out.Reason != "interrupted by a signal" {
		t.Errorf("got %s, %d, %q", out.Outcome, out.ExitCode, out.Reason)
	}
	if got := out.Scenarios[0]; got.Outcome != result.Skipped || got.Reason != "interrupted by a signal" {
		t.Errorf("the scenario is %s: %s", got.Outcome, got.Reason)
	}
}

func TestWhatIsRefusedIsToldAsInputWithItsPlace(t *testing.T) {
	typed := apierrors.NewGenericServerResponse(500, "patch", schema.GroupResource{}, "one", "", 0, true)
	typed.ErrStatus.Reason, typed.ErrStatus.Message = metav1.StatusReasonUnknown, "failed to create typed patch object (ns/one): .spec.prot: field not declared in schema"
	busy := apierrors.NewInternalError(errors.New("etcd is away"))
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Server"}, "one", nil)
	at := scenarios.Pos{File: "a.yaml", Line: 3, Column: 7}
	for err, want := range map[error]bool{typed: true, invalid: true, busy: false, errors.New("connection refused"): false} {
		got := about(at, "workload app", refusal(err))
		var wrong *inputError
		if errors.As(got, &wrong) != want {
			t.Errorf("%v: is it the scenario's fault? want %v", err, want)
		}
		if !strings.HasPrefix(got.Error(), "a.yaml:3:7: workload app: ") || !strings.Contains(got.Error(), err.Error()) {
			t.Errorf("place or cause is missing: %v", got)
		}
	}
}

func TestOnlyTheRunsOwnNamespacesAreRemoved(t *testing.T) {
	e := &run{Options: Options{ID: "20261122-000000-abcd"}, users: map[string][]*scenarioRun{}}
	labels := func(id string) map[string]string { return map[string]string{partOf: tool, runLabel: id} }
	mine := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mine", Labels: labels(e.ID)}}
	others := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "others", Labels: labels("20261122-000000-ffff")}}
	users := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "emojivoto"}}
	client := fake.NewClientset(mine, others, users)
	e.kube, e.pods = &kube{typed: client}, &podStore{lister: listers.NewPodLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}))}
	for _, name := range []string{"mine", "others", "emojivoto"} {
		plan := tinyPlan(t)
		plan.Scenarios[0].Spec.Namespace = name
		newScenarioRun(e, plan.Scenarios[0]).giveBack(context.Background())
	}
	left, err := client.CoreV1().Namespaces().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range left.Items {
		names = append(names, one.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"emojivoto", "others"}) {
		t.Errorf("left are %v", names)
	}
}

const tiny = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: tiny}
spec:
  summary: a tiny one
  workloads: [{name: app, kind: echo}]
  clients: [{name: alice, kind: meshed}]
  steps:
    - name: first
      claims:
        - {name: one, call: {client: alice, target: app, protocol: http1, expect: allowed}}
        - {name: two, skip: not yet, healthy: {}}
`

func tinyPlan(t *testing.T) *scenarios.Plan {
	t.Helper()
	set, err := scenarios.Parse("tiny.yaml", []byte(tiny), func(string) ([]byte, error) { return nil, os.ErrNotExist })
	if err != nil {
		t.Fatal(err)
	}
	return scenarios.NewPlan(set, nil)
}

func TestARunThatCannotBeginTellsOfEveryClaim(t *testing.T) {
	told := map[string]result.Claim{}
	out := Abandon(context.Background(), tinyPlan(t), Options{ID: "20261122-000000-abcd", Observe: func(e Event) {
		if e.Kind == ClaimFinished {
			told[e.Claim.ID] = *e.Result
		}
	}}, errors.New("no cluster"))
	if out.Outcome != result.Error || out.ExitCode != result.ExitSetup || out.Reason != "no cluster" {
		t.Errorf("got %s, %d, %q", out.Outcome, out.ExitCode, out.Reason)
	}
	if out.Summary != (result.Summary{Total: 2, Skipped: 2}) {
		t.Errorf("summary is %+v", out.Summary)
	}
	if got := told["tiny.1.1"]; got.Outcome != result.Skipped || got.Reason != "not reached: no cluster" {
		t.Errorf("the first claim was told as %+v", got)
	}
	if got := out.Scenarios[0].Steps[0].Claims[1].Reason; got != "not yet" {
		t.Errorf("the reason of the skipped claim is %q", got)
	}
}

func TestNamesOfNamespacesTellTheRunAndFit(t *testing.T) {
	plan := tinyPlan(t)
	s := newScenarioRun(&run{Options: Options{ID: "20261122-000000-abcd"}, plan: plan}, plan.Scenarios[0])
	if s.namespace != "mp-abcd-tiny" {
		t.Errorf("the namespace is %q", s.namespace)
	}
	long := s.generated("a-very-long-name-for-a-further-namespace-of-a-scenario-indeed-it-is")
	if len(long) > 63 {
		t.Errorf("%q has %d characters", long, len(long))
	}
	if s.interest["app"][8080] != true {
		t.Errorf("the port of the call is not among those waited for: %v", s.interest)
	}
}

func TestARowOfTheTableIsComparedColumnByColumn(t *testing.T) {
	rows := []authz.Row{
		{Route: "default", Server: "voting-grpc", Authorization: "serverauthorization/voting-grpc", Success: 0.8, RPS: 2},
		{Route: "default", Server: "voting-grpc", Unauthorized: 1.5},
		{Route: "default", Server: "idle", Idle: true},
	}
	for _, test := range []struct {
		name string
		want scenarios.AuthzRow
		fits bool
	}{
		{"all columns", scenarios.AuthzRow{Route: "default", Server: "voting-grpc", Authorization: "serverauthorization/voting-grpc", Unauthorized: "none", Success: "partial", RPS: "some"}, true},
		{"success is not complete", scenarios.AuthzRow{Route: "default", Server: "voting-grpc", Authorization: "serverauthorization/voting-grpc", Success: "all"}, false},
		{"denials", scenarios.AuthzRow{Route: "default", Server: "voting-grpc", Unauthorized: "some", Success: "none", RPS: "none"}, true},
		{"denials that should not be", scenarios.AuthzRow{Route: "default", Server: "voting-grpc", Absent: true}, false},
		{"a row that is not there", scenarios.AuthzRow{Route: "probe", Server: "voting-grpc"}, false},
		{"a row that should not be there", scenarios.AuthzRow{Route: "probe", Server: "voting-grpc", Absent: true}, true},
		{"a row in which nothing happened", scenarios.AuthzRow{Route: "default", Server: "idle", Absent: true}, true},
	} {
		if got := compareRow(test.want, rows); (got == "") != test.fits {
			t.Errorf("%s: got %q", test.name, got)
		}
	}
}

func TestQuantilesAreValuesThatWereMeasured(t *testing.T) {
	values := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestFiguresKeepQuietAndBusyWritesApart(t *testing.T) {
	var f figures
	f.wrote(2*time.Millisecond, true)
	f.wrote(900*time.Millisecond, false)
	for _, figure := range f.list() {
		if figure.Name == "write to in force, p99" && (figure.Value != 2 || figure.N != 1 || figure.Target != 200) {
			t.Errorf("the quiet figure is %+v", figure)
		}
	}
}

func TestWhatKeepsAPodFromBeingReadyIsNamed(t *testing.T) {
	pod := func(status corev1.PodStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app"}, Status: status}
	}
	for want, status := range map[string]corev1.PodStatus{
		"pod ns/app is pending: container app waits: ImagePullBackOff no such image": {Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}},
		"pod ns/app is pending: 0/1 nodes are available": {Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}},
		"pod ns/app is running: container linkerd-proxy is not ready": {Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "linkerd-proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
		"pod ns/app is pending: container linkerd-init ended with 1 Error": {Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
			{Name: "linkerd-init", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}}}},
	} {
		if got := why(pod(status)); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
