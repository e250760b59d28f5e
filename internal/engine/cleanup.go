package engine

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/walltime"
)

// giveBack cleans up within a budget of its own, also when ctx has ended.
func (s *scenarioRun) giveBack(ctx context.Context) {
	defer s.lane.In(walltime.Removal)()
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
	defer cancel()
	s.cleanUp(clean)
}

// cleanUp gives back what the scenario made.
func (s *scenarioRun) cleanUp(ctx context.Context) {
	for _, stream := range s.streams {
		if !stream.stopped {
			_, _ = stream.client.agent.StopStream(ctx, stream.name, stream.seq)
		}
	}
	for _, held := range s.held {
		_, _ = held.client.agent.CloseConnection(ctx, held.name)
	}
	for _, back := range slices.Backward(s.undo) {
		back(ctx)
	}
	if s.keepsNamespace() {
		if s.e.made(ctx, s.namespace) != nil {
			s.removePolicies(ctx)
		}
		return
	}
	if s.e.Leave && len(s.exactNamespaces()) == 0 && !s.costly() {
		return
	}
	for _, name := range append([]string{s.namespace}, s.furtherNamespaces()...) {
		if !s.e.deleteNamespace(ctx, name) {
			continue
		}
		for _, pod := range s.e.pods.list(name, nil) {
			s.e.forward.drop(nameOf(pod))
		}
	}
}

// made returns a namespace that this run has made, nil when it has not: what is
// somebody else's stays, whatever it is called.
func (e *run) made(ctx context.Context, name string) *corev1.Namespace {
	namespace, err := e.kube.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil || namespace.Labels[partOf] != tool || namespace.Labels[runLabel] != e.ID {
		return nil
	}
	return namespace
}

func (s *scenarioRun) furtherNamespaces() []string {
	var names []string
	for _, n := range s.planned.Spec.Namespaces {
		names = append(names, s.values["ns."+n.Name])
	}
	return names
}

// keepsNamespace says whether a later scenario of the run uses the same fixed
// namespace: it stands then, so that its workload need not start again. It is
// not kept for scenarios that run alone: until then others may want it, and
// being alone is waiting for them.
func (s *scenarioRun) keepsNamespace() bool {
	if s.planned.Spec.Namespace == "" {
		return false
	}
	s.e.observing.Lock()
	defer s.e.observing.Unlock()
	left := 0
	for _, other := range s.e.users[s.namespace] {
		if other != s && (s.e.Alone == nil || other.planned.Spec.Serial == s.planned.Spec.Serial) {
			left++
		}
	}
	s.e.users[s.namespace] = slices.DeleteFunc(s.e.users[s.namespace], func(other *scenarioRun) bool { return other == s })
	return left > 0
}

// removePolicies deletes the namespace's policy objects.
func (s *scenarioRun) removePolicies(ctx context.Context) {
	for _, kind := range policies {
		mapping, err := s.e.kube.mapper.RESTMapping(kind.GroupKind())
		if err == nil {
			resource := s.e.kube.dynamic.Resource(mapping.Resource).Namespace(s.namespace)
			_ = resource.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}
	}
}
