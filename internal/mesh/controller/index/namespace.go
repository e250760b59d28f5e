package index

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// NamespaceSpec is all that concerns the index in a Namespace object. Its
// annotations reach pods through the injector, never from here (D-08), so that
// only what is wrong with them is kept.
type NamespaceSpec struct {
	UID      string
	Problems Problems
}

// NewNamespaceSpec reads a Namespace; one without problems is the zero value.
func NewNamespaceSpec(namespace *corev1.Namespace) NamespaceSpec {
	var spec NamespaceSpec
	value, annotated := namespace.Annotations[api.DefaultPolicyAnnotation]
	if annotated && !api.PolicyName(value).Valid() {
		spec.UID = string(namespace.UID)
		spec.Problems.add("metadata.annotations["+api.DefaultPolicyAnnotation+"]", fmt.Sprintf("%q is not one of %s, it has no effect", value, policyNames()))
	}
	return spec
}
