package oracle_test

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func rows() []row {
	return slices.Concat(defaultRows(), serverRows, serverAuthorizationRows, policyRows, identityRows, routeRows, probeRows, connectionRows, answerRows, limitRows, localRows)
}

// defaultRows are section 4: every policy for every kind of client, and where it
// is set.
func defaultRows() []row {
	const (
		y = oracle.Delivered
		n = oracle.Forbidden
	)
	clients := []string{"ns/alice", "ns/alice@203.0.113.7", "unmeshed", outside, "tls-no-identity", "tls-no-identity@203.0.113.7"}
	table := map[api.PolicyName][]oracle.Outcome{
		api.AllUnauthenticated:     {y, y, y, y, y, y},
		api.AllAuthenticated:       {y, y, n, n, n, n},
		api.ClusterUnauthenticated: {y, n, y, n, y, n},
		api.ClusterAuthenticated:   {y, n, n, n, n, n},
		api.Deny:                   {n, n, n, n, n, n},
		api.Audit:                  {y, y, y, y, y, y},
	}
	var out []row
	for _, policy := range api.PolicyNames() { // a policy without a line fails below
		for i, client := range clients {
			r := row{rules: "D-01 D-02 D-07 X-10", claim: string(policy) + " and " + client, pod: podWith(annotated(string(policy))), from: client, want: table[policy][i], logged: policy == api.Audit}
			out = append(out, r)
			// The same as the access policy of a Server (D-01, X-12).
			r.rules, r.pod, r.objects = "D-01 D-02 X-12", "", []string{server("http", "http", "accessPolicy: "+string(policy))}
			out = append(out, r)
		}
	}
	return append(out, []row{
		{rules: "D-04", claim: "the cluster's networks hold the private ones of IPv6", pod: podWith(annotated("cluster-unauthenticated")), from: "unmeshed@fd00::7", want: y},
		{rules: "D-04", claim: "and what is shared among providers", pod: podWith(annotated("cluster-unauthenticated")), from: "unmeshed@100.64.1.2", want: y},
		{rules: "D-14", claim: "without networks the policy that needs none works", in: onlyDocumented, pod: podWith(annotated("audit")), from: "unmeshed@10.0.0.1", set: func(s *oracle.Settings) { s.ClusterNetworks = nil }, want: y, by: "default/audit", logged: true},
		{rules: "D-14", claim: "and one that needs some admits nobody", in: onlyDocumented, pod: podWith(annotated("cluster-unauthenticated")), from: "unmeshed@10.0.0.1", set: func(s *oracle.Settings) { s.ClusterNetworks = nil }, want: n},
		{rules: "X-10 D-03", claim: "without annotations the cluster's default decides", from: outside, want: y, by: "default/all-unauthenticated"},
		{rules: "X-10", claim: "the cluster's default is a setting", from: outside, set: func(s *oracle.Settings) { s.DefaultPolicy = api.Deny }, want: n},
		{rules: "D-08", claim: "a pod that says nothing has its namespace's", namespace: namespaceWith(annotated("deny")), from: "ns/alice", want: n},
		{rules: "D-07 D-08", claim: "a pod that says something has its own", pod: podWith(annotated("all-unauthenticated")), namespace: namespaceWith(annotated("deny")), from: "ns/alice", want: y, by: "default/all-unauthenticated"},
		{rules: "D-08 D-11", claim: "a pod that runs has nothing of its namespace's annotation of today", pod: created("all-unauthenticated", usualPod), namespace: namespaceWith(annotated("deny")), from: "ns/alice", want: y},
		{rules: "D-10", claim: "an annotation on a pod that runs changes nothing", in: onlyDocumented, pod: created("all-unauthenticated", podWith(annotated("deny"))), from: "ns/alice", want: y, by: "default/all-unauthenticated"},
		{rules: "D-10", claim: "an annotation on a pod that runs is live", in: onlyLinkerd, pod: created("all-unauthenticated", podWith(annotated("deny"))), from: "ns/alice", want: n},
		{rules: "D-12", claim: "a policy that is none leaves the cluster's default", pod: podWith(annotated("alow")), from: "unmeshed", want: y, by: "default/all-unauthenticated"},
		{rules: "D-12", claim: "and not the namespace's", pod: podWith(annotated("alow")), namespace: namespaceWith(annotated("deny")), from: "unmeshed", want: y, by: "default/all-unauthenticated"},
		{rules: "D-18", claim: "an identity can be required on a port", pod: podWith("{config.linkerd.io/proxy-require-identity-inbound-ports: \"8080\"}"), from: "unmeshed", want: n},
		{rules: "D-18", claim: "whoever has one is let in by the twin", pod: podWith("{config.linkerd.io/proxy-require-identity-inbound-ports: \"8000-8100\"}"), from: "ns/alice", want: y, by: "default/all-authenticated"},
		{rules: "D-18", claim: "other ports are free", pod: podWith("{config.linkerd.io/proxy-require-identity-inbound-ports: \"9090\"}"), from: "unmeshed", want: y},
		{rules: "D-18", claim: "a port with a Server is not concerned", pod: podWith("{config.linkerd.io/proxy-require-identity-inbound-ports: \"8080\"}"), objects: []string{server("http", "http", "accessPolicy: all-unauthenticated")}, from: "unmeshed", want: y},
		{rules: "D-19 X-09", claim: "a port that is skipped has no policy", pod: podWith("{config.linkerd.io/skip-inbound-ports: \"8080,9000-9100\"}"), objects: []string{server("http", "http")}, from: outside, want: oracle.Unpoliced},
		{rules: "D-19", claim: "a range skips what is in it", pod: podWith("{config.linkerd.io/skip-inbound-ports: \"8080,9000-9100\", config.linkerd.io/default-inbound-policy: deny}"), port: "tcp", ask: "tcp", from: outside, want: oracle.Unpoliced},
		{rules: "D-19", claim: "some ports are skipped by the installation", pod: podWith(annotated("deny")), port: "4567", ask: "tcp", from: outside, want: oracle.Unpoliced},
		{rules: "D-21", claim: "a pod without a proxy has no policy", pod: podWith("{linkerd.io/inject: disabled}"), objects: []string{server("http", "http")}, from: outside, want: oracle.Unpoliced},
		{rules: "D-21", claim: "nor has one that runs and was not injected", pod: strings.Replace(podWith("{linkerd.io/inject: enabled}"), "metadata: {", "metadata: {uid: a-b-c, ", 1), objects: []string{server("http", "http")}, from: outside, want: oracle.Unpoliced},
		{rules: "D-21", claim: "one that runs and was injected has", pod: strings.Replace(created("deny", usualPod), "metadata: {", "metadata: {uid: a-b-c, ", 1), objects: []string{server("http", "http")}, from: outside, want: n},
		{rules: "D-21", claim: "nor has one whose namespace is not injected", namespace: namespaceWith("{linkerd.io/inject: disabled}"), objects: []string{server("http", "http")}, from: outside, want: oracle.Unpoliced},
		{rules: "D-21", claim: "one that is injected has", pod: podWith("{linkerd.io/inject: enabled}"), namespace: namespaceWith("{linkerd.io/inject: disabled}"), objects: []string{server("http", "http")}, from: outside, want: n},
		{rules: "D-16", claim: "a declared port of the installation's list is opaque", pod: `{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: ns, annotations: {config.linkerd.io/default-inbound-policy: deny}}, spec: {containers: [{name: db, ports: [{name: sql, containerPort: 3306}]}]}}`, port: "sql", from: "unmeshed", want: oracle.Closed},
		{rules: "D-16", claim: "one that is not declared is not", pod: podWith(annotated("deny")), port: "3306", from: "unmeshed", want: n},
		{rules: "D-15", claim: "a port by annotation is opaque", pod: podWith("{config.linkerd.io/opaque-ports: \"8080\", config.linkerd.io/default-inbound-policy: deny}"), from: "unmeshed", want: oracle.Closed},
		{rules: "D-15", claim: "a name among opaque ports is resolved", in: onlyDocumented, pod: podWith("{config.linkerd.io/opaque-ports: \"http,9090\", config.linkerd.io/default-inbound-policy: deny}"), from: "unmeshed", want: oracle.Closed},
		{rules: "D-15", claim: "a name among opaque ports spoils the list", in: onlyLinkerd, pod: podWith("{config.linkerd.io/opaque-ports: \"8080,grpc\", config.linkerd.io/default-inbound-policy: deny}"), from: "unmeshed", want: n},
		{rules: "D-15 D-16", claim: "a list replaces the installation's", pod: `{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: ns, annotations: {config.linkerd.io/opaque-ports: "1", config.linkerd.io/default-inbound-policy: deny}}, spec: {containers: [{name: db, ports: [{name: sql, containerPort: 3306}]}]}}`, port: "sql", from: "unmeshed", want: n},
	}...)
}

