package engine

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/history"
)

// holding is a pod store that holds some pods, each of which was seen first at a
// moment.
func holding(t *testing.T, born map[*corev1.Pod]time.Time) *podStore {
	t.Helper()
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	p := &podStore{lister: listers.NewPodLister(store), born: map[types.UID]birth{}}
	for pod, at := range born {
		p.born[pod.UID] = birth{at: at}
		if err := store.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serving is a pod of app in which everything runs.
func serving(name string, leaving bool) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{appLabel: "app"}},
		Status: corev1.PodStatus{PodIP: "10.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	if leaving {
		pod.DeletionTimestamp = &metav1.Time{Time: noon}
	}
	return pod
}

func TestAWorkloadIsRestartedWhenItHasTheNewPodsAlone(t *testing.T) {
	for _, row := range []struct {
		name   string
		status appsv1.DeploymentStatus
		pods   []*corev1.Pod
		why    string
	}{
		{"all is done", appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, []*corev1.Pod{serving("new", false)}, ""},
		{"the edit was not seen", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, nil, "not rolled out"},
		{"the old ReplicaSet has made a pod again", appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 1, AvailableReplicas: 2}, []*corev1.Pod{serving("new", false), serving("old", false)}, "not rolled out"},
		{"which is on its way out", appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, []*corev1.Pod{serving("new", false), serving("old", true)}, "1 pods on their way out"},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app", Generation: 2}, Status: row.status,
			Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: "app"}}}}
		born := map[*corev1.Pod]time.Time{}
		for _, pod := range row.pods {
			born[pod] = noon
		}
		e := &run{kube: &kube{typed: fake.NewClientset(d)}, pods: holding(t, born)}
		err := e.alone(t.Context(), "ns", "app")
		if (err == nil) != (row.why == "") || err != nil && !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v, want %q", row.name, err, row.why)
		}
	}
}

func TestAPodThatComesAndGoesBetweenTwoLooksIsKnown(t *testing.T) {
	plan := tinyPlan(t)
	e := &run{Options: Options{ID: "20261122-000000-abcd"}, plan: plan}
	s := newScenarioRun(e, plan.Scenarios[0])
	s.namespace = "ns"
	e.pods = holding(t, map[*corev1.Pod]time.Time{serving("first", false): noon.Add(-time.Hour), serving("again", true): noon.Add(300 * time.Millisecond)})
	r := &recorder{s: s, components: map[string]bool{"app": true}, witnesses: map[types.UID]*witness{}, worlds: map[string]*history.World{}, world: &trackedWorld{s: s}, rec: history.Recording{Began: noon}}
	if err := r.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := map[string]history.Proxy{}
	for _, proxy := range r.rec.Proxies {
		known[proxy.Pod] = proxy
		if r.worlds[proxy.World].Pod(proxy.Pod) == nil {
			t.Errorf("%s is not in its world", proxy.Pod)
		}
	}
	first, again := known["ns/first"], known["ns/again"]
	if first.Born != 0 || first.Gone != 0 {
		t.Errorf("the first pod is %+v", first)
	}
	if again.Born != 300*time.Millisecond || again.Gone == 0 {
		t.Errorf("the one that is on its way out is %+v", again)
	}
}

func TestAPodThatTellsOfALaterMomentWasThere(t *testing.T) {
	r := recording("http1", map[string]time.Duration{"a": 10 * time.Second})
	r.rec.Proxies[0].Gone = time.Second
	one := &history.Request{Start: 9 * time.Second, End: 9*time.Second + time.Millisecond}
	if !r.there(r.witnesses["a"], one) {
		t.Error("it has told what it did until 10 s, and was not there at 9 s")
	}
	r.witnesses["a"].asked = 2 * time.Second
	if r.there(r.witnesses["a"], one) {
		t.Error("it was to be deleted at 1 s, has told nothing since 2 s, and was there at 9 s")
	}
}
