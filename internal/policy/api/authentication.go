package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AuthorizationPolicy grants access to its target to clients that every
// referenced authentication admits.
//
// +kubebuilder:object:root=true
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AuthorizationPolicySpec `json:"spec"`
}

// AuthorizationPolicySpec says to what access is granted, and what for.
type AuthorizationPolicySpec struct {
	// What access is granted to: a Server, an HTTPRoute, a GRPCRoute or the Namespace, which stands for all its Servers.
	TargetRef LocalTargetReference `json:"targetRef"`
	// What a client must satisfy, all of it. An empty list asks for nothing.
	RequiredAuthenticationRefs []AuthenticationReference `json:"requiredAuthenticationRefs"`
}

// LocalTargetReference names an object of the referrer's own namespace (C-17).
type LocalTargetReference struct {
	// Group of the object; empty, absent or core for Kubernetes' own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// Kind of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// AuthenticationReference names an authentication or a ServiceAccount (C-18, A-14).
type AuthenticationReference struct {
	// Group of the object; empty, absent or core for Kubernetes' own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// Kind of the object: MeshTLSAuthentication, NetworkAuthentication or ServiceAccount.
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

// MeshTLSAuthentication names clients by their identities.
//
// +kubebuilder:object:root=true
type MeshTLSAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec MeshTLSAuthenticationSpec `json:"spec"`
}

// MeshTLSAuthenticationSpec holds exactly one of its fields (C-19).
type MeshTLSAuthenticationSpec struct {
	// Full names, * for any identity, *. and a suffix, or SPIFFE URIs.
	// +optional
	// +kubebuilder:validation:MinItems=1
	Identities []string `json:"identities,omitempty"`
	// ServiceAccounts, or Namespaces that stand for all their ServiceAccounts.
	// +optional
	// +kubebuilder:validation:MinItems=1
	IdentityRefs []IdentityReference `json:"identityRefs,omitempty"`
}

// IdentityReference names a ServiceAccount, or a Namespace and then has no
// namespace field (C-20, A-17).
type IdentityReference struct {
	// Group of the object; empty, absent or core.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// Kind of the object: ServiceAccount or Namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the object. The schema lets it be absent, admission does not.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// Namespace of a ServiceAccount; the authentication's own when absent.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// NetworkAuthentication names clients by their addresses.
//
// +kubebuilder:object:root=true
type NetworkAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NetworkAuthenticationSpec `json:"spec"`
}

// NetworkAuthenticationSpec lists where clients may come from (C-21).
type NetworkAuthenticationSpec struct {
	// Where clients may come from; at least one, which admission checks.
	Networks []Network `json:"networks"`
}
