package objects

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestRefusals holds each rule of section 2 against manifests that break it, and
// next to them manifests that just do not. The text is a kind and a spec.
func TestRefusals(t *testing.T) {
	versions := map[string]string{"Server": "policy.linkerd.io/v1beta3", "ServerAuthorization": "policy.linkerd.io/v1beta1", "HTTPRoute": "policy.linkerd.io/v1beta3",
		"GatewayHTTPRoute": "gateway.networking.k8s.io/v1", "GRPCRoute": "gateway.networking.k8s.io/v1"}
	const (
		toServer = "targetRef: {group: policy.linkerd.io, kind: Server, name: s}"
		mesh     = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}"
		netw     = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: n}"
		account  = "{kind: ServiceAccount, name: a}"
		redirect = "rules: [{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: %s}}}]}]"
	)
	authz := func(target string, refs ...string) string {
		return "{" + target + ", requiredAuthenticationRefs: [" + strings.Join(refs, ", ") + "]}"
	}
	networks := func(list string) string {
		return "{server: {name: s}, client: {unauthenticated: true, networks: " + list + "}}"
	}
	for _, row := range []struct{ rule, kind, refused, accepted string }{
		{"A-08", "AuthorizationPolicy", authz("targetRef: {group: apps, kind: Deployment, name: x}"), authz(toServer)},
		{"A-08", "AuthorizationPolicy", authz("targetRef: {kind: Server, name: x}"), authz("targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: x}")},
		{"A-05", "AuthorizationPolicy", "", authz("targetRef: {group: Policy.Linkerd.IO, kind: server, name: x}")},
		{"A-09", "AuthorizationPolicy", authz("targetRef: {kind: Namespace, name: other}"), authz("targetRef: {kind: Namespace, name: ns}")},
		{"A-10", "AuthorizationPolicy", authz(toServer, mesh, mesh), authz(toServer, mesh)},
		{"A-11", "AuthorizationPolicy", authz(toServer, account, account), authz(toServer, account)},
		{"A-12", "AuthorizationPolicy", authz(toServer, account, mesh), authz(toServer, account, netw)},
		{"A-13", "AuthorizationPolicy", authz(toServer, netw, netw), authz(toServer, mesh, netw)},
		{"A-14", "AuthorizationPolicy", authz(toServer, "{group: policy.linkerd.io, kind: Server, name: x}"), authz(toServer)},
		{"A-15", "AuthorizationPolicy", "{" + toServer + "}", authz(toServer)},
		{"A-16", "MeshTLSAuthentication", "{identities: [a..b]}", "{identities: [a.b]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\"a.*.b\"]}", "{identities: [\"*.a.b\"]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\".a\"]}", "{identities: [\"*\"]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\"spiffe://a:1/b\"]}", "{identities: [\"spiffe://a.b/c/d\"]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\"spiffe://a/\"]}", "{identities: [\"spiffe://a\"]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\"spiffe://a/../b\"]}", "{identities: [\"spiffe://a/...b\"]}"},
		{"A-16", "MeshTLSAuthentication", "{identities: [\"spiffe://a/b?c\"]}", ""},
		{"A-17", "MeshTLSAuthentication", "{identityRefs: [{kind: Pod, name: a}]}", "{identityRefs: [{kind: ServiceAccount, name: a, namespace: b}]}"},
		{"A-17", "MeshTLSAuthentication", "{identityRefs: [{kind: Namespace, name: a, namespace: b}]}", "{identityRefs: [{kind: Namespace, name: a}]}"},
		{"C-20", "MeshTLSAuthentication", "{identityRefs: [{kind: Namespace}]}", ""},
		{"A-18", "MeshTLSAuthentication", "{}", "{identities: [a]}"},
		{"A-18", "MeshTLSAuthentication", "{identities: [a], identityRefs: [{kind: Namespace, name: a}]}", ""},
		{"A-18", "MeshTLSAuthentication", "{identities: []}", ""},
		{"A-19", "Server", "{podSelector: {}, port: 1, accessPolicy: Deny}", "{podSelector: {}, port: 1, accessPolicy: audit}"},
		{"A-20", "Server", "{podSelector: {}, port: 1, proxyProtocol: tls}", "{podSelector: {}, port: 1, proxyProtocol: TLS}"},
		{"A-21", "Server", "{port: 1}", "{externalWorkloadSelector: {}, port: 1}"},
		{"A-22", "NetworkAuthentication", "{networks: []}", "{networks: [{cidr: 10.0.0.0/8}]}"},
		{"A-22", "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/33}]}", "{networks: [{cidr: 10.0.0.1}]}"},
		{"A-22", "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}", "{networks: [{cidr: 10.0.0.0/8, except: [10.0.0.0/9]}]}"},
		{"A-22", "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}", "{networks: [{cidr: 10.0.0.0/8, except: [10.1.2.3]}]}"},
		{"A-22", "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [\"fd00::/8\"]}]}", "{networks: [{cidr: \"fd00::/8\", except: [\"fd00:1::/32\"]}]}"},
		{"A-23", "ServerAuthorization", "{server: {name: s}, client: {unauthenticated: true, meshTLS: {}}}", "{server: {name: s}, client: {unauthenticated: false, meshTLS: {identities: [\"*\"]}}}"},
		{"A-24", "ServerAuthorization", "{server: {name: s}, client: {meshTLS: {unauthenticatedTLS: true, serviceAccounts: [{name: a}]}}}", "{server: {name: s}, client: {meshTLS: {unauthenticatedTLS: true}}}"},
		{"A-25", "ServerAuthorization", networks("[{cidr: x}]"), networks("[]")},
		{"A-25", "ServerAuthorization", networks("[{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]"), networks("[{cidr: 10.0.0.0/8}]")},
		{"A-26", "ServerAuthorization", "", "{server: {name: s}, client: {}}"},
		{"A-26", "ServerAuthorization", "", "{server: {name: s}, client: {meshTLS: {}}}"},
		{"A-27", "HTTPRoute", "{rules: [{matches: [{path: {type: Exact, value: a}}]}]}", "{rules: [{matches: [{path: {type: Exact, value: /a}}]}]}"},
		{"A-27", "HTTPRoute", "{rules: [{matches: [{path: {type: RegularExpression, value: \"(\"}}]}]}", "{rules: [{matches: [{path: {type: RegularExpression, value: a+}}]}]}"},
		{"A-27", "HTTPRoute", "{rules: [{matches: [{headers: [{type: RegularExpression, name: a, value: \"[\"}]}]}]}", "{rules: [{matches: [{headers: [{name: a, value: \"[\"}]}]}]}"},
		{"A-27", "HTTPRoute", "{rules: [{matches: [{queryParams: [{type: RegularExpression, name: a, value: \"[\"}]}]}]}", ""},
		{"A-27", "HTTPRoute", "{rules: [{matches: [{headers: [{name: \"a b\", value: c}]}]}]}", ""},
		{"A-27", "HTTPRoute", "{" + fmt.Sprintf(redirect, "a") + "}", "{" + fmt.Sprintf(redirect, "/a") + "}"},
		{"A-27", "HTTPRoute", "{" + fmt.Sprintf(redirect, "\"\"") + "}", ""},
		{"A-27", "HTTPRoute", "{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [\"a:\"]}}]}]}", "{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]}]}"},
		{"A-27", "HTTPRoute", "{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}", "{rules: [{timeouts: {request: 2s, backendRequest: 1s}}]}"},
		{"A-27", "HTTPRoute", "{rules: [{timeouts: {request: -1s}}]}", ""},
		{"A-28", "GatewayHTTPRoute", "{rules: [{backendRefs: [{name: a}]}]}", "{rules: [{backendRefs: [{name: a, port: 80}, {group: x, kind: Y, name: b}]}]}"},
		{"A-28", "GatewayHTTPRoute", "", "{rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: x}}]}]}"},
		{"A-29", "GRPCRoute", "{rules: [{matches: [{method: {type: RegularExpression, service: a}}]}]}", "{rules: [{matches: [{method: {service: a}}]}]}"},
		{"A-29", "GRPCRoute", "{rules: [{backendRefs: [{name: a}]}]}", "{rules: [{backendRefs: [{name: a, port: 80}]}]}"},
		{"A-29", "GRPCRoute", "{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: \"\\u00e4\", value: b}]}}]}]}", ""},
		{"A-31", "HTTPLocalRateLimitPolicy", "{targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: r}}", "{" + toServer + "}"},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", total: {requestsPerSecond: 0}}", "{" + toServer + ", total: {requestsPerSecond: 1}}"},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", total: {requestsPerSecond: 1}, identity: {requestsPerSecond: 2}}", "{" + toServer + ", total: {requestsPerSecond: 2}, identity: {requestsPerSecond: 2}}"},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", identity: {requestsPerSecond: 0}}", ""},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", overrides: [{requestsPerSecond: 0, clientRefs: []}]}", ""},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", total: {requestsPerSecond: 1}, overrides: [{requestsPerSecond: 2, clientRefs: []}]}", ""},
		{"A-31", "HTTPLocalRateLimitPolicy", "{" + toServer + ", overrides: [{requestsPerSecond: 2, clientRefs: [{kind: Namespace, name: a}]}]}", "{" + toServer + ", overrides: [{requestsPerSecond: 2, clientRefs: [{kind: ServiceAccount, name: a}]}]}"},
	} {
		version := versions[row.kind]
		if version == "" {
			version = "policy.linkerd.io/v1alpha1"
		}
		manifest := "apiVersion: " + version + "\nkind: " + strings.TrimPrefix(row.kind, "Gateway") + "\nmetadata: {name: a}\nspec: "
		if row.accepted != "" {
			if _, err := read(manifest + row.accepted); err != nil {
				t.Errorf("%s: %s %s is refused: %v", row.rule, row.kind, row.accepted, err)
			}
		}
		if row.refused != "" {
			if _, err := read(manifest + row.refused); err == nil {
				t.Errorf("%s: %s %s is accepted", row.rule, row.kind, row.refused)
			}
		}
	}
}

