package index

import (
	"fmt"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// AuthorizationSpec is all that policy depends on in a ServerAuthorization.
type AuthorizationSpec struct {
	UID string
	// ServerName is set, or ServerSelector is: it matches Servers' own labels.
	ServerName     string
	ServerSelector *api.LabelSelector
	// Networks is empty when the cluster's networks stand in.
	Networks       []Network
	Authentication Authentication
	// accounts are the ServiceAccounts that it names; they need not exist.
	accounts []mention
	// Problems, if any, make the object grant nothing, unless kept is set.
	Problems Problems
	// kept means that the rest is the previous version, still in force although
	// the object now has Problems.
	kept bool
}

// NewAuthorizationSpec reads a ServerAuthorization.
func (c Config) NewAuthorizationSpec(authorization *api.ServerAuthorization) AuthorizationSpec {
	spec := AuthorizationSpec{UID: string(authorization.UID)}
	switch server := authorization.Spec.Server; {
	case server.Name != "" && server.Selector != nil:
		spec.Problems.add("spec.server", "holds both name and selector, want one of them")
	case server.Name == "" && server.Selector == nil:
		spec.Problems.add("spec.server", "holds neither name nor selector")
	default:
		spec.ServerName, spec.ServerSelector = server.Name, server.Selector
	}
	spec.Networks = NewNetworks("spec.client.networks", authorization.Spec.Client.Networks, &spec.Problems)
	if c.Dialect.InvalidRevokes {
		ContradictoryClient(authorization.Spec.Client, &spec.Problems)
	}
	spec.Authentication = c.authentication(authorization, &spec.Problems)
	if tls := authorization.Spec.Client.MeshTLS; tls != nil {
		for _, account := range tls.ServiceAccounts {
			spec.accounts = append(spec.accounts, mention{api.ServiceAccountKind, orOwn(account.Namespace, authorization.Namespace), account.Name})
		}
	}
	spec.accounts = distinct(spec.accounts)
	return spec
}

// NewUnreadableAuthorizationSpec stands for an object whose fields have other
// types than they should: it grants nothing.
func NewUnreadableAuthorizationSpec(uid string, err error) AuthorizationSpec {
	return AuthorizationSpec{UID: uid, Problems: Problems{{"spec", err.Error()}}}
}

// inForce is what counts of an object whose previous version, if any, counted as
// old: in Linkerd's dialect an unusable update leaves that in force.
func (s AuthorizationSpec) inForce(old *AuthorizationSpec, dialect api.Dialect) AuthorizationSpec {
	if len(s.Problems) == 0 || dialect.InvalidRevokes || old == nil || !old.usable() {
		return s
	}
	kept := *old
	kept.Problems, kept.kept = s.Problems, true
	return kept
}

// ContradictoryClient names conditions on the client that exclude one another
//
func ContradictoryClient(client api.Client, problems *Problems) {
	if client.Unauthenticated && client.MeshTLS != nil {
		problems.add("spec.client.unauthenticated", "is true although meshTLS is given, want one of them")
	}
	if tls := client.MeshTLS; tls != nil && tls.UnauthenticatedTLS && len(tls.Identities)+len(tls.ServiceAccounts) > 0 {
		problems.add("spec.client.meshTLS.unauthenticatedTLS", "is true although identities or serviceAccounts are given, want one of them")
	}
}

// authentication reads who is admitted; nobody is a problem.
func (c Config) authentication(authorization *api.ServerAuthorization, problems *Problems) Authentication {
	client := authorization.Spec.Client
	tls := client.MeshTLS
	switch {
	case client.Unauthenticated:
		return Authentication{Kind: Unauthenticated}
	case tls == nil:
		problems.add("spec.client", "holds neither unauthenticated nor meshTLS, it admits nobody")
		return Authentication{}
	case tls.UnauthenticatedTLS:
		return Authentication{Kind: TLSUnauthenticated}
	case len(tls.Identities)+len(tls.ServiceAccounts) == 0:
		problems.add("spec.client.meshTLS", "names no client, it admits nobody")
		return Authentication{}
	}
	var read identityList
	for i, identity := range tls.Identities {
		if identity == "" {
			problems.add(fmt.Sprintf("spec.client.meshTLS.identities[%d]", i), "is empty")
			continue
		}
		read.add(identity)
	}
	for i, account := range tls.ServiceAccounts {
		if account.Name == "" {
			problems.add(fmt.Sprintf("spec.client.meshTLS.serviceAccounts[%d].name", i), "is empty")
			continue
		}
		read.names = append(read.names, c.serviceAccountIdentity(orOwn(account.Namespace, authorization.Namespace), account.Name))
	}
	return read.authentication()
}

func (s *AuthorizationSpec) usable() bool { return len(s.Problems) == 0 || s.kept }

// authorization is what the object grants, nothing if no network is left to
// grant it to.
func (s *AuthorizationSpec) authorization(name string, c Config) (Authorization, bool) {
	networks := s.Networks
	if len(networks) == 0 {
		networks = whole(c.ClusterNetworks)
	}
	return Authorization{
		Reference: Reference{ServerAuthorization, name}, Networks: networks, Authentication: s.Authentication,
	}, len(networks) > 0
}
