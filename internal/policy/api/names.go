package api

import "slices"

// PolicyName is the name of a built-in policy: the default of a cluster,
// namespace, workload or pod, or the accessPolicy of a Server.
type PolicyName string

// The six built-in policies (D-01).
const (
	AllUnauthenticated     PolicyName = "all-unauthenticated"
	AllAuthenticated       PolicyName = "all-authenticated"
	ClusterUnauthenticated PolicyName = "cluster-unauthenticated"
	ClusterAuthenticated   PolicyName = "cluster-authenticated"
	Deny                   PolicyName = "deny"
	Audit                  PolicyName = "audit"
)

// PolicyNames lists all of them; tables derive from it.
func PolicyNames() []PolicyName {
	return []PolicyName{AllUnauthenticated, AllAuthenticated, ClusterUnauthenticated, ClusterAuthenticated, Deny, Audit}
}

// Valid reports whether p is one of the six.
func (p PolicyName) Valid() bool { return slices.Contains(PolicyNames(), p) }

// ProxyProtocol is what is spoken on a Server's port.
type ProxyProtocol string

// The spellings that the webhook admits; case matters (C-07, A-20).
const (
	ProtocolUnknown ProxyProtocol = "unknown"
	ProtocolHTTP1   ProxyProtocol = "HTTP/1"
	ProtocolHTTP2   ProxyProtocol = "HTTP/2"
	ProtocolGRPC    ProxyProtocol = "gRPC"
	ProtocolOpaque  ProxyProtocol = "opaque"
	ProtocolTLS     ProxyProtocol = "TLS"
)

// ProxyProtocols lists all of them; tables derive from it.
func ProxyProtocols() []ProxyProtocol {
	return []ProxyProtocol{ProtocolUnknown, ProtocolHTTP1, ProtocolHTTP2, ProtocolGRPC, ProtocolOpaque, ProtocolTLS}
}

// Valid reports whether p is one of the admitted spellings.
func (p ProxyProtocol) Valid() bool { return slices.Contains(ProxyProtocols(), p) }

// The annotations and labels on pods and namespaces that alter inbound policy
// (rule book 4.2, 4.3), and the proxy's variable that carries a pod's default.
const (
	ControlPlaneLabel             = "linkerd.io/control-plane-ns"
	DefaultPolicyAnnotation       = "config.linkerd.io/default-inbound-policy"
	OpaquePortsAnnotation         = "config.linkerd.io/opaque-ports"
	RequireIdentityAnnotation     = "config.linkerd.io/proxy-require-identity-inbound-ports"
	ProxyContainer                = "linkerd-proxy"
	ProxyDefaultPolicyVariable    = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"
	AdmissionWebhooksLabel        = "config.linkerd.io/admission-webhooks"
	AdmissionWebhooksLabelDisable = "disabled"
)