// serverRows are section 5.1.
var serverRows = []row{
	{rules: "X-11 X-13 DOC-17", claim: "a Server alone denies", objects: []string{server("http", "http")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-11", claim: "whatever the default is", pod: podWith(annotated("all-unauthenticated")), objects: []string{server("http", "http")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-13", claim: "a Server of an old version has no access policy", objects: []string{object("policy.linkerd.io/v1beta1", "Server", "http", "{podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/1}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-01", claim: "a Server of another namespace selects nothing here", objects: []string{in("elsewhere", server("http", "http"))}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-01", claim: "a number that is declared is selected", objects: []string{server("http", "8080")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-01", claim: "a number that is not declared is not selected", in: onlyDocumented, objects: []string{server("http", "7000")}, port: "7000", from: "unmeshed", want: oracle.Delivered},
	{rules: "X-01", claim: "a number needs no declaration", in: onlyLinkerd, objects: []string{server("http", "7000")}, port: "7000", from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-02", claim: "a name is a declared port", objects: []string{server("http", "http")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-02", claim: "of any container", objects: []string{server("extra", "extra")}, port: "8082", from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-02", claim: "in its very case", objects: []string{server("http", "HTTP")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-02", claim: "of the proxy's container too", objects: []string{server("admin", "linkerd-admin")}, port: "4191", ask: "GET /metrics", from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-02", claim: "of an initContainer too", pod: `{apiVersion: v1, kind: Pod, metadata: {name: app, namespace: ns, labels: {app: web}}, spec: {containers: [{name: app}], initContainers: [{name: side, restartPolicy: Always, ports: [{name: http, containerPort: 8080}]}]}}`, objects: []string{server("http", "http")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-03", claim: "a port of UDP has no name", objects: []string{server("dns", "dns")}, port: "5353", from: "unmeshed", want: oracle.Delivered},
	{rules: "C-03", claim: "an empty selector selects every pod", objects: []string{serverWith("all", "http", "{}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-08", claim: "labels must match", objects: []string{serverWith("http", "http", "{matchLabels: {app: other}}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-08", claim: "In holds for a listed value", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: app, operator: In, values: [x, web]}]}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-08", claim: "In without values holds for nothing", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: app, operator: In}]}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-08", claim: "NotIn without values holds for nothing", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: none, operator: NotIn}]}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-08", claim: "Exists holds for any value", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: app, operator: Exists}]}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-08", claim: "Exists with values, even none, holds for nothing", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: app, operator: Exists, values: []}]}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-08", claim: "DoesNotExist holds for what is not there", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: none, operator: DoesNotExist}]}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-09", claim: "NotIn holds for what is not there", objects: []string{serverWith("http", "http", "{matchExpressions: [{key: none, operator: NotIn, values: [x]}]}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-09", claim: "labels and expressions must both hold", objects: []string{serverWith("http", "http", "{matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-04", claim: "a Server for external workloads selects no pod", objects: []string{object("policy.linkerd.io/v1beta3", "Server", "http", "{externalWorkloadSelector: {}, port: http}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "C-02", claim: "a Server of the first version selects as others do", objects: []string{object("policy.linkerd.io/v1alpha1", "Server", "http", "{podSelector: {matchLabels: {app: web}}, port: http}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-06", claim: "without a protocol it is detected", objects: []string{server("http", "http")}, ask: "tcp", from: "unmeshed", want: oracle.Closed},
	{rules: "T-02", claim: "a Server has its port of the pod, and no other", objects: []string{server("http", "http")}, port: "grpc", ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.Delivered},
	{rules: "X-04", claim: "of two Servers the older has the port", objects: []string{at(late, server("a", "http")), at(early, server("b", "http", "accessPolicy: all-unauthenticated"))}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-04", claim: "of two as old as each other the one whose name comes first", objects: []string{at(early, server("b", "http")), at(early, server("a", "http", "accessPolicy: all-unauthenticated"))}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-04", claim: "of three the oldest, in whatever order they stand", objects: []string{at(late, server("c", "http")), at(early, server("b", "http", "accessPolicy: all-unauthenticated")), at(late, server("a", "http"))}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-05", claim: "what no longer matches gives the port to the next", objects: []string{at(early, serverWith("a", "http", "{matchLabels: {app: gone}}")), at(late, server("b", "http", "accessPolicy: all-unauthenticated"))}, from: "unmeshed", want: oracle.Delivered, by: "default/all-unauthenticated"},
	{rules: "X-12", claim: "an access policy adds to authorizations", objects: []string{server("http", "http", "accessPolicy: all-authenticated"), saz("a", byName, anyone)}, from: "unmeshed", want: oracle.Delivered, by: "serverauthorization/a"},
	{rules: "X-12", claim: "and takes nothing away", objects: []string{server("http", "http", "accessPolicy: all-authenticated"), saz("a", byName, anyone)}, from: "ns/alice@203.0.113.7", want: oracle.Delivered, by: "default/all-authenticated"},
}

// serverAuthorizationRows are section 5.2.
var serverAuthorizationRows = []row{
	{rules: "X-30", claim: "by name", objects: []string{server("http", "http"), saz("a", byName, anyone)}, from: "unmeshed", want: oracle.Delivered, by: "serverauthorization/a"},
	{rules: "X-30", claim: "by another name", objects: []string{server("http", "http"), saz("a", "{name: other}", anyone)}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-30", claim: "of another namespace", objects: []string{server("http", "http"), in("elsewhere", saz("a", byName, anyone))}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-30 C-11", claim: "by labels of the Server", objects: []string{labelled("{open: \"yes\"}", server("http", "http")), saz("a", "{selector: {matchLabels: {open: \"yes\"}}}", anyone)}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-30 C-11", claim: "by labels that it has not", objects: []string{server("http", "http"), saz("a", "{selector: {matchLabels: {open: \"yes\"}}}", anyone)}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-30", claim: "an empty selector means every Server", objects: []string{server("http", "http"), saz("a", "{selector: {}}", anyone)}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-30", claim: "never a default server", pod: podWith(annotated("deny")), objects: []string{saz("a", "{selector: {}}", anyone)}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-31", claim: "without networks the cluster's are meant", objects: []string{server("http", "http"), saz("a", byName, anyone)}, from: outside, want: oracle.Forbidden},
	{rules: "X-31", claim: "which are a setting", objects: []string{server("http", "http"), saz("a", byName, anyone)}, from: outside, set: func(s *oracle.Settings) { s.ClusterNetworks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} }, want: oracle.Delivered},
	{rules: "X-31", claim: "an empty list is none", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: []}")}, from: outside, want: oracle.Forbidden},
	{rules: "X-33 C-14", claim: "a single address is a network", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 203.0.113.7}]}")}, from: outside, want: oracle.Delivered},
	{rules: "X-33", claim: "network and identity must both hold", objects: []string{server("http", "http"), saz("a", byName, "{networks: [{cidr: 203.0.113.0/24}], meshTLS: {identities: [\"*\"]}}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "H-19", claim: "an exception is not meant", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}]}")}, from: outside, want: oracle.Forbidden},
	{rules: "H-19", claim: "unless another network holds it", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}, {cidr: 203.0.113.7}]}")}, from: outside, want: oracle.Delivered},
	{rules: "B-03 X-31 U-13", claim: "a node's public address is outside the cluster's networks", objects: []string{server("http", "http"), saz("a", byName, anyone)}, from: "unmeshed@198.51.100.20", want: oracle.Forbidden},
	{rules: "T-05 U-16", claim: "what a header says of the client's address does not matter", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 203.0.113.0/24}]}")}, ask: "GET /", headers: []string{"X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "I-07", claim: "nor what it says of the identity", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: ["+alice+"]}}")}, ask: "GET /", headers: []string{"l5d-client-id: " + alice}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "N-15 N-01", claim: "a wrong identity gets what none gets", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: ["+alice+"]}}")}, from: "ns/bob", want: oracle.Forbidden, status: 403},
	{rules: "X-32", claim: "unauthenticatedTLS wants mesh TLS", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {unauthenticatedTLS: true}}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-32 I-03", claim: "and no certificate", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {unauthenticatedTLS: true}}")}, from: "tls-no-identity", want: oracle.Delivered},
	{rules: "X-32", claim: "identities want one", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*\"]}}")}, from: "tls-no-identity", want: oracle.Forbidden},
	{rules: "X-32 C-15", claim: "an account of the own namespace", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: alice}]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "C-15", claim: "not of another one", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: alice}]}}")}, from: "default/alice", want: oracle.Forbidden},
	{rules: "X-32", claim: "an account of another namespace", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: alice, namespace: other}]}}")}, from: "other/alice", want: oracle.Delivered},
	{rules: "X-33 X-47", claim: "several add up", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: bob}]}}"), saz("b", byName, "{meshTLS: {serviceAccounts: [{name: alice}]}}")}, from: "ns/alice", want: oracle.Delivered, by: "serverauthorization/b"},
	{rules: "X-61 A-26", claim: "one that names nobody grants nothing", objects: []string{server("http", "http"), saz("a", byName, "{}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-61 A-26", claim: "nor one whose meshTLS names nobody", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {}}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-61 A-03", claim: "nor one whose networks cannot be read", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0}, {cidr: 10.0.0.0/99}]}")}, from: "unmeshed", want: oracle.Forbidden},
}

