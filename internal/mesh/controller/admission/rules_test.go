package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// elsewhere are the rules about how the webhook is asked, and who shows them.
var elsewhere = map[string]string{
	"A-01": "webhook.TestReviewsAreAnsweredOverATrustedConnection",
	"A-02": "mesh.TestEveryInstalledKindIsValidatedAndMayBeWatched, admission.TestOnlyCreationAndUpdateAreJudged",
	"A-03": "mesh.TestHighAvailabilityRequiresTheWebhooks",
	"A-04": "mesh.TestTheWebhooksPassOverNamespacesThatOptOut",
}

// outOfScope are the rules about traffic that leaves the cluster.
var outOfScope = []string{"A-30"}

// lastRule of section 2 that is in scope.
const lastRule = 31

// row is one object and what is complained about; none: it is admitted.
type row struct {
	group, kind, spec string
	complaints        []string
}

const (
	toServer = `targetRef: {group: policy.linkerd.io, kind: Server, name: s}`
	meshTLS  = `{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}`
	network  = `{group: policy.linkerd.io, kind: NetworkAuthentication, name: net}`
	account  = `{kind: ServiceAccount, name: a}`
)

func policy(target, refs string, complaints ...string) row {
	return row{api.Group, api.AuthorizationPolicyKind, fmt.Sprintf(`{targetRef: %s, requiredAuthenticationRefs: [%s]}`, target, refs), complaints}
}

func refs(refs string, complaints ...string) row {
	return policy(`{group: policy.linkerd.io, kind: Server, name: s}`, refs, complaints...)
}

func identities(spec string, complaints ...string) row {
	return row{api.Group, api.MeshTLSAuthenticationKind, spec, complaints}
}

func identity(text string, complaints ...string) row {
	return identities(fmt.Sprintf(`{identities: [web, %q]}`, text), complaints...)
}

func networks(spec string, complaints ...string) row {
	return row{api.Group, api.NetworkAuthenticationKind, fmt.Sprintf(`{networks: %s}`, spec), complaints}
}

func client(spec string, complaints ...string) row {
	return row{api.Group, api.ServerAuthorizationKind, fmt.Sprintf(`{server: {name: s}, client: %s}`, spec), complaints}
}

func serverSpec(spec string, complaints ...string) row {
	return row{api.Group, api.ServerKind, spec, complaints}
}

func limit(spec string, complaints ...string) row {
	return row{api.Group, api.HTTPLocalRateLimitPolicyKind, `{targetRef: {group: policy.linkerd.io, kind: Server, name: s}, ` + spec + `}`, complaints}
}

// rule is a route of policy.linkerd.io with a second rule.
func rule(spec string, complaints ...string) row {
	return row{api.Group, api.HTTPRouteKind, `{rules: [{}, ` + spec + `]}`, complaints}
}

func gatewayRule(spec string, complaints ...string) row {
	return row{api.GatewayGroup, api.HTTPRouteKind, `{rules: [{}, ` + spec + `]}`, complaints}
}

func grpcRule(spec string, complaints ...string) row {
	return row{api.GatewayGroup, api.GRPCRouteKind, `{rules: [{}, ` + spec + `]}`, complaints}
}

