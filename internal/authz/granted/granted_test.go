package granted

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

const manifests = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: shop, labels: {kind: public}}
spec: {podSelector: {matchLabels: {app: web}}, port: http, accessPolicy: audit}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: grpc, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: sidecar, proxyProtocol: gRPC}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: bare, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 9999}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: elsewhere}
spec: {podSelector: {}, port: http}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: friends, namespace: shop}
spec: {server: {selector: {matchLabels: {kind: public}}}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: bare, namespace: shop}
spec: {server: {name: bare}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: whole, namespace: shop}
spec: {targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}]
  rules: [{matches: [{path: {value: /api}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}]
  rules: [{matches: [{path: {value: /v2}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: say, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: grpc}]
  rules: [{}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: api}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: speakers, namespace: shop}
spec: {targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: say}, requiredAuthenticationRefs: []}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec:
  initContainers: [{name: side, image: i, restartPolicy: Always, ports: [{name: sidecar, containerPort: 7000}]}]
  containers: [{name: app, image: i, ports: [{name: http, containerPort: 8080}]}]
`

func table(t *testing.T, dialect api.Dialect, wide bool) string {
	t.Helper()
	set, err := objects.Read([]objects.Source{{Name: "manifests", Stream: strings.NewReader(manifests)}}, objects.Options{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	set.World.Settings = oracle.DefaultSettings()
	var pods []*corev1.Pod
	for _, w := range set.Workloads {
		pods = append(pods, w.Pod, w.Pod)
	}
	var out strings.Builder
	if err := Write(&out, Rows(oracle.New(set.World, dialect), pods), wide); err != nil {
		t.Fatal(err)
	}
	var trimmed strings.Builder
	for line := range strings.Lines("\n" + out.String()) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}

// V-20 to V-23: Linkerd's columns, with the routes that its table leaves out; the
// port that is not declared is left out although the Server selects it.
func TestTheTableOfObjects(t *testing.T) {
	want := `
ROUTE            SERVER  AUTHORIZATION_POLICY  SERVER_AUTHORIZATION
*                grpc    whole
say (GRPCRoute)  grpc    speakers
*                http                          friends
*                http    whole
api              http    readers
`
	for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
		if diff := cmp.Diff(want, table(t, dialect, false)); diff != "" {
			t.Errorf("%s: -want +got\n%s", dialect, diff)
		}
	}
}

func TestTheWideTableHasWhatIsBuiltIn(t *testing.T) {
	got := table(t, api.Linkerd(), true)
	for _, want := range []string{
		"default:all-unauthenticated                                              default/all-unauthenticated  declared",
		"http                                                                     default/audit                declared",
		"api (HTTPRoute.gateway.networking.k8s.io)  http                                                                                                  declared",
		"bare                         bare                                        undeclared",
		"default/probe",
	} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
