package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// recoveryBudget is from the moment that a fault is lifted to all policy in
	// force again at every proxy: twice the proxies' longest wait between two
	// attempts to connect (F1), their attempt itself, and what a write may take. A
	// mesh that needs longer is found to be wrong.
	recoveryBudget = 2*reconnectCap + connectBudget + inForceBudget
	// reconnectCap is the longest that a proxy waits between two attempts to reach
	// its controller (L-06), and connectBudget what an attempt takes at most (L-05).
	reconnectCap, connectBudget = 10 * time.Second, 3 * time.Second
	// liftBudget is for lifting a fault when nobody waits any more.
	liftBudget = 20 * time.Second
)

// faultRun is a fault that was made. Its times and pods are under the
// scenario's mu.
type faultRun struct {
	*scenarios.Fault
	name string
	// from is before anything was broken, to after everything was in force again,
	// zero while the fault lasts.
	from, to time.Time
	// pods whose proxies it concerns, as namespace/name; none: all.
	pods []string
	// mended says that what was broken is back, while another fault keeps policy
	// from being in force: then this one is over with that one.
	mended bool
	// again says whether what was ended was started again; nil where nothing was.
	again func() (bool, string)
	// lifts undo it, the last one first; each is done once.
	lifts []func(context.Context) error
}

// onLift has something done when the fault is lifted.
func (f *faultRun) onLift(do func(context.Context) error) { f.lifts = append(f.lifts, do) }

// faultSpan is a fault as the recording has it.
type faultSpan struct {
	name, kind string
	// to is zero while it lasts.
	from, to time.Time
	// pods as namespace/name; none: all.
	pods []string
	// down says that its proxies, or what is behind them, may not answer.
	down bool
}

// faultSpans are the scenario's faults so far, in the order in which they began.
func (s *scenarioRun) faultSpans() []faultSpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	var spans []faultSpan
	for _, f := range s.faults {
		spans = append(spans, faultSpan{f.name, string(f.Kind), f.from, f.to, slices.Clone(f.pods), down(f.Kind)})
	}
	return spans
}

// faulted says whether a fault lasts.
func (s *scenarioRun) faulted() bool { return s.lasts(nil) }

// lasts says whether a fault besides this one does.
func (s *scenarioRun) lasts(but *faultRun) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f *faultRun) bool { return f != but && f.to.IsZero() && !f.mended })
}

// untold says whether a fault lasts that keeps what the scenario's streams and
// claims lead to from being told of policy. One of other pods keeps them from
// nothing.
func (s *scenarioRun) untold() bool {
	led := map[string]bool{}
	for component := range s.interest {
		for _, pod := range s.componentPods(component) {
			led[nameOf(pod).String()] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f *faultRun) bool {
		return f.to.IsZero() && !f.mended && (len(f.pods) == 0 || slices.ContainsFunc(f.pods, func(pod string) bool { return led[pod] }))
	})
}

// brokeAll says whether the scenario has broken something that concerns everybody.
func (s *scenarioRun) brokeAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f *faultRun) bool { return len(f.pods) == 0 })
}

// stopped says whether a fault of that kind lasts at a pod.
func (s *scenarioRun) stopped(pod types.NamespacedName, kind scenarios.FaultKind) bool {
	return s.concerned(pod, func(f *faultRun) bool { return f.Kind == kind })
}

// downed says whether a fault lasts by which a pod, or what is in it, may not answer.
func (s *scenarioRun) downed(pod types.NamespacedName) bool {
	return s.concerned(pod, func(f *faultRun) bool { return down(f.Kind) })
}

// concerned says whether such a fault of a pod lasts.
func (s *scenarioRun) concerned(pod types.NamespacedName, such func(*faultRun) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f *faultRun) bool {
		return f.to.IsZero() && !f.mended && such(f) && slices.Contains(f.pods, pod.String())
	})
}

// owe remembers writes that nobody has waited for, for whoever heals a fault.
func (s *scenarioRun) owe(writes []write) {
	if s.owed == nil {
		s.owed = versions{}
	}
	for _, w := range writes {
		if w.policy() || w.kind == "Pod" || w.kind == "Namespace" {
			s.owed = s.owed.with(w)
		}
	}
}

// fault breaks something.
func (s *scenarioRun) fault(ctx context.Context, a *scenarios.Fault) (string, error) {
	f := &faultRun{Fault: a, name: a.Called(), from: time.Now()}
	line := "fault " + f.name
	if f.name != string(a.Kind) {
		line += " (" + string(a.Kind) + ")"
	}
	if a.Workload != "" {
		line += " of " + a.Workload
		for name := range s.workload(a.Workload).Components() {
			for _, pod := range s.componentPods(name) {
				f.pods = append(f.pods, nameOf(pod).String())
			}
		}
		if len(f.pods) == 0 {
			return line, fmt.Errorf("%s has no pods", a.Workload)
		}
	}
	s.mu.Lock()
	s.faults = append(s.faults, f)
	s.mu.Unlock()
	// Whatever happens, Ctrl-C too.
	s.undo = append(s.undo, func(ctx context.Context) {
		if len(f.lifts) > 0 && s.lift(ctx, f) == nil {
			_ = s.back(ctx, f) // the next scenario counts on it
		}
	})
	if err := faultKinds[a.Kind].begin(ctx, s, f); err != nil {
		return line, err
	}
	switch {
	case a.Kind.Momentary():
		return line, s.recover(ctx, f)
	case !s.planned.Healed(f.name):
		return line + " for " + a.For.String(), s.healed(ctx, f)
	}
	return line, nil
}