// rows has for each rule objects that break it, and beside them objects that
// just do not.
var rows = map[string][]row{
	"A-05": {
		{"POLICY.linkerd.io", "server", `{podSelector: {}, port: 1}`, nil},
		{"Gateway.networking.k8s.io", "HTTPROUTE", `{}`, nil},
		policy(`{group: Policy.Linkerd.IO, kind: server, name: s}`, `{group: POLICY.LINKERD.IO, kind: meshtlsauthentication, name: m}`),
		policy(`{group: core, kind: namespace, name: ns}`, `{group: "", kind: serviceaccount, name: a}`),
	},
	"A-06": {
		{api.GatewayGroup, api.HTTPRouteKind, `{rules: no list}`, nil},
		{api.GatewayGroup, api.GRPCRouteKind, `{rules: [{matches: 1}]}`, nil},
		{api.Group, api.HTTPRouteKind, `{rules: no list}`, []string{"spec"}},
		{api.Group, api.AuthorizationPolicyKind, `{targetRef: []}`, []string{"spec"}},
		{api.GatewayGroup, api.HTTPRouteKind, `null`, []string{"spec"}},
	},
	"A-07": {
		serverSpec(`{podSelector: {matchLabels: {app: nobody}}, port: no-such-name}`),
		client(`{meshTLS: {serviceAccounts: [{name: nobody, namespace: nowhere}]}}`),
		refs(meshTLS + ", " + network),
		limit(`total: {requestsPerSecond: 1}`),
		{api.Group, api.HTTPRouteKind, `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: nobody, namespace: elsewhere, port: 1, sectionName: a}]}`, nil},
	},
	"A-08": {
		policy(`{group: policy.linkerd.io, kind: Server, name: s}`, ``),
		policy(`{group: policy.linkerd.io, kind: HTTPRoute, name: r}`, ``),
		policy(`{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}`, ``),
		policy(`{group: gateway.networking.k8s.io, kind: GRPCRoute, name: r}`, ``),
		policy(`{group: policy.linkerd.io, kind: GRPCRoute, name: r}`, ``, "spec.targetRef.kind"),
		policy(`{kind: Server, name: s}`, ``, "spec.targetRef.kind"),
		policy(`{group: apps, kind: Deployment, name: d}`, ``, "spec.targetRef.kind"),
		policy(`{kind: Service, name: d}`, ``, "spec.targetRef.kind"),
		policy(`{group: policy.linkerd.io, kind: Namespace, name: ns}`, ``, "spec.targetRef.kind"),
		policy(`{group: policy.linkerd.io, kind: Server}`, ``, "spec.targetRef.name"),
	},
	"A-09": {
		policy(`{kind: Namespace, name: ns}`, ``),
		policy(`{kind: Namespace, name: other}`, ``, "spec.targetRef.name"),
	},
	"A-10": {refs(meshTLS), refs(meshTLS+", "+network+", "+meshTLS, "spec.requiredAuthenticationRefs[2]")},
	"A-11": {refs(account), refs(account+", "+account, "spec.requiredAuthenticationRefs[1]")},
	"A-12": {
		refs(account + ", " + network),
		refs(account+", "+meshTLS, "spec.requiredAuthenticationRefs[1]"),
		refs(meshTLS+", "+network+", "+account, "spec.requiredAuthenticationRefs[2]"),
	},
	"A-13": {refs(network), refs(network+", "+network, "spec.requiredAuthenticationRefs[1]")},
	"A-14": {
		refs(account),
		refs(`{group: policy.linkerd.io, kind: Server, name: s}`, "spec.requiredAuthenticationRefs[0].kind"),
		refs(`{group: policy.linkerd.io, kind: ServiceAccount, name: s}`, "spec.requiredAuthenticationRefs[0].kind"),
		refs(network+`, {kind: MeshTLSAuthentication, name: s}`, "spec.requiredAuthenticationRefs[1].kind"),
		refs(`{kind: ServiceAccount}`, "spec.requiredAuthenticationRefs[0].name"),
	},
	"A-15": {
		refs(``),
		{api.Group, api.AuthorizationPolicyKind, `{` + toServer + `}`, []string{"spec.requiredAuthenticationRefs"}},
		{api.Group, api.AuthorizationPolicyKind, `{` + toServer + `, requiredAuthenticationRefs: null}`, []string{"spec.requiredAuthenticationRefs"}},
	},
	"A-16": {
		identity("*"), identity("*.a.b"), identity("web.ns.serviceaccount.identity.linkerd.cluster.local"), identity("x"),
		identity("spiffe://a"), identity("spiffe://a.b-c_d/e/F/...g"),
		identity("", "spec.identities[1]"), identity(".a", "spec.identities[1]"), identity("a.", "spec.identities[1]"), identity("a..b", "spec.identities[1]"),
		identity("a.*", "spec.identities[1]"), identity("*a.b", "spec.identities[1]"), identity("a b", "spec.identities[1]"), identity("a/b", "spec.identities[1]"),
		identity("http://a/b", "spec.identities[1]"), identity("spiffe:a", "spec.identities[1]"),
		identity("spiffe://", "spec.identities[1]"), identity("spiffe:///a", "spec.identities[1]"), identity("spiffe://A/b", "spec.identities[1]"),
		identity("spiffe://a:1/b", "spec.identities[1]"), identity("spiffe://u@a/b", "spec.identities[1]"), identity("spiffe://a/b?c", "spec.identities[1]"),
		identity("spiffe://a/b#c", "spec.identities[1]"), identity("spiffe://a//b", "spec.identities[1]"), identity("spiffe://a/./b", "spec.identities[1]"),
		identity("spiffe://a/../b", "spec.identities[1]"), identity("spiffe://a/b/", "spec.identities[1]"), identity("spiffe://a/", "spec.identities[1]"),
	},
	"A-17": {
		identities(`{identityRefs: [{kind: ServiceAccount, name: a}, {group: core, kind: ServiceAccount, name: a, namespace: b}, {kind: Namespace, name: a}]}`),
		identities(`{identityRefs: [{kind: Pod, name: a}]}`, "spec.identityRefs[0].kind"),
		identities(`{identityRefs: [{group: policy.linkerd.io, kind: Namespace, name: a}]}`, "spec.identityRefs[0].kind"),
		identities(`{identityRefs: [{kind: Namespace, name: a, namespace: b}]}`, "spec.identityRefs[0].namespace"),
		identities(`{identityRefs: [{kind: Namespace}, {kind: ServiceAccount}]}`, "spec.identityRefs[0].name", "spec.identityRefs[1].name"),
	},
	"A-18": {
		identities(`{identities: [a]}`),
		identities(`{}`, "spec"), identities(`{identities: [a], identityRefs: [{kind: Namespace, name: a}]}`, "spec"),
		identities(`{identities: []}`, "spec.identities"), identities(`{identityRefs: []}`, "spec.identityRefs"),
	},
	"A-19": {
		serverSpec(`{podSelector: {}, port: 1}`), serverSpec(`{podSelector: {}, port: 1, accessPolicy: audit}`),
		serverSpec(`{podSelector: {}, port: 1, accessPolicy: Deny}`, "spec.accessPolicy"),
	},
	"A-20": {
		serverSpec(`{podSelector: {}, port: 1, proxyProtocol: TLS}`),
		serverSpec(`{podSelector: {}, port: 1, proxyProtocol: tls}`, "spec.proxyProtocol"),
	},
	"A-21": {serverSpec(`{externalWorkloadSelector: {}, port: 1}`), serverSpec(`{port: 1}`, "spec")},
	"A-22": {
		networks(`[{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.3.4]}, {cidr: "::1"}]`),
		networks(`[]`, "spec.networks"),
		networks(`[{cidr: 10.0.0.0/8}, {cidr: 10.0.0.0/33}]`, "spec.networks[1].cidr"),
		networks(`[{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]`, "spec.networks[0].except[0]"),
		networks(`[{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 0.0.0.0/0]}]`, "spec.networks[0].except[1]"),
		networks(`[{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]`, "spec.networks[0].except[0]"),
		networks(`[{cidr: 10.0.0.0/8, except: ["fd00::/8"]}]`, "spec.networks[0].except[0]"),
		networks(`[{cidr: 10.0.0.0/8, except: [x]}]`, "spec.networks[0].except[0]"),
	},
	"A-23": {client(`{unauthenticated: true}`), client(`{unauthenticated: true, meshTLS: {}}`, "spec.client.unauthenticated")},
	"A-24": {
		client(`{meshTLS: {unauthenticatedTLS: true}}`),
		client(`{meshTLS: {unauthenticatedTLS: true, identities: ["*"]}}`, "spec.client.meshTLS.unauthenticatedTLS"),
		client(`{meshTLS: {unauthenticatedTLS: true, serviceAccounts: [{name: a}]}}`, "spec.client.meshTLS.unauthenticatedTLS"),
	},
	"A-25": {
		client(`{unauthenticated: true, networks: []}`),
		client(`{unauthenticated: true, networks: [{cidr: x}]}`, "spec.client.networks[0].cidr"),
	},
	"A-26": {client(`{}`), client(`{meshTLS: {}}`), client(`{unauthenticated: false, networks: [{cidr: 10.0.0.1}]}`)},
	"A-27": {
		rule(`{matches: [{path: {value: /}}, {path: {type: Exact, value: /a}}, {path: {type: RegularExpression, value: "a|b"}}]}`),
		rule(`{matches: [{}, {path: {type: Exact, value: a}}]}`, "spec.rules[1].matches[1].path.value"),
		rule(`{matches: [{path: {value: ""}}]}`, "spec.rules[1].matches[0].path.value"),
		rule(`{matches: [{path: {type: PathPrefix, value: a/}}]}`, "spec.rules[1].matches[0].path.value"),
		rule(`{matches: [{path: {type: RegularExpression, value: "("}}]}`, "spec.rules[1].matches[0].path.value"),
		rule(`{matches: [{headers: [{name: a, value: "("}, {type: RegularExpression, name: a, value: "("}]}]}`, "spec.rules[1].matches[0].headers[1].value"),
		rule(`{matches: [{headers: [{name: "a b", value: c}]}]}`, "spec.rules[1].matches[0].headers[0].name"),
		rule(`{matches: [{headers: [{name: a, value: "b\nc"}]}]}`, "spec.rules[1].matches[0].headers[0].value"),
		rule(`{matches: [{queryParams: [{name: "a b", value: "("}, {type: RegularExpression, name: a, value: "("}]}]}`, "spec.rules[1].matches[0].queryParams[1].value"),
		rule(`{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /a}}}]}`),
		rule(`{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: a}}}]}`, "spec.rules[1].filters[0].requestRedirect.path.replaceFullPath"),
		rule(`{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}}}]}`, "spec.rules[1].filters[0].requestRedirect.path.replacePrefixMatch"),
		rule(`{filters: [{type: RequestRedirect}]}`, "spec.rules[1].filters[0].requestRedirect"),
		rule(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: "a:", value: b}]}}]}`, "spec.rules[1].filters[0].requestHeaderModifier.add[0].name"),
		rule(`{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a, "b c"]}}]}`, "spec.rules[1].filters[0].responseHeaderModifier.remove[1]"),
		rule(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: "b\rc"}]}}]}`, "spec.rules[1].filters[0].requestHeaderModifier.set[0].value"),
		rule(`{timeouts: {request: 2s, backendRequest: 1500ms}}`), rule(`{timeouts: {request: 0s, backendRequest: 1s}}`),
		rule(`{timeouts: {request: -2s}}`, "spec.rules[1].timeouts.request"),
		rule(`{timeouts: {backendRequest: soon}}`, "spec.rules[1].timeouts.backendRequest"),
		rule(`{timeouts: {request: 1s, backendRequest: 1m}}`, "spec.rules[1].timeouts.backendRequest"),
		rule(`{backendRefs: [{name: a}]}`),
	},
	"A-28": {
		gatewayRule(`{backendRefs: [{name: a, port: 80}, {group: other, kind: Thing, name: b}]}`),
		gatewayRule(`{backendRefs: [{name: a}]}`, "spec.rules[1].backendRefs[0].port"),
		gatewayRule(`{backendRefs: [{name: a, port: 80}, {group: "", kind: Service, name: a}]}`, "spec.rules[1].backendRefs[1].port"),
		gatewayRule(`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a}}}, {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: a}}}, {type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}`),
		gatewayRule(`{matches: [{path: {type: Exact, value: a}}]}`, "spec.rules[1].matches[0].path.value"),
		gatewayRule(`{timeouts: {request: -2s}}`, "spec.rules[1].timeouts.request"),
	},
	"A-29": {
		grpcRule(`{matches: [{method: {service: a, method: b}}, {headers: [{name: a, value: b}]}]}`),
		grpcRule(`{matches: [{}, {method: {type: RegularExpression, service: a}}]}`, "spec.rules[1].matches[1].method.type"),
		grpcRule(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: "ä", value: b}]}}]}`, "spec.rules[1].filters[0].requestHeaderModifier.add[0].name"),
		grpcRule(`{backendRefs: [{name: a}]}`, "spec.rules[1].backendRefs[0].port"),
		grpcRule(`{backendRefs: [{name: a, port: 80}, {group: other, kind: Thing, name: b}]}`),
	},
	"A-31": {
		limit(`total: {requestsPerSecond: 2}, identity: {requestsPerSecond: 2}, overrides: [{requestsPerSecond: 2, clientRefs: [{kind: ServiceAccount, name: a, namespace: b}]}]`),
		limit(`identity: {requestsPerSecond: 9}`),
		{api.Group, api.HTTPLocalRateLimitPolicyKind, `{targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: r}}`, []string{"spec.targetRef.kind"}},
		{api.Group, api.HTTPLocalRateLimitPolicyKind, `{targetRef: {kind: Server, name: r}}`, []string{"spec.targetRef.kind"}},
		limit(`total: {requestsPerSecond: 0}`, "spec.total.requestsPerSecond"),
		limit(`total: {requestsPerSecond: -1}`, "spec.total.requestsPerSecond"),
		limit(`identity: {requestsPerSecond: 0}`, "spec.identity.requestsPerSecond"),
		limit(`overrides: [{requestsPerSecond: 1, clientRefs: []}, {requestsPerSecond: 0, clientRefs: []}]`, "spec.overrides[1].requestsPerSecond"),
		limit(`total: {requestsPerSecond: 2}, identity: {requestsPerSecond: 3}`, "spec.identity.requestsPerSecond"),
		limit(`total: {requestsPerSecond: 2}, overrides: [{requestsPerSecond: 3, clientRefs: []}]`, "spec.overrides[0].requestsPerSecond"),
		limit(`overrides: [{requestsPerSecond: 1, clientRefs: [{kind: ServiceAccount, name: a}, {kind: Namespace, name: a}]}]`, "spec.overrides[0].clientRefs[1].kind"),
	},
}

// TestEveryRuleOfSectionTwoIsKept, and with it C-20.
func TestEveryRuleOfSectionTwoIsKept(t *testing.T) {
	for number := 1; number <= lastRule; number++ {
		rule := fmt.Sprintf("A-%02d", number)
		if elsewhere[rule] != "" || slices.Contains(outOfScope, rule) {
			continue
		}
		if len(rows[rule]) == 0 {
			t.Errorf("%s has no row", rule)
		}
		t.Run(rule, func(t *testing.T) {
			for _, r := range rows[rule] {
				judged(t, r.group, r.kind, r.spec, r.complaints...)
			}
		})
	}
}

// annotations count where a Service is the parent.
func TestAnnotationsForRetriesAndTimeoutsAreJudgedOnRoutesOfServices(t *testing.T) {
	for annotation, right := range map[string]bool{
		"retry.linkerd.io/http: 5xx": true, "retry.linkerd.io/http: 'gateway-error, 429,500-504'": true, "retry.linkerd.io/http: '600'": false,
		"retry.linkerd.io/http: 504-500": false, "retry.linkerd.io/http: often": false,
		"retry.linkerd.io/grpc: 'internal,unavailable'": true, "retry.linkerd.io/grpc: ok": false,
		"retry.linkerd.io/limit: '3'": true, "retry.linkerd.io/limit: '-1'": false, "retry.linkerd.io/limit: many": false,
		"retry.linkerd.io/timeout: 100ms": true, "retry.linkerd.io/timeout: soon": false,
		"timeout.linkerd.io/request: 10s": true, "timeout.linkerd.io/request: '10'": false, "timeout.linkerd.io/response: -1s": false, "timeout.linkerd.io/idle: x": false,
	} {
		for kind, matters := range map[string]bool{"Service": true, "Server": false} {
			object := fmt.Sprintf(`{metadata: {annotations: {%s}}, spec: {parentRefs: [{group: "", kind: %s, name: a}]}}`, annotation, kind)
			for _, group := range []string{api.Group, api.GatewayGroup} {
				response := ask(t, admissionv1.Create, group, api.HTTPRouteKind, object)
				if want := right || !matters; response.Allowed != want {
					t.Errorf("%s, %s of %s: allowed %v", annotation, group, kind, response.Allowed)
				} else if key, _, _ := strings.Cut(annotation, ":"); !want && !strings.HasPrefix(response.Result.Message, "metadata.annotations["+key+"]: ") {
					t.Errorf("%s: %s", annotation, response.Result.Message)
				}
			}
		}
	}
}

// What is admitted and has no effect is said to whoever writes it (A-26, C-27).
func TestWhatHasNoEffectIsWarnedOf(t *testing.T) {
	for spec, want := range map[string]string{
		`ServerAuthorization {server: {name: s}, client: {}}`:                                                           "spec.client: ",
		`ServerAuthorization {server: {name: s}, client: {meshTLS: {}}}`:                                                "spec.client.meshTLS: ",
		`ServerAuthorization {server: {name: s}, client: {meshTLS: {identities: [a]}}}`:                                 "",
		`HTTPRoute {parentRefs: [{group: policy.linkerd.io, kind: Gateway, name: s}]}`:                                  "spec.parentRefs[0].kind: ",
		`HTTPRoute {parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: s}, {kind: Server, name: s}]}`: "",
	} {
		kind, spec, _ := strings.Cut(spec, " ")
		response := ask(t, admissionv1.Create, api.Group, kind, "spec: "+spec)
		if got := strings.Join(response.Warnings, "; "); !response.Allowed || !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s %s: allowed %v, warns %q, want %q", kind, spec, response.Allowed, got, want)
		}
	}
}