// TestWhatPlainAcceptsIsValid changes valid objects in every field, one at a
// time, and holds the quick acceptance against the API server's own validation.
func TestWhatPlainAcceptsIsValid(t *testing.T) {
	specs := map[string]string{
		"policy.linkerd.io/v1alpha1 Server":                   `{podSelector: {matchLabels: {a: b}}, port: http, proxyProtocol: gRPC}`,
		"policy.linkerd.io/v1beta3 Server":                    `{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}, port: 80, accessPolicy: deny}`,
		"policy.linkerd.io/v1beta1 ServerAuthorization":       `{server: {name: s}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.0.0.1]}], meshTLS: {identities: ["*.a"], serviceAccounts: [{name: a, namespace: b}]}}}`,
		"policy.linkerd.io/v1alpha1 AuthorizationPolicy":      `{targetRef: {group: policy.linkerd.io, kind: Server, name: s}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m, namespace: n}]}`,
		"policy.linkerd.io/v1alpha1 MeshTLSAuthentication":    `{identities: [a]}`,
		"policy.linkerd.io/v1alpha1 NetworkAuthentication":    `{networks: [{cidr: 10.0.0.0/8}]}`,
		"policy.linkerd.io/v1alpha1 HTTPLocalRateLimitPolicy": `{targetRef: {group: policy.linkerd.io, kind: Server, name: s}, total: {requestsPerSecond: 5}, overrides: [{requestsPerSecond: 2, clientRefs: [{kind: ServiceAccount, name: a}]}]}`,
		"policy.linkerd.io/v1beta3 HTTPRoute":                 `{parentRefs: [{kind: Server, name: s, port: 80}], hostnames: [a.b], rules: [{matches: [{path: {type: Exact, value: /}, method: GET, headers: [{name: a, value: b}]}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}], backendRefs: [{name: a, port: 80, weight: 1}]}]}`,
		"gateway.networking.k8s.io/v1 GRPCRoute":              `{parentRefs: [{kind: Server, name: s}], rules: [{matches: [{method: {service: a, method: b}}]}]}`,
	}
	accepted, refused := 0, 0
	for head, spec := range specs {
		version, kind, _ := strings.Cut(head, " ")
		set := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: a}\nspec: %s\n", version, kind, spec)
		schema, object := prepare(t, set)
		// The numbers that a redirect's status may be are beyond plain.
		if !schema.plain.accepts(object) && kind != "HTTPRoute" {
			t.Errorf("%s: plain does not accept the object that is to be changed", head)
		}
		mutate(object["spec"], func() {
			quick := schema.plain.accepts(object)
			schema.plain.unsure = true
			_, wrong := schema.complete(object)
			schema.plain.unsure = false
			if quick && len(wrong) > 0 {
				t.Errorf("%s: plain accepts %v, in spite of %v", head, object["spec"], wrong)
			}
			if quick {
				accepted++
			} else {
				refused++
			}
		})
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted and %d not: nothing was compared", accepted, refused)
	}
	t.Logf("%d accepted, %d left to the other", accepted, refused)
}

