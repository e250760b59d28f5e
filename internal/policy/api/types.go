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
	// PodSelector chooses pods of the Server's own namespace; exactly one of the
	// two selectors is set since v1beta2 (C-04). An empty selector chooses all.
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
	// ExternalWorkloadSelector chooses workloads outside the cluster.
	ExternalWorkloadSelector *LabelSelector `json:"externalWorkloadSelector,omitempty"`
	// Port is a number or the name of a container port.
	Port intstr.IntOrString `json:"port"`
	// ProxyProtocol is "unknown" unless set, by the schema's default.
	ProxyProtocol ProxyProtocol `json:"proxyProtocol,omitempty"`
	// AccessPolicy is "" in objects written through versions before v1beta3 and
	// then means deny.
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
	Server ServerReference `json:"server"`
	Client Client          `json:"client"`
}

// ServerReference holds exactly one of its fields (C-13).
type ServerReference struct {
	Name string `json:"name,omitempty"`
	// Selector matches the labels of Server objects.
	Selector *LabelSelector `json:"selector,omitempty"`
}

// Client is a network condition and an authentication condition; both must hold.
type Client struct {
	// Networks absent or empty stands for the cluster's networks.
	Networks []Network `json:"networks,omitempty"`
	// Unauthenticated admits anybody from those networks.
	Unauthenticated bool `json:"unauthenticated,omitempty"`
	// MeshTLS admits clients that came over mesh TLS.
	MeshTLS *MeshTLS `json:"meshTLS,omitempty"`
}

// Network is an address range less some ranges inside it. A bare address stands
// for itself alone (C-14).
type Network struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// MeshTLS holds either UnauthenticatedTLS or at least one client.
type MeshTLS struct {
	// UnauthenticatedTLS asks for a terminated session, not for an identity.
	UnauthenticatedTLS bool `json:"unauthenticatedTLS,omitempty"`
	// Identities are full names, or "*" or "*." followed by a suffix.
	Identities      []string                  `json:"identities,omitempty"`
	ServiceAccounts []ServiceAccountReference `json:"serviceAccounts,omitempty"`
}

// ServiceAccountReference names a ServiceAccount, by default of the object's own
// namespace. The account need not exist: only its identity's name is used.
type ServiceAccountReference struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// LabelSelector is Kubernetes' selector with one distinction kept that the
// standard type loses: whether the key values was there at all (C-08).
type LabelSelector struct {
	MatchLabels      map[string]string     `json:"matchLabels,omitempty"`
	MatchExpressions []SelectorRequirement `json:"matchExpressions,omitempty"`
}

// SelectorRequirement is one expression over one label.
type SelectorRequirement struct {
	Key      string           `json:"key"`
	Operator SelectorOperator `json:"operator"`
	// Values is nil when the key is absent, and empty when the list is.
	Values []string `json:"values,omitempty"`
}

// SelectorOperator relates a label's value to the listed values.
type SelectorOperator string

// The operators that the schema admits.
const (
	In           SelectorOperator = "In"
	NotIn        SelectorOperator = "NotIn"
	Exists       SelectorOperator = "Exists"
	DoesNotExist SelectorOperator = "DoesNotExist"
)
