package injector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespaces finds the namespace a pod is created in, as it is now: a cache could
// miss an annotation that was written just before the pod.
type namespaces func(ctx context.Context, name string) (*corev1.Namespace, error)

// handler answers admission reviews of pods.
type handler struct {
	namespaces namespaces
	// notify is handed what owners should know; it must not block.
	notify func(about subject, notes []Note)
	// settings is nil until the trust anchors are known.
	settings atomic.Pointer[Settings]

	reviews *prometheus.CounterVec
}

// newHandler registers the role's metrics.
func newHandler(registry prometheus.Registerer, ns namespaces, notify func(subject, []Note)) *handler {
	h := &handler{namespaces: ns, notify: notify, reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "proxy_inject_admission_responses_total",
		Help: "Pods reviewed, by namespace, whether they were injected, and why not.",
	}, []string{"namespace", "skip", "skip_reason"})}
	registry.MustRegister(h.reviews)
	return h
}

// handle implements webhook.Handler. Without settings there is no answer: a pod
// let through would have no proxy, which is for the failure policy to decide.
func (h *handler) handle(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	settings := h.settings.Load()
	if settings == nil {
		return nil, errors.New("the trust anchors are not known yet")
	}
	if request.Kind != (metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}) || request.Operation != admissionv1.Create || request.SubResource != "" {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(request.Object.Raw, pod); err != nil {
		return nil, fmt.Errorf("read the pod: %w", err)
	}
	namespace, err := h.namespaces(ctx, request.Namespace)
	if err != nil {
		return nil, fmt.Errorf("read namespace %s: %w", request.Namespace, err)
	}
	result := Inject(pod, namespace, *settings)
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if result.Pod != nil {
		patch, err := diff(pod, result.Pod)
		if err != nil {
			return nil, err
		}
		kind := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = patch, &kind
	}
	for _, note := range result.Notes {
		response.Warnings = append(response.Warnings, note.Message)
	}
	about := newSubject(request.Namespace, pod)
	slog.Info("pod reviewed", "namespace", request.Namespace, "pod", about.podName(), "injected", result.Pod != nil, "skip_reason", result.Skipped)
	if request.DryRun == nil || !*request.DryRun {
		h.reviews.WithLabelValues(request.Namespace, fmt.Sprint(result.Pod == nil), result.Skipped).Inc()
		if len(result.Notes) > 0 {
			h.notify(about, result.Notes)
		}
	}
	return response, nil
}
