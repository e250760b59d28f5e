package main

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// kind is what Go types cannot say about a CRD.
type kind struct {
	Group, Kind, Plural, Singular string
	ShortNames                    []string
	// Summary heads the file.
	Summary string
	// Status says that the kind has a status subresource.
	Status   bool
	Columns  []column
	Versions []version
	// Adjust changes the schema of a version in ways that no marker can say.
	Adjust func(s schema, version string) error
}

// column is one that kubectl get shows, in the versions whose schema has its field.
type column struct{ Name, Type, Path string }

type version struct {
	Name    string
	Storage bool
	// Deprecated versions tell that on use, and which one to use instead.
	Deprecated bool
	// Lacks are the fields of the type that the version does not know, as paths
	// below the object with [] for the items of a list.
	Lacks []string
}

// once is a list of one version, which is stored.
func once(name string) []version { return []version{{Name: name, Storage: true}} }

var hostnames = []column{{"Hostnames", "string", ".spec.hostnames"}, {"Age", "date", ".metadata.creationTimestamp"}}

// kinds are those whose CRDs are generated (C-17 to C-23, C-26 to C-29).
var kinds = []kind{
	{
		Group: api.Group, Kind: api.ServerKind, Plural: api.Servers.Resource, Singular: "server", ShortNames: []string{"srv"},
		Summary: "Server: one port of the pods (or external workloads) it selects.",
		Columns: []column{{"Port", "string", ".spec.port"}, {"Protocol", "string", ".spec.proxyProtocol"}, {"Access Policy", "string", ".spec.accessPolicy"}},
		// A field that a version does not know is dropped when an object is written
		// through it, so an accessPolicy can be set through v1beta3 only (C-01 to C-05).
		Versions: []version{
			{Name: "v1alpha1", Deprecated: true, Lacks: []string{"spec.externalWorkloadSelector", "spec.accessPolicy"}},
			{Name: "v1beta1", Deprecated: true, Lacks: []string{"spec.externalWorkloadSelector", "spec.accessPolicy"}},
			{Name: "v1beta2", Lacks: []string{"spec.accessPolicy"}},
			{Name: "v1beta3", Storage: true},
		},
		Adjust: func(s schema, version string) error {
			switch version {
			case "v1alpha1":
				if err := s.exactlyOne("spec.podSelector", "matchExpressions", "matchLabels"); err != nil {
					return err
				}
				return s.require("spec", "podSelector")
			case "v1beta1":
				return s.require("spec", "podSelector")
			default:
				return s.exactlyOne("spec", "podSelector", "externalWorkloadSelector")
			}
		},
	},
	{
		Group: api.Group, Kind: api.ServerAuthorizationKind, Plural: api.ServerAuthorizations.Resource, Singular: "serverauthorization", ShortNames: []string{"saz", "serverauthz", "srvauthz"},
		Summary: "ServerAuthorization: who may use which Servers of its namespace.",
		Columns: []column{{"Server", "string", ".spec.server.name"}},
		// C-12
		Versions: []version{{Name: "v1alpha1", Deprecated: true}, {Name: "v1beta1", Storage: true}},
		// C-13
		Adjust: func(s schema, _ string) error { return s.exactlyOne("spec.server", "name", "selector") },
	},
	{
		Group: api.Group, Kind: api.AuthorizationPolicyKind, Plural: api.AuthorizationPolicies.Resource, Singular: "authorizationpolicy", ShortNames: []string{"authzpolicy"},
		Summary:  "AuthorizationPolicy: who may use a Server, a route or all Servers of the namespace.",
		Versions: once("v1alpha1"),
		Columns:  []column{{"Target", "string", ".spec.targetRef.name"}},
	},
	{
		Group: api.Group, Kind: api.MeshTLSAuthenticationKind, Plural: api.MeshTLSAuthentications.Resource, Singular: "meshtlsauthentication", ShortNames: []string{"meshtlsauthn"},
		Summary:  "MeshTLSAuthentication: clients by their identities.",
		Versions: once("v1alpha1"),
		// C-19
		Adjust: func(s schema, _ string) error { return s.exactlyOne("spec", "identities", "identityRefs") },
	},
	{
		Group: api.Group, Kind: api.NetworkAuthenticationKind, Plural: api.NetworkAuthentications.Resource, Singular: "networkauthentication", ShortNames: []string{"netauthn", "networkauthn"},
		Summary:  "NetworkAuthentication: clients by their addresses.",
		Versions: once("v1alpha1"),
	},
	{
		Group: api.Group, Kind: api.HTTPLocalRateLimitPolicyKind, Plural: api.HTTPLocalRateLimitPolicies.Resource, Singular: "httplocalratelimitpolicy",
		Summary: "HTTPLocalRateLimitPolicy: how many requests per second each pod behind a Server takes.",
		Status:  true, Versions: once("v1alpha1"),
		Columns: []column{{"Target", "string", ".spec.targetRef.name"}},
	},
	{
		Group: api.Group, Kind: api.HTTPRouteKind, Plural: api.HTTPRoutes.Resource, Singular: "httproute",
		Summary: "HTTPRoute: which requests at a Server are meant.",
		Status:  true, Columns: hostnames,
		Versions: []version{
			{Name: "v1alpha1", Lacks: []string{"spec.rules[].backendRefs", "spec.rules[].timeouts"}},
			{Name: "v1beta1", Lacks: []string{"spec.rules[].backendRefs", "spec.rules[].timeouts"}},
			{Name: "v1beta2", Lacks: []string{"spec.rules[].timeouts"}},
			{Name: "v1beta3", Storage: true},
		},
		Adjust: func(s schema, _ string) error { return s.parents(api.Group) },
	},
	{
		Group: api.GatewayGroup, Kind: api.HTTPRouteKind, Plural: api.GatewayHTTPRoutes.Resource, Singular: "httproute",
		Summary: "The Gateway API's HTTPRoute, as far as a Server can be its parent.",
		Status:  true, Columns: hostnames,
		Versions: []version{{Name: "v1", Storage: true}, {Name: "v1beta1"}},
		Adjust:   func(s schema, _ string) error { return s.parents(api.GatewayGroup) },
	},
	{
		Group: api.GatewayGroup, Kind: api.GRPCRouteKind, Plural: api.GatewayGRPCRoutes.Resource, Singular: "grpcroute",
		Summary: "The Gateway API's GRPCRoute, as far as a Server can be its parent.",
		Status:  true, Columns: hostnames,
		Versions: []version{{Name: "v1", Storage: true}, {Name: "v1alpha2"}},
		Adjust:   func(s schema, _ string) error { return s.parents(api.GatewayGroup) },
	},
}

// schema is the schema of one version of one kind.
type schema struct {
	*apiextensionsv1.JSONSchemaProps
}
