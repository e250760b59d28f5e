package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/meshproof/meshproof/internal/mesh/injector"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/images"
	"github.com/meshproof/meshproof/workloads/manifests"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
	"github.com/meshproof/meshproof/workloads/probed"
	"github.com/meshproof/meshproof/workloads/viz"
)

// kustomizeBase is where the manifests are that run shards inside a cluster.
const kustomizeBase = "../../workloads/kustomize/base"

// deployed are all pods that this project deploys, by a name for people, before
// injection.
func deployed(t *testing.T) map[string]*corev1.Pod {
	t.Helper()
	pods := map[string]*corev1.Pod{}
	add := func(source string, objects []*unstructured.Unstructured) {
		for _, object := range objects {
			if pod := podOf(t, object); pod != nil {
				pods[source+": "+object.GetKind()+" "+object.GetName()] = pod
			}
		}
	}
	parsed := func(text []byte) []*unstructured.Unstructured {
		objects, err := manifests.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
	for name, options := range map[string]mesh.Options{"mesh": {}, "mesh HA": {HA: true}} {
		text, err := mesh.Install(options)
		if err != nil {
			t.Fatal(err)
		}
		add(name, parsed(text))
	}
	add("viz", parsed([]byte(viz.Manifests())))
	add("emojivoto", parsed(emojivoto.Manifest()))
	base := manifests.Options{Name: "one", Namespace: "there", ServiceAccount: "one"}
	add("workloads", manifests.Echo(base))
	for _, probe := range probed.Probes() {
		if probe.Port == 0 {
			continue
		}
		objects, err := manifests.Probed(manifests.ProbedOptions{Options: base, Readiness: probe.Kind})
		if err != nil {
			t.Fatal(err)
		}
		add("probed "+string(probe.Kind), objects)
	}
	add("client", manifests.Client(manifests.ClientOptions{Options: base}))
	add("client with an identity", manifests.Client(manifests.ClientOptions{Options: base, TrustAnchors: "roots"}))
	files, err := filepath.Glob(filepath.Join(kustomizeBase, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		add("kustomize", parsed(text))
	}
	if len(pods) < 15 {
		t.Fatalf("only %d pods were found", len(pods))
	}
	return pods
}

// podOf is the pod that an object makes, nil when it makes none.
func podOf(t *testing.T, object *unstructured.Unstructured) *corev1.Pod {
	t.Helper()
	into := func(typed any) {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed); err != nil {
			t.Fatal(err)
		}
	}
	var template corev1.PodTemplateSpec
	switch object.GetKind() {
	case "Pod":
		pod := &corev1.Pod{}
		into(pod)
		return pod
	case "Deployment":
		var one appsv1.Deployment
		into(&one)
		template = one.Spec.Template
	case "StatefulSet":
		var one appsv1.StatefulSet
		into(&one)
		template = one.Spec.Template
	case "DaemonSet":
		var one appsv1.DaemonSet
		into(&one)
		template = one.Spec.Template
	case "Job":
		var one batchv1.Job
		into(&one)
		template = one.Spec.Template
	case "CronJob":
		var one batchv1.CronJob
		into(&one)
		template = one.Spec.JobTemplate.Spec.Template
	default:
		return nil
	}
	return &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
}

// injected is the pod with a proxy.
func injected(t *testing.T, pod *corev1.Pod, native bool) *corev1.Pod {
	t.Helper()
	v := values.Default()
	v.ProxyExemption, v.NativeSidecar = values.ExemptUID, native
	settings, err := injector.NewSettings(v, "roots")
	if err != nil {
		t.Fatal(err)
	}
	pod = pod.DeepCopy()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[injector.InjectAnnotation] = "enabled"
	namespace := &corev1.Namespace{}
	namespace.Name = "there"
	result := injector.Inject(pod, namespace, settings)
	if result.Pod == nil {
		t.Fatalf("not injected: %s", result.Skipped)
	}
	return result.Pod
}

func violations(t *testing.T, pod *corev1.Pod, level podsecurity.Level) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, result := range evaluator.EvaluatePod(podsecurity.LevelVersion{Level: level, Version: podsecurity.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			found = append(found, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return found
}

func TestPodsSatisfyTheRestrictedProfile(t *testing.T) {
	for name, pod := range deployed(t) {
		t.Run(name, func(t *testing.T) {
			if found := violations(t, pod, podsecurity.LevelRestricted); len(found) > 0 {
				t.Errorf("%q", found)
			}
		})
	}
}

// The container that redirects a pod's connections is refused by both profiles,
// and nothing else of an injected pod is by either.
func TestOnlyTheRedirectionNeedsPrivileges(t *testing.T) {
	for name, pod := range deployed(t) {
		for kind, native := range map[string]bool{"": false, ", native sidecar": true} {
			t.Run(name+kind, func(t *testing.T) {
				made := injected(t, pod, native)
				if found := violations(t, made, podsecurity.LevelBaseline); len(found) != 1 {
					t.Errorf("baseline finds %q, want one violation", found)
				}
				redirects := func(c corev1.Container) bool { return c.Name == injector.InitContainer }
				at := slices.IndexFunc(made.Spec.InitContainers, redirects)
				if at < 0 {
					t.Fatal("no container redirects")
				}
				if want := []corev1.Capability{"NET_ADMIN"}; !slices.Equal(made.Spec.InitContainers[at].SecurityContext.Capabilities.Add, want) {
					t.Errorf("the redirection has %v, want %v", made.Spec.InitContainers[at].SecurityContext.Capabilities.Add, want)
				}
				made.Spec.InitContainers = slices.DeleteFunc(made.Spec.InitContainers, redirects)
				if found := violations(t, made, podsecurity.LevelRestricted); len(found) > 0 {
					t.Errorf("without it, restricted finds %q", found)
				}
			})
		}
	}
}

// Traffic of the proxy's user passes the redirection, and the agent's image asks
// for that user: whatever else runs from it has to ask for another.
func TestNothingButTheProxyRunsAsItsUser(t *testing.T) {
	for name, pod := range deployed(t) {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			var user *int64
			if pod.Spec.SecurityContext != nil {
				user = pod.Spec.SecurityContext.RunAsUser
			}
			if container.SecurityContext != nil && container.SecurityContext.RunAsUser != nil {
				user = container.SecurityContext.RunAsUser
			}
			if user == nil {
				t.Errorf("%s, container %s: no user is set", name, container.Name)
			} else if *user == images.ProxyUser || *user == 0 {
				t.Errorf("%s, container %s runs as %d, want neither root nor the proxy's user", name, container.Name, *user)
			}
			if _, err := images.Find(container.Image); err != nil {
				t.Errorf("%s, container %s: %v", name, container.Name, err)
			}
		}
	}
	if injector.ProxyUID != images.ProxyUser {
		t.Errorf("the injector runs proxies as %d, the image as %d", injector.ProxyUID, images.ProxyUser)
	}
}

// A namespace that enforces less than its pods need would be a mistake nobody
// notices; one that enforces more starts none.
func TestNamespacesEnforceWhatTheirPodsNeed(t *testing.T) {
	text, err := mesh.Install(mesh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	levels := map[string]string{}
	for _, source := range [][]byte{text, []byte(viz.Manifests()), emojivoto.Manifest()} {
		objects, err := manifests.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			if object.GetKind() == "Namespace" {
				levels[object.GetName()] = object.GetLabels()["pod-security.kubernetes.io/enforce"]
			}
		}
	}
	for name, want := range map[string]string{"linkerd": "restricted", "linkerd-viz": "privileged", "emojivoto": "privileged"} {
		if levels[name] != want {
			t.Errorf("namespace %s enforces %q, want %q", name, levels[name], want)
		}
	}
}