// policyRows are section 5.3.
var policyRows = []row{
	{rules: "X-40 X-42 X-43", claim: "for a Server, asking for nothing", objects: []string{server("http", "http"), grant("p", toServer)}, from: outside, want: oracle.Delivered, by: "authorizationpolicy/p"},
	{rules: "X-40", claim: "for another Server", objects: []string{server("http", "http"), grant("p", "{group: policy.linkerd.io, kind: Server, name: other}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-40 C-17", claim: "of another namespace", objects: []string{server("http", "http"), in("elsewhere", grant("p", toServer))}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-40", claim: "for the namespace, which is all its Servers", objects: []string{server("http", "http"), grant("p", "{kind: Namespace, name: ns}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-40", claim: "for the namespace in the group core", objects: []string{server("http", "http"), grant("p", "{group: core, kind: Namespace, name: ns}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-40", claim: "for the namespace, which is no default server", pod: podWith(annotated("deny")), objects: []string{grant("p", "{kind: Namespace, name: ns}")}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-40", claim: "for a route, which is its requests", objects: []string{server("http", "http"), httpRoute("r", "rules: [{matches: [{path: {value: /a}}]}, {matches: [{path: {value: /b}}]}]"), grant("p", toRoute)}, ask: "GET /a", from: "unmeshed", want: oracle.Delivered, by: "authorizationpolicy/p"},
	{rules: "X-40 DOC-42", claim: "for a route, which is no other", objects: []string{server("http", "http"), httpRoute("r", "rules: [{matches: [{path: {value: /a}}]}]"), httpRoute("other", "rules: [{matches: [{path: {value: /b}}]}]"), grant("p", toRoute)}, ask: "GET /b", from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-41", claim: "identity and network must both hold", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"*\"]}"), network("n", "[{cidr: 10.0.0.0/8}]"), grant("p", toServer, needsMesh, needsNet)}, from: "ns/alice@203.0.113.7", want: oracle.Forbidden},
	{rules: "X-41", claim: "and then it is allowed", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"*\"]}"), network("n", "[{cidr: 10.0.0.0/8}]"), grant("p", toServer, needsMesh, needsNet)}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-41", claim: "a ServiceAccount is an identity", objects: []string{server("http", "http"), grant("p", toServer, "{kind: ServiceAccount, name: alice}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-41", claim: "and no other one", objects: []string{server("http", "http"), grant("p", toServer, "{kind: ServiceAccount, name: alice}")}, from: "ns/bob", want: oracle.Forbidden},
	{rules: "X-42", claim: "a network alone asks for no identity", objects: []string{server("http", "http"), network("n", "[{cidr: 10.0.0.0/8}]"), grant("p", toServer, needsNet)}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-43", claim: "without a network everywhere is meant, unlike in a ServerAuthorization", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"*\"]}"), grant("p", toServer, needsMesh)}, from: "ns/alice@203.0.113.7", want: oracle.Delivered},
	{rules: "X-44", claim: "an authentication of another namespace", objects: []string{server("http", "http"), in("elsewhere", meshTLS("m", "{identities: [\"*\"]}")), grant("p", toServer, "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m, namespace: elsewhere}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-44", claim: "which is not taken for the own one", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"*\"]}"), grant("p", toServer, "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m, namespace: elsewhere}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-45 X-46 U-06", claim: "an identity that does not exist voids the policy", objects: []string{server("http", "http"), grant("p", toServer, needsMesh)}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-45", claim: "a network that does not exist voids the policy", objects: []string{server("http", "http"), grant("p", toServer, needsNet)}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-45", claim: "one of two that does not exist voids the policy", objects: []string{server("http", "http"), network("n", "[{cidr: 0.0.0.0/0}]"), grant("p", toServer, needsMesh, needsNet)}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-47 X-33", claim: "policies and ServerAuthorizations add up", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: bob}]}}"), grant("p", toServer, "{kind: ServiceAccount, name: alice}"), grant("q", toServer, "{kind: ServiceAccount, name: carol}")}, from: "ns/carol", want: oracle.Delivered, by: "authorizationpolicy/q"},
	{rules: "X-48", claim: "a grant on the Server opens every route", objects: []string{server("http", "http"), httpRoute("r", "rules: [{matches: [{path: {value: /}}]}]"), grant("p", toRoute, needsMesh), saz("a", byName, anyone)}, ask: "GET /a", from: "unmeshed", want: oracle.Delivered, by: "serverauthorization/a", route: "HTTPRoute/r"},
	{rules: "X-49", claim: "a policy for the route of the other group grants nothing", objects: []string{server("http", "http"), gatewayRoute("r", "rules: [{matches: [{path: {value: /}}]}]"), grant("p", toRoute)}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "X-49", claim: "group and kind are compared ignoring case", objects: []string{server("http", "http"), gatewayRoute("r", "rules: [{matches: [{path: {value: /}}]}]"), grant("p", "{group: Gateway.Networking.k8s.io, kind: httproute, name: r}")}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-50", claim: "who is written is credited before who is built in", objects: []string{server("http", "http", "accessPolicy: audit"), saz("z", byName, anyone), saz("y", byName, anyone)}, from: "unmeshed", want: oracle.Delivered, by: "serverauthorization/y"},
	{rules: "X-48 X-50", claim: "who is written for the route is credited before who is written for the Server", objects: []string{server("http", "http"), httpRoute("r", "rules: [{matches: [{path: {value: /}}]}]"), grant("p", toRoute), grant("o", toRoute), saz("a", byName, anyone)}, ask: "GET /a", from: "unmeshed", want: oracle.Delivered, by: "authorizationpolicy/o", route: "HTTPRoute/r"},
	{rules: "X-61 A-10", claim: "two identities that slipped in grant nothing", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"*\"]}"), grant("p", toServer, needsMesh, needsMesh)}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-61 A-14", claim: "nor does an authentication that is none", objects: []string{server("http", "http"), grant("p", toServer, "{kind: Pod, name: x}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-61 A-22", claim: "nor a network that cannot be read", objects: []string{server("http", "http"), network("n", "[{cidr: nowhere}]"), grant("p", toServer, needsNet)}, from: "ns/alice", want: oracle.Forbidden},
}

