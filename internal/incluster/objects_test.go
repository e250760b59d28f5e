package incluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func objects(t *testing.T, o Options) []runtime.Object {
	t.Helper()
	all, err := Objects(o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func jobOf(t *testing.T, all []runtime.Object) *batchv1.JobSpec {
	t.Helper()
	switch last := all[len(all)-1].(type) {
	case *batchv1.Job:
		return &last.Spec
	case *batchv1.CronJob:
		return &last.Spec.JobTemplate.Spec
	}
	t.Fatalf("the last object is a %T", all[len(all)-1])
	return nil
}

func TestEveryShardIsTriedOnceSideBySide(t *testing.T) {
	for _, schedule := range []string{"", "0 2 * * *"} {
		spec := jobOf(t, objects(t, Options{Shards: 3, Schedule: schedule}))
		if *spec.CompletionMode != batchv1.IndexedCompletion || *spec.Completions != 3 || *spec.Parallelism != 3 || *spec.BackoffLimitPerIndex != 0 || *spec.MaxFailedIndexes != 3 {
			t.Errorf("%+v", spec)
		}
		pod := spec.Template.Spec
		if pod.RestartPolicy != corev1.RestartPolicyNever || !slices.Contains(pod.Containers[0].Args, "auto/3") || pod.Containers[0].Resources.Requests.Cpu().IsZero() {
			t.Errorf("%+v", pod)
		}
	}
}

func TestThePodIsAllowedInItsOwnNamespace(t *testing.T) {
	all := objects(t, Options{Shards: 1})
	level := all[0].(*corev1.Namespace).Labels["pod-security.kubernetes.io/enforce"]
	if level != string(api.LevelRestricted) {
		t.Errorf("the namespace enforces %q", level)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := jobOf(t, all).Template
	for _, answer := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &spec.ObjectMeta, &spec.Spec) {
		if !answer.Allowed {
			t.Errorf("refused: %s, %s", answer.ForbiddenReason, answer.ForbiddenDetail)
		}
	}
}

func TestTheRightsArePrintedAsTheyAreGiven(t *testing.T) {
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}
	var subjects []rbacv1.Subject
	for _, object := range objects(t, Options{Shards: 1, Namespace: "here", Name: "it", Rules: rules}) {
		switch o := object.(type) {
		case *rbacv1.ClusterRole:
			if len(o.Rules) != 1 || o.Rules[0].Resources[0] != "pods" || o.Name != "here-it" {
				t.Errorf("cluster role %+v", o)
			}
		case *rbacv1.Role:
			if o.Namespace != "here" || len(o.Rules) != 1 || !slices.Equal(o.Rules[0].Verbs, []string{"create", "update"}) || !slices.Equal(o.Rules[0].Resources, []string{"configmaps"}) {
				t.Errorf("role %+v", o)
			}
		case *rbacv1.ClusterRoleBinding:
			subjects = append(subjects, o.Subjects...)
		case *rbacv1.RoleBinding:
			subjects = append(subjects, o.Subjects...)
		}
	}
	want := rbacv1.Subject{Kind: "ServiceAccount", Name: "it", Namespace: "here"}
	if !slices.Equal(subjects, []rbacv1.Subject{want, want}) {
		t.Errorf("the rights go to %+v", subjects)
	}
}

func TestARegistryHoldsTheImageAndIsToldToTheRun(t *testing.T) {
	container := jobOf(t, objects(t, Options{Shards: 1, Registry: "registry.example/team", Args: []string{"$(HOME)", "probes"}})).Template.Spec.Containers[0]
	if container.Image != "registry.example/team/meshproof/meshproof:dev" {
		t.Errorf("image %s", container.Image)
	}
	if text := strings.Join(container.Args, " "); !strings.HasSuffix(text, "--registry registry.example/team $$(HOME) probes") {
		t.Errorf("args %s", text)
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	for option, o := range map[string]Options{
		"shards": {}, "namespace": {Shards: 1, Namespace: "A"}, "name": {Shards: 1, Name: strings.Repeat("a", 60)}, "timeout": {Shards: 1, Timeout: 1},
		"image-pull-policy": {Shards: 1, PullPolicy: "Often"}, "schedule": {Shards: 1, Schedule: "nightly"},
	} {
		_, err := Objects(o)
		var wrong *OptionError
		if !errors.As(err, &wrong) || wrong.Option != option || !strings.HasPrefix(err.Error(), "--"+option+": ") {
			t.Errorf("%s: %v", option, err)
		}
	}
	for _, schedule := range []string{"0 2 * * *", "*/5 0-3 1,2 JAN MON-FRI", "@daily"} {
		if _, err := Objects(Options{Shards: 1, Schedule: schedule}); err != nil {
			t.Error(err)
		}
	}
}

func TestAManifestHoldsOnlyWhatAUserWouldWrite(t *testing.T) {
	text, err := Manifest(&batchv1.Job{TypeMeta: kind("batch/v1", "Job"), ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: batchv1.JobSpec{Suspend: pointer(true)}})
	want := "---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: x\nspec:\n  suspend: true\n  template:\n    metadata: {}\n    spec:\n      containers: null\n"
	if err != nil || string(text) != want {
		t.Errorf("%v:\n%s", err, text)
	}
}