// heal ends the fault of that name that lasts.
func (s *scenarioRun) heal(ctx context.Context, name string) (string, error) {
	for _, f := range s.faults {
		if f.name == name && !f.mended {
			return "heal " + name, s.healed(ctx, f)
		}
	}
	return "heal " + name, nil // it was left out
}

// healed lets a fault last its time, lifts it, and waits until it is over.
func (s *scenarioRun) healed(ctx context.Context, f *faultRun) error {
	if err := pause(ctx, time.Until(f.from.Add(f.For))); err != nil {
		return err
	}
	if err := s.lift(ctx, f); err != nil {
		return err
	}
	return s.recover(ctx, f)
}

// lift undoes what makes a fault; what was undone is not done again.
func (s *scenarioRun) lift(ctx context.Context, f *faultRun) error {
	ctx, cancel := context.WithTimeout(ctx, liftBudget)
	defer cancel()
	var failures []error
	for _, one := range slices.Backward(f.lifts) {
		failures = append(failures, one(ctx))
	}
	f.lifts = nil
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("lift the fault %s: %w", f.name, err)
	}
	return nil
}

// recover waits until whatever was broken is back, and everything that was
// written so far in force. While another fault lasts nothing is waited for that
// this one may keep from coming about: a proxy that has no policy is not ready.
// Where it takes too long the fault is over all the same: from then on the mesh is
// to blame.
func (s *scenarioRun) recover(ctx context.Context, f *faultRun) error {
	s.mu.Lock()
	f.mended = true
	s.mu.Unlock()
	if s.lasts(f) {
		return s.answering(ctx, f)
	}
	var over []*faultRun
	for _, one := range s.faults {
		if one.mended && one.to.IsZero() {
			over = append(over, one)
		}
	}
	err := s.allBack(ctx, over)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range over {
		one.to = time.Now()
	}
	return err
}

// answering waits until proxies that were ended run again, so that their records
// can be read, whether they are ready or not.
func (s *scenarioRun) answering(ctx context.Context, f *faultRun) error {
	if f.again == nil || f.Workload == "" {
		return nil
	}
	for _, pod := range s.podsOfFault(f) {
		if err := eventually(ctx, settleBudget, func() error {
			_, err := s.e.lastDecision(ctx, nameOf(pod))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// allBack waits until what some faults have broken is back, and policy in force.
func (s *scenarioRun) allBack(ctx context.Context, faults []*faultRun) error {
	for _, f := range faults {
		if err := s.back(ctx, f); err != nil {
			return err
		}
	}
	return s.restored(ctx, s.owed)
}

// back waits until the control plane and the pods that the fault concerns run
// again, which is Kubernetes' part.
func (s *scenarioRun) back(ctx context.Context, f *faultRun) error {
	if f.again != nil {
		if err := s.e.pods.until(ctx, podsBudget, f.again); err != nil {
			return err
		}
	}
	if !f.Kind.OfPods() {
		if err := s.e.awaitRollout(ctx, meshNamespace, nil); err != nil {
			return err
		}
		return s.recertified(ctx, f)
	}
	if err := s.e.pods.until(ctx, podsBudget, func() (bool, string) {
		for name := range s.workload(f.Workload).Components() {
			for _, pod := range s.componentPods(name) {
				if !ready(pod) {
					return false, why(pod)
				}
			}
		}
		return true, ""
	}); err != nil {
		return err
	}
	// A container that runs need not listen yet.
	return s.listening(ctx, s.workload(f.Workload))
}

// restored waits until the policy after the versions is in force everywhere, and
// every proxy told of the next one. A proxy that has lost its controller takes some
// attempts to find it again.
func (s *scenarioRun) restored(ctx context.Context, least versions) error {
	limit := time.Now().Add(recoveryBudget)
	for {
		endpoints := s.endpoints(nil)
		err := s.inForce(ctx, endpoints, least, time.Time{})
		if err == nil {
			err = s.told(ctx, endpoints)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%w: %s after the fault was lifted: %w", errBudget, recoveryBudget, err)
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// lacksFaults is why faults from below Kubernetes are left out.
const lacksFaults = "it needs a cluster whose pods' processes and connections can be reached, and this one's cannot (faults: none)"

// lackedByFault says what the cluster lacks for a fault; empty when nothing.
func (s *scenarioRun) lackedByFault(f *scenarios.Fault) string {
	how := faultKinds[f.Kind]
	switch {
	case how.never != "":
		return how.never
	case how.below && !s.e.Capabilities.Faults:
		return lacksFaults
	case f.Workload != "":
		return s.lackedByWorkload(s.workload(f.Workload))
	}
	return ""
}

// lackedByFaults says what the cluster lacks for the scenario's faults: without
// one of them nothing of it can be judged.
func (s *scenarioRun) lackedByFaults() string {
	for _, step := range s.planned.Spec.Steps {
		for i := range step.Actions {
			if f := step.Actions[i].Fault; f != nil && s.e.dialect().For(step.Actions[i].Dialects) {
				if why := s.lackedByFault(f); why != "" {
					return why
				}
			}
		}
	}
	return ""
}

// podsOfFault are those of its workload that are still there.
func (s *scenarioRun) podsOfFault(f *faultRun) []*corev1.Pod {
	var pods []*corev1.Pod
	for name := range s.workload(f.Workload).Components() {
		for _, pod := range s.componentPods(name) {
			if slices.Contains(f.pods, nameOf(pod).String()) {
				pods = append(pods, pod)
			}
		}
	}
	return pods
}

func podRef(pod *corev1.Pod) cluster.Pod {
	return cluster.Pod{Namespace: pod.Namespace, Name: pod.Name}
}
