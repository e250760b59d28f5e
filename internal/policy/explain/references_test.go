package explain_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
)

func TestReferencesThatNameNothingAreTold(t *testing.T) {
	const header = "{apiVersion: policy.linkerd.io/v1alpha1, metadata: {name: x, namespace: ns}, "
	const good = `
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns, labels: {app: a}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 1}]}]}}
---
{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: http, namespace: ns}, spec: {podSelector: {matchLabels: {app: a}}, port: http}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: ns}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}]}}
---
{apiVersion: policy.linkerd.io/v1alpha1, kind: NetworkAuthentication, metadata: {name: n, namespace: ns}, spec: {networks: [{cidr: 10.0.0.0/8}]}}
---
`
	for _, row := range []struct{ claim, object, want string }{
		{"a Server whose labels nothing has", "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: x, namespace: ns}, spec: {podSelector: {matchLabels: {app: b}}, port: http}}", "Server ns/x selects no port http of any workload that was read"},
		{"a Server whose port nothing has", "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: x, namespace: ns}, spec: {podSelector: {}, port: htpp}}", "Server ns/x selects no port htpp of any workload that was read"},
		{"a Server of a number", "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: x, namespace: ns}, spec: {podSelector: {}, port: 7}}", ""},
		{"a Server of the proxy's port", "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: x, namespace: ns}, spec: {podSelector: {}, port: linkerd-admin}}", ""},
		{"an authorization for a Server by name", header + "kind: ServerAuthorization, spec: {server: {name: htpp}, client: {unauthenticated: true}}}", "ServerAuthorization ns/x is for Server htpp, which is not among what was read"},
		{"an authorization for Servers by labels", header + "kind: ServerAuthorization, spec: {server: {selector: {matchLabels: {a: b}}}, client: {unauthenticated: true}}}", "ServerAuthorization ns/x selects none of the Servers that were read"},
		{"one that is right", header + "kind: ServerAuthorization, spec: {server: {name: http}, client: {unauthenticated: true}}}", ""},
		{"a policy for a route of the other group (X-49)", header + "kind: AuthorizationPolicy, spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: r}, requiredAuthenticationRefs: []}}", `AuthorizationPolicy ns/x is for HTTPRoute r of group "policy.linkerd.io", which is not among what was read`},
		{"a typo in an authentication (U-06)", header + "kind: AuthorizationPolicy, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: http}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: NetworkAuthentication, name: m}]}}", "AuthorizationPolicy ns/x asks for NetworkAuthentication ns/m, which is not among what was read: it grants nothing"},
		{"a policy that is right", header + "kind: AuthorizationPolicy, spec: {targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: NetworkAuthentication, name: n}, {kind: ServiceAccount, name: any}]}}", ""},
		{"a parent without kind (C-27)", header + "kind: HTTPRoute, spec: {parentRefs: [{name: http}]}}", "HTTPRoute ns/x has Gateway http for a parent, and not the Server of that name: write kind: Server"},
		{"a parent that is not there", header + "kind: HTTPRoute, spec: {parentRefs: [{kind: Server, name: htpp}]}}", "HTTPRoute ns/x has Server htpp for a parent, which is not among what was read"},
		{"a parent of another group", "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: x, namespace: ns}, spec: {parentRefs: [{kind: Server, name: http}]}}", "GRPCRoute ns/x has Server http of group gateway.networking.k8s.io for a parent: Servers are of group policy.linkerd.io"},
		{"a limit of nothing", header + "kind: HTTPLocalRateLimitPolicy, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: htpp}}}", "HTTPLocalRateLimitPolicy ns/x is for Server htpp, which is not among what was read"},
	} {
		set, err := objects.Read([]objects.Source{{Name: "in", Stream: strings.NewReader(good + row.object)}}, objects.Options{})
		if err != nil {
			t.Errorf("%s: %v", row.claim, err)
			continue
		}
		var want []string
		if row.want != "" {
			want = []string{row.want}
		}
		if diff := cmp.Diff(want, explain.Misreferences(set)); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.claim, diff)
		}
	}
}
