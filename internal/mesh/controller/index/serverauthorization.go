package index

import (
	"fmt"
	"slices"
	"strings"

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
	if len(s.Problems) == 0 || dialect.InvalidRevokes || old == nil || len(old.Problems) > 0 && !old.kept {
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
	authentication := Authentication{Kind: Identified}
	for i, identity := range tls.Identities {
		switch {
		case identity == "":
			problems.add(fmt.Sprintf("spec.client.meshTLS.identities[%d]", i), "is empty")
		case identity == "*":
			authentication.Suffixes = append(authentication.Suffixes, []string{})
		case strings.HasPrefix(identity, "*."):
			authentication.Suffixes = append(authentication.Suffixes, strings.Split(identity[len("*."):], "."))
		default:
			authentication.Identities = append(authentication.Identities, identity)
		}
	}
	for i, account := range tls.ServiceAccounts {
		namespace := account.Namespace
		if namespace == "" {
			namespace = authorization.Namespace
		}
		if account.Name == "" {
			problems.add(fmt.Sprintf("spec.client.meshTLS.serviceAccounts[%d].name", i), "is empty")
			continue
		}
		authentication.Identities = append(authentication.Identities, c.serviceAccountIdentity(namespace, account.Name))
	}
	// The order in the object means nothing; a fixed one keeps equal grants equal.
	slices.Sort(authentication.Identities)
	authentication.Identities = slices.Compact(authentication.Identities)
	slices.SortFunc(authentication.Suffixes, slices.Compare)
	authentication.Suffixes = slices.CompactFunc(authentication.Suffixes, slices.Equal)
	return authentication
}

// names reports whether the authorization is about the Server.
func (s *AuthorizationSpec) names(server *ServerSpec, name string) bool {
	if s.ServerSelector != nil {
		return matches(s.ServerSelector, server.Labels)
	}
	return s.ServerName == name
}

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
