package scenarios

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const shop = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {run: cart}}
  template:
    metadata: {labels: {run: cart}}
    spec:
      serviceAccountName: cart
      containers:
        - name: nginx
          image: nginx:1.27
          ports: [{name: web, containerPort: 8080}, {containerPort: 9090}, {containerPort: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: cart-headless, namespace: shop}
spec: {clusterIP: None, selector: {run: cart}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart-svc, namespace: shop}
spec: {selector: {run: cart}, ports: [{port: 80, targetPort: web}, {port: 9090}]}
---
apiVersion: v1
kind: Pod
metadata: {name: tool, namespace: shop}
spec: {containers: [{name: tool, image: busybox}]}
`

func TestAWorkloadOfAFileIsCalledByTheNamesOfItsObjects(t *testing.T) {
	const text = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: own}
spec:
  summary: somebody's own
  workloads: [{name: shop, kind: manifest, manifest: shop.yaml}]
  clients: [{name: alice, kind: meshed}]
  steps:
    - name: one
      claims: [{name: a, call: {client: alice, target: "cart:web", protocol: http1, expect: allowed}}]
`
	read := func(name string) ([]byte, error) {
		if name != "shop.yaml" {
			return nil, errors.New("no such file")
		}
		return []byte(shop), nil
	}
	set, err := Parse("own.yaml", []byte(text), read)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Component{
		"cart": {Service: "cart-svc", Replicas: 2, ServiceAccount: "cart", Ports: map[string]Port{"web": {Container: 8080, Service: 80}, "9090": same(9090)}},
		"tool": {Replicas: 1, Ports: map[string]Port{}},
	}
	if diff := cmp.Diff(want, set.Scenarios[0].Spec.Workloads[0].Components()); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
	for _, row := range []struct{ from, to, problem string }{
		{"manifest: shop.yaml", "manifest: other.yaml", "no such file"},
		{"manifest: shop.yaml", "replicas: 2, manifest: shop.yaml", "stands in shop.yaml"},
		{", manifest: shop.yaml", "", "needs manifest"},
		{"kind: manifest", "kind: echo", "only a workload of kind manifest"},
		{"cart:web", "cart:http", `has no port "http"`},
	} {
		_, err := Parse("own.yaml", []byte(strings.Replace(text, row.from, row.to, 1)), read)
		if err == nil || !strings.Contains(err.Error(), row.problem) {
			t.Errorf("with %q: %v, want %q", row.to, err, row.problem)
		}
	}
}
