package index

import (
	"net/netip"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Config is what the whole cluster has in common. It is fixed for the life of an
// Index; a new cluster setting is a new controller (D-11).
type Config struct {
	// ClusterNetworks stand in where an authorization names no networks
	// and bound the cluster-* policies. Without any, those grant nothing.
	ClusterNetworks []netip.Prefix
	// ProbeNetworks are the addresses that probes may come from. Without any
	// there is no probe route (P-05).
	ProbeNetworks []netip.Prefix
	// DefaultPolicy holds for pods that name none. Empty means
	// all-unauthenticated (D-03).
	DefaultPolicy api.PolicyName
	// ControlPlaneNamespace and IdentityDomain make up ServiceAccount identities
	// . Empty means linkerd and cluster.local.
	ControlPlaneNamespace string
	IdentityDomain        string
	// Dialect decides where the documents and Linkerd differ.
	Dialect api.Dialect
}

func (c Config) defaultPolicy() api.PolicyName {
	if c.DefaultPolicy == "" {
		return api.AllUnauthenticated
	}
	return c.DefaultPolicy
}

// serviceAccountIdentity is the name in the certificate of a pod that runs under
// the account.
func (c Config) serviceAccountIdentity(namespace, name string) string {
	return name + "." + c.namespaceIdentities(namespace)
}

// namespaceIdentities is what the names of all accounts of the namespace end in
//
func (c Config) namespaceIdentities(namespace string) string {
	controlPlane, domain := c.ControlPlaneNamespace, c.IdentityDomain
	if controlPlane == "" {
		controlPlane = "linkerd"
	}
	if domain == "" {
		domain = "cluster.local"
	}
	return namespace + ".serviceaccount.identity." + controlPlane + "." + domain
}
