package injector

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/policy/api"
)

type told struct {
	about subject
	notes []Note
}

func mkHandler(t *testing.T, namespace *corev1.Namespace) (*handler, *[]told) {
	t.Helper()
	var all []told
	h := newHandler(prometheus.NewRegistry(), func(_ context.Context, name string) (*corev1.Namespace, error) {
		if namespace == nil {
			return nil, errors.New("no API server")
		}
		return namespace, nil
	}, func(about subject, notes []Note) { all = append(all, told{about, notes}) })
	settings := mkSettings(t, nil)
	h.settings.Store(&settings)
	return h, &all
}

func mkRequest(t *testing.T, pod []byte) *admissionv1.AdmissionRequest {
	t.Helper()
	return &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Operation: admissionv1.Create,
		Namespace: "emojivoto", Object: runtime.RawExtension{Raw: pod},
	}
}

func raw(t *testing.T, pod *corev1.Pod) []byte {
	t.Helper()
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The patch, applied as the API server does it, must give the injected pod.
func TestThePatchMakesTheInjectedPod(t *testing.T) {
	bare := mkPod(enabled)
	bare.Labels, bare.Spec.InitContainers, bare.Spec.Volumes = nil, nil, nil
	full := mkPod(enabled)
	full.Spec.InitContainers = []corev1.Container{{Name: "first"}}
	full.Spec.Volumes = []corev1.Volume{{Name: "own"}, {Name: "token"}}
	full.Spec.Containers = append(full.Spec.Containers, corev1.Container{Name: "second"})
	for name, pod := range map[string]*corev1.Pod{"plain": mkPod(enabled), "bare": bare, "full": full} {
		t.Run(name, func(t *testing.T) {
			h, _ := mkHandler(t, mkNamespace(nil))
			response, err := h.handle(t.Context(), mkRequest(t, raw(t, pod)))
			if err != nil {
				t.Fatal(err)
			}
			got := apply(t, response.Patch, raw(t, pod))
			want := Inject(pod, mkNamespace(nil), *h.settings.Load()).Pod
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A newer API server has fields that this program has no types for.
func TestThePatchKeepsUnknownFields(t *testing.T) {
	var object map[string]any
	if err := json.Unmarshal(raw(t, mkPod(enabled)), &object); err != nil {
		t.Fatal(err)
	}
	spec := object["spec"].(map[string]any)
	spec["novelty"] = "kept"
	spec["containers"].([]any)[0].(map[string]any)["novelty"] = "kept"
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := mkHandler(t, mkNamespace(nil))
	response, err := h.handle(t.Context(), mkRequest(t, text))
	if err != nil {
		t.Fatal(err)
	}
	patched := map[string]any{}
	if err := json.Unmarshal(patch(t, response.Patch, text), &patched); err != nil {
		t.Fatal(err)
	}
	spec = patched["spec"].(map[string]any)
	containers := spec["containers"].([]any)
	if len(containers) != 2 || spec["novelty"] != "kept" || containers[1].(map[string]any)["novelty"] != "kept" {
		t.Errorf("an unknown field was lost: %v", spec)
	}
}

func TestOnlyPodsBeingCreatedAreLookedAt(t *testing.T) {
	for name, edit := range map[string]func(*admissionv1.AdmissionRequest){
		"an update":     func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"a subresource": func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" },
		"another kind":  func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Service" },
	} {
		h, _ := mkHandler(t, nil)
		request := mkRequest(t, raw(t, mkPod(enabled)))
		edit(request)
		response, err := h.handle(t.Context(), request)
		if diff := cmp.Diff(&admissionv1.AdmissionResponse{Allowed: true}, response); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// What cannot be decided is for the failure policy to decide (DOC-03).
func TestWithoutAnAnswerThereIsAnError(t *testing.T) {
	unsettled, _ := mkHandler(t, mkNamespace(nil))
	unsettled.settings.Store(nil)
	lost, _ := mkHandler(t, nil)
	known, _ := mkHandler(t, mkNamespace(nil))
	for name, row := range map[string]struct {
		h   *handler
		pod []byte
	}{
		"no trust anchors": {unsettled, raw(t, mkPod(enabled))},
		"no namespace":     {lost, raw(t, mkPod(enabled))},
		"no pod":           {known, []byte(`{"spec":[]}`)},
	} {
		if response, err := row.h.handle(t.Context(), mkRequest(t, row.pod)); err == nil {
			t.Errorf("%s: got %v", name, response)
		}
	}
}

func TestOwnersAreToldButNotInADryRun(t *testing.T) {
	pod := mkPod(with(InjectAnnotation, "enabled", api.DefaultPolicyAnnotation, "allow"))
	h, all := mkHandler(t, mkNamespace(nil))
	request := mkRequest(t, raw(t, pod))
	request.DryRun = ptr(true)
	if response, err := h.handle(t.Context(), request); err != nil || len(response.Warnings) != 1 || len(*all) != 0 {
		t.Errorf("dry run: %v, %v, told %v", response, err, *all)
	}
	request.DryRun = nil
	if _, err := h.handle(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	want := corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "emojivoto", Name: "voting-5f5b555dff", UID: "1"}
	if len(*all) != 1 || (*all)[0].notes[0].Reason != ReasonInvalidPolicy {
		t.Fatalf("told %v", *all)
	}
	if diff := cmp.Diff(want, (*all)[0].about.reference); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func patch(t *testing.T, patch, document []byte) []byte {
	t.Helper()
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply(document)
	if err != nil {
		t.Fatalf("apply %s: %v", patch, err)
	}
	return patched
}

func apply(t *testing.T, operations, document []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal(patch(t, operations, document), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}
