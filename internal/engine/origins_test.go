package engine

import (
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// saying is metadata with a default policy.
func saying(name, policy string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: labels, Annotations: map[string]string{defaultPolicy: policy}}
}

// madeBy is a pod as the injector has left it, whoever is its owner.
func madeBy(name, kind, owner string, labels map[string]string) *corev1.Pod {
	all := map[string]string{appLabel: "app"}
	for key, value := range labels {
		all[key] = value
	}
	pod := &corev1.Pod{ObjectMeta: saying(name, "what the injector says", all)}
	if kind != "" {
		yes := true
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: owner, UID: types.UID(kind + owner), Controller: &yes}}
	}
	return pod
}

// revision is what a controller keeps of a template.
func revision(t *testing.T, name, policy string) *appsv1.ControllerRevision {
	data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"$patch": "replace", "metadata": map[string]any{"annotations": map[string]any{defaultPolicy: policy}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Data: runtime.RawExtension{Raw: data}}
}

func TestAPodWasAskedForAsItsOwnersTemplateSays(t *testing.T) {
	old := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "app-1", Namespace: "ns"}, Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{ObjectMeta: saying("", "deny", nil)}}}
	young := old.DeepCopy()
	young.Name, young.Spec.Template.Annotations[defaultPolicy] = "app-2", "audit"
	empty := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "set-0", Namespace: "ns"}, Data: runtime.RawExtension{Raw: []byte(`{}`)}}
	client := fake.NewClientset(old, young, revision(t, "set-1", "deny"), revision(t, "set-2", "audit"), revision(t, "demon-1", "deny"), empty)
	s := &scenarioRun{e: &run{kube: &kube{typed: client}}, origins: map[string]oracle.Origin{}, bound: map[types.UID]oracle.Origin{}, templates: map[string]*corev1.Pod{}}
	// What was applied last says audit, whoever asks.
	s.origins["ns/app"] = oracle.Origin{Pod: &corev1.Pod{ObjectMeta: saying("", "audit", nil)}, Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}}
	stateful := func(revision string) map[string]string {
		return map[string]string{appsv1.StatefulSetRevisionLabel: revision}
	}
	for _, row := range []struct {
		name  string
		pod   *corev1.Pod
		want  string // empty: nobody knows
		fails bool
	}{
		{"made again by the old ReplicaSet", madeBy("a", "ReplicaSet", "app-1", nil), "deny", false},
		{"made by the new one", madeBy("b", "ReplicaSet", "app-2", nil), "audit", false},
		{"of a ReplicaSet that is gone", madeBy("c", "ReplicaSet", "app-0", nil), "", false},
		{"of a StatefulSet's old revision", madeBy("d", "StatefulSet", "set", stateful("set-1")), "deny", false},
		{"of its new one", madeBy("e", "StatefulSet", "set", stateful("set-2")), "audit", false},
		{"of one that holds nothing", madeBy("f", "StatefulSet", "set", stateful("set-0")), "", true},
		{"of a DaemonSet", madeBy("g", "DaemonSet", "demon", map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: "1"}), "deny", false},
		{"of a Job, whose template cannot be edited", madeBy("h", "Job", "job", nil), "audit", false},
		{"that nobody keeps", madeBy("i", "", "", nil), "audit", false},
		{"of nobody that the scenario knows", &corev1.Pod{ObjectMeta: saying("j", "audit", map[string]string{appLabel: "other"})}, "", false},
	} {
		origin, known, err := s.originOf(t.Context(), row.pod)
		got := ""
		if known {
			got = origin.Pod.Annotations[defaultPolicy]
		}
		if got != row.want || (err != nil) != row.fails || known && origin.Namespace == nil {
			t.Errorf("a pod %s was asked for with %q (%+v, %v)", row.name, got, origin.Namespace, err)
		}
	}
}

func TestHowAPodWasAskedForIsSettledWhenItIsSeenFirst(t *testing.T) {
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "app-1", Namespace: "ns"}, Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{ObjectMeta: saying("", "deny", nil)}}}
	client := fake.NewClientset(set)
	s := &scenarioRun{e: &run{kube: &kube{typed: client}}, origins: map[string]oracle.Origin{}, bound: map[types.UID]oracle.Origin{}, templates: map[string]*corev1.Pod{}}
	labelled := func(value string) oracle.Origin {
		return oracle.Origin{Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{defaultPolicy: value}}}}
	}
	s.origins["ns/app"] = labelled("first")
	pod, later := madeBy("a", "ReplicaSet", "app-1", nil), madeBy("b", "ReplicaSet", "app-1", nil)
	if _, known, err := s.originOf(t.Context(), pod); err != nil || !known {
		t.Fatal(known, err)
	}
	s.origins["ns/app"] = labelled("second")
	for who, want := range map[*corev1.Pod]string{pod: "first", later: "second"} {
		origin, _, err := s.originOf(t.Context(), who)
		if got := origin.Namespace.Annotations[defaultPolicy]; err != nil || got != want || origin.Pod.Annotations[defaultPolicy] != "deny" {
			t.Errorf("pod %s was asked for in the namespace as it was %q, %v", who.Name, got, err)
		}
	}
	if asked := len(client.Actions()); asked != 1 {
		t.Errorf("a template was read %d times", asked)
	}
}