func prepare(t *testing.T, text string) (*versionSchema, map[string]any) {
	t.Helper()
	var found *object
	r := &reader{found: make(chan *object, 1)}
	if err := r.stream("in", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	found = <-r.found
	found.understand(Options{Namespace: "ns"})
	if len(found.problems) > 0 {
		t.Fatal(found.problems)
	}
	for kind, d := range definitions() {
		if kind.Group == found.group && kind.Kind == found.kind {
			_, version, _ := strings.Cut(found.apiVersion, "/")
			schema, err := d.version(version)
			if err != nil {
				t.Fatal(err)
			}
			return schema, found.fields
		}
	}
	t.Fatalf("no kind %s", found.kind)
	return nil, nil
}

// mutate changes every value below at once to each of some others, removes it,
// and calls check each time; then it puts it back.
func mutate(at any, check func()) {
	others := []any{"", "x", "A B", "*", int64(0), int64(-1), int64(1 << 40), 1.5, true, nil, []any{}, map[string]any{}, strings.Repeat("x", 5000)}
	switch v := at.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			old := v[key]
			for _, other := range others {
				v[key] = other
				check()
			}
			delete(v, key)
			check()
			v[key] = old
			mutate(old, check)
		}
		v["surplus"] = "x"
		check()
		delete(v, "surplus")
	case []any:
		for i, old := range v {
			for _, other := range others {
				v[i] = other
				check()
			}
			v[i] = old
			mutate(old, check)
		}
	}
}