// identityRows are section 5.6.
var identityRows = []row{
	{rules: "X-70", claim: "an account by reference", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {serviceAccounts: [{name: alice}]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-70 U-18", claim: "an account's identity", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: ["+alice+"]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-70 U-18", claim: "holds the control plane's namespace and the trust domain", set: func(s *oracle.Settings) { s.ControlPlaneNamespace, s.TrustDomain = "mesh", "corp.example" }, objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [alice.ns.serviceaccount.identity.mesh.corp.example]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-71", claim: "a Namespace means its accounts", objects: []string{server("http", "http"), meshTLS("m", "{identityRefs: [{kind: Namespace, name: friends}]}"), grant("p", toServer, needsMesh)}, from: "friends/anna", want: oracle.Delivered},
	{rules: "X-71", claim: "and nobody else's", objects: []string{server("http", "http"), meshTLS("m", "{identityRefs: [{kind: Namespace, name: friends}]}"), grant("p", toServer, needsMesh)}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-72", claim: "a star is any identity", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*\"]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-72", claim: "a suffix wants a label before it", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*."+alice+"\"]}}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-72", claim: "a suffix begins at a dot", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*.lice.ns.serviceaccount.identity.linkerd.cluster.local\"]}}")}, from: "ns/alice", want: oracle.Forbidden},
	{rules: "X-72", claim: "a suffix may have several labels before it", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*.identity.linkerd.cluster.local\"]}}")}, from: "ns/alice", want: oracle.Delivered},
	{rules: "X-73", claim: "a full name is compared as a whole", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: ["+alice+"]}}")}, from: "ns/alice2", want: oracle.Forbidden},
	{rules: "X-73", claim: "a SPIFFE name fits itself", objects: []string{server("http", "http"), meshTLS("m", "{identities: [\"spiffe://corp/alice\"]}"), grant("p", toServer, needsMesh)}, from: "spiffe://corp/alice", want: oracle.Delivered},
	{rules: "X-74", claim: "a star is any verified identity", in: onlyDocumented, objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*\"]}}")}, from: "spiffe://corp/alice", want: oracle.Delivered},
	{rules: "X-74", claim: "a star is no SPIFFE identity", in: onlyLinkerd, objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {identities: [\"*\"]}}")}, from: "spiffe://corp/alice", want: oracle.Forbidden},
	{rules: "X-74", claim: "all-authenticated admits it", in: onlyDocumented, pod: podWith(annotated("all-authenticated")), from: "spiffe://corp/alice", want: oracle.Delivered},
	{rules: "X-74", claim: "all-authenticated refuses it", in: onlyLinkerd, pod: podWith(annotated("all-authenticated")), from: "spiffe://corp/alice", want: oracle.Forbidden},
	{rules: "T-04", claim: "a mapped address is the one of IPv4", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 203.0.113.0/24}]}")}, from: "unmeshed@::ffff:203.0.113.7", want: oracle.Delivered},
	{rules: "H-19", claim: "IPv6 has networks of its own", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 2001:db8::/32, except: [2001:db8:1::/48]}]}")}, from: "unmeshed@2001:db8:1::7", want: oracle.Forbidden},
	{rules: "X-33", claim: "an address of IPv6 is in none of IPv4", objects: []string{server("http", "http"), saz("a", byName, "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0}]}")}, from: "unmeshed@2001:db8::7", want: oracle.Forbidden},
}
