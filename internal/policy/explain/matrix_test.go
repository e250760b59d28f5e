package explain_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// TestAMatrixHasARowForEachThingThatRoutesTellApart: a route's match, what no
// route matches, a probe, and the natural request elsewhere.
func TestAMatrixHasARowForEachThingThatRoutesTellApart(t *testing.T) {
	set, err := objects.Read([]objects.Source{{Name: "in", Stream: strings.NewReader(`
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: shop, labels: {app: web}, annotations: {config.linkerd.io/default-inbound-policy: deny}}
spec:
  serviceAccountName: app
  containers:
    - name: app
      ports: [{name: http, containerPort: 8080}, {name: rpc, containerPort: 8081}, {name: raw, containerPort: 9090}, {containerPort: 7070}]
      readinessProbe: {httpGet: {path: /ready, port: 7070}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: shop}
spec: {podSelector: {}, port: http}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: rpc, namespace: shop}
spec: {podSelector: {}, port: rpc, proxyProtocol: gRPC}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: raw, namespace: shop}
spec: {podSelector: {}, port: raw, proxyProtocol: opaque, accessPolicy: all-authenticated}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{kind: Server, name: http}]
  hostnames: ["*.shop.example"]
  rules:
    - matches:
        - path: {value: /orders}
          method: POST
        - queryParams: [{name: a, value: b}, {name: c, value: d}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: rpc}], rules: [{matches: [{method: {service: shop.Orders}}]}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: orders}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: till}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
`)}}, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := explain.Clients(set, set.World.Settings)
	if err != nil {
		t.Fatal(err)
	}
	matrix := explain.NewMatrix(oracle.New(set.World, api.Documented()), set, clients)
	var table, markdown bytes.Buffer
	if err := matrix.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	want := `WORKLOAD  PORT                SERVER        REQUEST                               shop/app     shop/till  unmeshed
shop/app  linkerd-admin 4191  default/deny  GET /                                 http-403     http-403   http-403
shop/app  7070                default/deny  GET /ready                            yes          yes        yes
shop/app  7070                default/deny  GET /                                 http-403     http-403   http-403
shop/app  http 8080           server/http   POST /orders at any.shop.example      http-403     yes        http-403
shop/app  http 8080           server/http   GET /?a=b&c=d at any.shop.example     http-403     yes        http-403
shop/app  http 8080           server/http   GET /no-such-route                    http-404     http-404   http-404
shop/app  rpc 8081            server/rpc    grpc /shop.Orders/Call                grpc-7       grpc-7     grpc-7
shop/app  rpc 8081            server/rpc    grpc /any.Service/Call                grpc-5       grpc-5     grpc-5
shop/app  raw 9090            server/raw    tcp                                   yes          yes        closed
not considered: 1 of v1 ConfigMap (in:51): does not concern inbound policy
`
	squeeze := func(text string) []string {
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	if diff := cmp.Diff(squeeze(want), squeeze(table.String())); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := matrix.WriteMarkdown(&markdown); err != nil {
		t.Fatal(err)
	}
	if got := markdown.String(); strings.Count(got, "\n") != 2+len(matrix.Rows) || !strings.Contains(got, "| shop/app | raw 9090 | server/raw | `tcp` | yes | yes | closed |\n") {
		t.Errorf("Markdown:\n%s", got)
	}
}

// TestEveryOutcomeHasWords: an outcome without words would be told by its code.
func TestEveryOutcomeHasWords(t *testing.T) {
	for _, outcome := range oracle.Outcomes() {
		var out bytes.Buffer
		if err := (explain.Answer{Verdict: oracle.Verdict{Outcome: outcome}}).WriteText(&out); err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(out.String(), "\n"); strings.HasSuffix(first, ": "+string(outcome)) {
			t.Errorf("%s: %s", outcome, first)
		}
	}
}
