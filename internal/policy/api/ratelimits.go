package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HTTPLocalRateLimitPolicy limits the requests that each pod behind a Server
// takes per second.
//
// +kubebuilder:object:root=true
type HTTPLocalRateLimitPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HTTPLocalRateLimitPolicySpec `json:"spec"`
	// +optional
	Status HTTPLocalRateLimitPolicyStatus `json:"status,omitempty"`
}

// HTTPLocalRateLimitPolicySpec holds limits, all of them optional (C-22).
type HTTPLocalRateLimitPolicySpec struct {
	// The Server whose pods are limited, in the policy's own namespace.
	TargetRef LocalTargetReference `json:"targetRef"`
	// Limit of all requests together.
	// +optional
	Total *Limit `json:"total,omitempty"`
	// Limit of each client's requests; those without identity share one.
	// +optional
	Identity *Limit `json:"identity,omitempty"`
	// Limits of certain clients, which hold instead of identity.
	// +optional
	Overrides []LimitOverride `json:"overrides,omitempty"`
}

// Limit is a rate.
type Limit struct {
	// Requests per second; the burst is as large.
	// +kubebuilder:validation:Format=int64
	RequestsPerSecond int64 `json:"requestsPerSecond"`
}

// LimitOverride is one rate that the clients it names share.
type LimitOverride struct {
	// Requests per second; the burst is as large.
	// +kubebuilder:validation:Format=int64
	RequestsPerSecond int64 `json:"requestsPerSecond"`
	// The clients that share this limit.
	ClientRefs []LimitClientReference `json:"clientRefs"`
}

// LimitClientReference names a ServiceAccount.
type LimitClientReference struct {
	// Group of the object; empty, absent or core.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// Kind of the object: ServiceAccount.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the object; the policy's own when absent.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// HTTPLocalRateLimitPolicyStatus says whether the policy is in force (C-23, S-09).
type HTTPLocalRateLimitPolicyStatus struct {
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// The Server that the conditions are about.
	// +optional
	TargetRef *LocalTargetReference `json:"targetRef,omitempty"`
}
