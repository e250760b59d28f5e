package engine

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/scenarios"
)

func TestEveryKindOfFaultIsMadeOrSaysWhyNot(t *testing.T) {
	var kind scenarios.FaultKind
	for _, name := range kind.Values() {
		how, known := faultKinds[scenarios.FaultKind(name)]
		if !known || (how.begin == nil) == (how.never == "") {
			t.Errorf("%s: how it is made is not said, or twice", name)
		}
	}
	if len(faultKinds) != len(kind.Values()) {
		t.Errorf("%d kinds are made, and %d are in the language", len(faultKinds), len(kind.Values()))
	}
}

func TestFaultsThatAClusterLacksAreNamed(t *testing.T) {
	s := &scenarioRun{e: &run{Options: Options{}}}
	for kind, want := range map[scenarios.FaultKind]string{
		scenarios.ControllerPaused: lacksFaults, scenarios.ProxyKilled: lacksFaults,
		scenarios.ControllerKilled: "", scenarios.IdentityDown: "",
	} {
		if got := s.lackedByFault(&scenarios.Fault{Kind: kind}); got != want {
			t.Errorf("%s on a cluster without faults: %q", kind, got)
		}
	}
	s.e.Capabilities.Faults = true
	if got := s.lackedByFault(&scenarios.Fault{Kind: scenarios.ControllerPaused}); got != "" {
		t.Errorf("on a cluster with faults: %q", got)
	}
	if s.lackedByFault(&scenarios.Fault{Kind: scenarios.NodeLost}) == "" {
		t.Error("a fault that can be made nowhere is lacked nowhere")
	}
}

// harmed notes what was done to it.
type harmed struct {
	cluster.Faults
	done []string
}

func (h *harmed) Signal(_ context.Context, pod cluster.Pod, container string, signal syscall.Signal) error {
	h.done = append(h.done, signal.String()+" "+pod.String()+" "+container)
	return nil
}

func TestALiftIsDoneOnceAndTheLastThingFirst(t *testing.T) {
	s := &scenarioRun{e: &run{}}
	f := &faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyPaused}, name: "p", from: time.Now()}
	var order []int
	for i := range 3 {
		f.onLift(func(context.Context) error {
			order = append(order, i)
			if i == 1 {
				return errors.New("one of them fails")
			}
			return nil
		})
	}
	if err := s.lift(t.Context(), f); err == nil {
		t.Error("a failure was not told")
	}
	if err := s.lift(t.Context(), f); err != nil || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("lifted in the order %v, %v", order, err)
	}
}

func TestPausedProcessesGoOnWhenTheFaultIsLifted(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app-1"}}
	e, s := withPods(t, cluster.Capabilities{Faults: true}, pod)
	h := &harmed{}
	e.Faults = h
	f := &faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyPaused}, name: "p", pods: []string{nameOf(pod).String()}}
	if err := s.signalAll(t.Context(), f, s.e.pods.named(nameOf(pod)), proxyContainer, syscall.SIGSTOP, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.lift(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	where := " " + nameOf(pod).String() + " " + proxyContainer
	if want := []string{syscall.SIGSTOP.String() + where, syscall.SIGCONT.String() + where}; !slices.Equal(h.done, want) {
		t.Errorf("done %q, want %q", h.done, want)
	}
}

func TestAFaultIsASpanUntilEverythingIsInForceAgain(t *testing.T) {
	s := &scenarioRun{e: &run{}}
	from := time.Now()
	f := &faultRun{Fault: &scenarios.Fault{Kind: scenarios.PolicyStreamCut}, name: "cut", from: from, pods: []string{"ns/app-1"}}
	s.faults = append(s.faults, f)
	if !s.faulted() || s.lasts(f) {
		t.Error("a fault that lasts is none, or is another one than itself")
	}
	f.mended, f.to = true, from.Add(time.Second)
	spans := s.faultSpans()
	if s.faulted() || len(spans) != 1 || spans[0].kind != "policy-stream-cut" || !spans[0].to.Equal(f.to) || !slices.Equal(spans[0].pods, f.pods) || spans[0].down {
		t.Errorf("%+v", spans)
	}
}

func TestAFaultOfOtherPodsKeepsNobodyElseFromBeingTold(t *testing.T) {
	named := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name + "-1", Labels: map[string]string{appLabel: name}}}
	}
	_, s := withPods(t, cluster.Capabilities{Faults: true}, named("app"), named("slow"))
	s.namespace = "ns"
	s.interest = map[string]map[int]bool{"app": {8080: true}}
	for _, one := range []struct {
		fault *faultRun
		want  bool
	}{
		{&faultRun{Fault: &scenarios.Fault{Kind: scenarios.ControllerKilled}}, true},
		{&faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyPaused}, pods: []string{"ns/app-1"}}, true},
		{&faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyPaused}, pods: []string{"ns/slow-1"}}, false},
		{&faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyPaused}, pods: []string{"ns/app-1"}, to: time.Now()}, false},
	} {
		s.faults = []*faultRun{one.fault}
		if got := s.untold(); got != one.want {
			t.Errorf("%s of %v, over at %v: policy comes to nobody: %t, want %t", one.fault.Kind, one.fault.pods, one.fault.to, got, one.want)
		}
	}
}

func TestWhatIsMendedWhileAnotherFaultLastsIsOverWithThatOne(t *testing.T) {
	_, s := withPods(t, cluster.Capabilities{})
	s.interest = nil // nothing to be in force
	away := &faultRun{Fault: &scenarios.Fault{Kind: scenarios.PolicyStreamCut, Workload: "app"}, name: "away", from: time.Now()}
	killed := &faultRun{Fault: &scenarios.Fault{Kind: scenarios.ProxyKilled, Workload: "app"}, name: "killed", from: time.Now()}
	s.faults = []*faultRun{away, killed}
	if err := s.recover(t.Context(), killed); err != nil {
		t.Fatal(err)
	}
	if !killed.to.IsZero() || !s.faulted() {
		t.Errorf("over at %s while another one lasts", killed.to)
	}
	if s.lasts(away) {
		t.Error("what is mended keeps the other one from being over")
	}
}
