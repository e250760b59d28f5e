package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// thousand is a manifest of a thousand objects: a hundred applications in ten
// namespaces, each with ten objects of every kind that policy knows.
func thousand() string {
	var b strings.Builder
	for i := range 100 {
		ns, app := fmt.Sprintf("ns-%d", i%10), fmt.Sprintf("app-%d", i)
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[2]s
  namespace: %[1]s
spec:
  replicas: 2
  selector:
    matchLabels:
      app: %[2]s
  template:
    metadata:
      labels:
        app: %[2]s
        tier: backend
      annotations:
        config.linkerd.io/default-inbound-policy: all-authenticated
    spec:
      serviceAccountName: %[2]s
      containers:
        - name: main
          image: example/%[2]s:v1
          ports:
            - {name: http, containerPort: 8080}
            - {name: grpc, containerPort: 8081}
          readinessProbe:
            httpGet: {path: /ready, port: http}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: %[2]s-http, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  podSelector:
    matchLabels:
      app: %[2]s
  port: http
  proxyProtocol: HTTP/1
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: %[2]s-grpc, namespace: %[1]s}
spec:
  podSelector:
    matchLabels:
      app: %[2]s
  port: grpc
  proxyProtocol: gRPC
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  server:
    selector:
      matchLabels:
        app: %[2]s
  client:
    meshTLS:
      serviceAccounts:
        - name: app-0
          namespace: ns-0
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  parentRefs:
    - {kind: Server, name: %[2]s-http}
  rules:
    - matches:
        - path: {value: /api}
          method: GET
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: %[2]s}
  requiredAuthenticationRefs:
    - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: %[2]s}
    - {group: policy.linkerd.io, kind: NetworkAuthentication, name: %[2]s}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  identities: ["*.ns-1.serviceaccount.identity.linkerd.cluster.local"]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  networks:
    - cidr: 10.0.0.0/8
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {app: %[2]s}
`, ns, app)
	}
	return b.String()
}

// BenchmarkExplain is one question about a thousand objects, reading them
// included: the figure to reach is 50 ms.
func BenchmarkExplain(b *testing.B) {
	text := thousand()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		set, err := objects.Read([]objects.Source{{Name: "thousand", Stream: strings.NewReader(text)}}, objects.Options{})
		if err != nil {
			b.Fatal(err)
		}
		workload, err := explain.FindWorkload(set, "ns-7/deploy/app-77")
		if err != nil {
			b.Fatal(err)
		}
		client, err := explain.ParseClient("ns-1/app-1", set.World.Settings)
		if err != nil {
			b.Fatal(err)
		}
		request := oracle.Request{Protocol: oracle.HTTP1, Method: "GET", Path: "/api"}
		answer := explain.Ask(oracle.New(set.World, api.Documented()), set, explain.Question{Workload: workload, Port: 8080, Client: client, Request: &request})
		if !answer.Allowed {
			b.Fatalf("%+v", answer)
		}
	}
}

// BenchmarkAsk is the question alone.
func BenchmarkAsk(b *testing.B) {
	set, err := objects.Read([]objects.Source{{Name: "thousand", Stream: strings.NewReader(thousand())}}, objects.Options{})
	if err != nil {
		b.Fatal(err)
	}
	workload, err := explain.FindWorkload(set, "ns-7/deploy/app-77")
	if err != nil {
		b.Fatal(err)
	}
	client, err := explain.ParseClient("ns-1/app-1", set.World.Settings)
	if err != nil {
		b.Fatal(err)
	}
	judge := oracle.New(set.World, api.Documented())
	for b.Loop() {
		explain.Ask(judge, set, explain.Question{Workload: workload, Port: 8080, Client: client})
	}
}

// BenchmarkMatrix is every question about a thousand objects.
func BenchmarkMatrix(b *testing.B) {
	set, err := objects.Read([]objects.Source{{Name: "thousand", Stream: strings.NewReader(thousand())}}, objects.Options{})
	if err != nil {
		b.Fatal(err)
	}
	judge := oracle.New(set.World, api.Documented())
	clients, err := explain.Clients(set, set.World.Settings)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		explain.NewMatrix(judge, set, clients)
	}
}
