package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Group is the API group of every policy resource.
const Group = "policy.linkerd.io"

// The resources in their storage versions, which is how they are watched.
var (
	Servers              = schema.GroupVersionResource{Group: Group, Version: "v1beta3", Resource: "servers"}
	ServerAuthorizations = schema.GroupVersionResource{Group: Group, Version: "v1beta1", Resource: "serverauthorizations"}
)

// The kinds, as they are written in manifests and in events.
const (
	ServerKind              = "Server"
	ServerAuthorizationKind = "ServerAuthorization"
)

// Server names one port of the pods that it selects and says what is spoken
// there. The labels of the object itself are significant: ServerAuthorizations
// select Servers by them (C-11). It has no status (C-10).
//
// +kubebuilder:object:root=true
type Server struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerSpec `json:"spec"`
}

// ServerSpec holds the union of the fields of all served versions.
type ServerSpec struct {
	// Chooses pods of the Server's own namespace by their labels; an empty one chooses all. Since v1beta2 exactly one of the two selectors is given (C-04).
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
	// Chooses external workloads of the Server's own namespace by their labels.
	// +optional
	ExternalWorkloadSelector *LabelSelector `json:"externalWorkloadSelector,omitempty"`
	// A port number, or the name of a container port.
	Port intstr.IntOrString `json:"port"`
	// What is spoken on the port; unknown has the proxy detect it. The spellings are checked at admission alone (C-06, A-20).
	// +optional
	// +kubebuilder:default=unknown
	ProxyProtocol ProxyProtocol `json:"proxyProtocol,omitempty"`
	// What holds for clients that no authorization admits; deny when absent, as in objects written through versions before v1beta3. The names are checked at admission alone.
	// +optional
	// +kubebuilder:default=deny
	AccessPolicy PolicyName `json:"accessPolicy,omitempty"`
}

// ServerAuthorization grants clients access to Servers of its own namespace.
//
// +kubebuilder:object:root=true
type ServerAuthorization struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerAuthorizationSpec `json:"spec"`
}

// ServerAuthorizationSpec says who may use which Servers.
type ServerAuthorizationSpec struct {
	// The Servers that access is granted to.
	Server ServerReference `json:"server"`
	// Who is admitted; networks and authentication must both hold.
	Client Client `json:"client"`
}

// ServerReference holds exactly one of its fields (C-13).
type ServerReference struct {
	// +optional
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
	// Chooses Servers by their own labels; an empty one chooses all.
	// +optional
	Selector *LabelSelector `json:"selector,omitempty"`
}

// Client is a network condition and an authentication condition; both must hold.
type Client struct {
	// Where clients may come from; the cluster's networks when absent or empty.
	// +optional
	Networks []Network `json:"networks,omitempty"`
	// Admits clients that prove no identity, with TLS or without.
	// +optional
	Unauthenticated bool `json:"unauthenticated,omitempty"`
	// Admits clients that came over mesh TLS.
	// +optional
	MeshTLS *MeshTLS `json:"meshTLS,omitempty"`
}

// Network is an address range less some ranges inside it. A bare address stands
// for itself alone (C-14).
type Network struct {
	// A range of addresses, or a single one.
	CIDR string `json:"cidr"`
	// Parts of the range that are not meant.
	// +optional
	Except []string `json:"except,omitempty"`
}

// MeshTLS holds either UnauthenticatedTLS or at least one client.
type MeshTLS struct {
	// TLS suffices, no identity is asked for.
	// +optional
	UnauthenticatedTLS bool `json:"unauthenticatedTLS,omitempty"`
	// Names that clients prove, such as web.emojivoto.serviceaccount.identity.linkerd.cluster.local; a leading label * stands for any prefix (C-16, X-72).
	// +optional
	// +kubebuilder:validation:items:Pattern=`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Identities []string `json:"identities,omitempty"`
	// ServiceAccounts that clients run under.
	// +optional
	ServiceAccounts []ServiceAccountReference `json:"serviceAccounts,omitempty"`
}

// ServiceAccountReference names a ServiceAccount, by default of the object's own
// namespace. The account need not exist: only its identity's name is used.
type ServiceAccountReference struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
}

// LabelSelector is Kubernetes' selector with one distinction kept that the
// standard type loses: whether the key values was there at all (C-08).
type LabelSelector struct {
	// Every label listed must be there with this value.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	// Every expression must hold.
	// +optional
	MatchExpressions []SelectorRequirement `json:"matchExpressions,omitempty"`
}

// SelectorRequirement is one expression over one label.
type SelectorRequirement struct {
	Key      string           `json:"key"`
	Operator SelectorOperator `json:"operator"`
	// Values to compare with. The absence of the key has a meaning of its own (C-08).
	// +optional
	Values []string `json:"values,omitzero"`
}

// SelectorOperator relates a label's value to the listed values.
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type SelectorOperator string

// The operators that the schema admits.
const (
	In           SelectorOperator = "In"
	NotIn        SelectorOperator = "NotIn"
	Exists       SelectorOperator = "Exists"
	DoesNotExist SelectorOperator = "DoesNotExist"
)
