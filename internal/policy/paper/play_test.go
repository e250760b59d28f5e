package paper

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

func played(t *testing.T, text string, manifests map[string]string) *Play {
	t.Helper()
	set, err := scenarios.Parse("s.yaml", []byte(text), func(name string) ([]byte, error) {
		if manifest, there := manifests[name]; there {
			return []byte(manifest), nil
		}
		return nil, fmt.Errorf("there is no %s", name)
	})
	if err != nil {
		t.Fatal(err)
	}
	return New(set, set.Scenarios[0], scenarios.Documented)
}

const head = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: played}
spec:
  summary: Played on paper
  clients: [{name: alice, kind: unmeshed}]
`

const templated = head + `  workloads: [{name: app, kind: echo}]
  traffic: [{name: alice, client: alice, target: "app:http", protocol: http1, rate: 10}]
  steps:
    - name: closed and opened by the template of the pods
      actions:
        - patch: {kind: Deployment, name: app, merge: {spec: {template: {metadata: {annotations: {config.linkerd.io/default-inbound-policy: deny}}}}}}
        - patch: {kind: Deployment, name: app, merge: {spec: {replicas: 2}}}
        - restart: {workload: app}
        - patch: {kind: Deployment, name: app, merge: {spec: {template: {metadata: {annotations: {config.linkerd.io/default-inbound-policy: null}}}}}}
`

func TestEditsOfATemplateHoldForPodsThatAreMadeAgain(t *testing.T) {
	p := played(t, templated, nil)
	var versions []oracle.Outcome
	p.SawWindow = func(w Window) {
		for _, version := range w.Versions {
			versions = append(versions, version.Outcome)
		}
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(versions), "[delivered http-403 http-403 http-403 delivered]"; got != want {
		t.Errorf("version by version %s, want %s", got, want)
	}
}

func TestPodsThatAreMadeWithoutTheInjectorHaveNoProxy(t *testing.T) {
	p := played(t, strings.Replace(head, "spec:\n", "spec:\n  serial: true\n", 1)+`  workloads: [{name: app, kind: echo, annotations: {config.linkerd.io/default-inbound-policy: deny}}]
  traffic: [{name: alice, client: alice, target: "app:http", protocol: http1, rate: 10}]
  steps:
    - name: gone, and back
      actions:
        - fault: {name: away, kind: injector-down}
        - restart: {workload: app}
        - heal: away
        - restart: {workload: app}
`, nil)
	var versions []oracle.Outcome
	p.SawWindow = func(w Window) {
		for _, version := range w.Versions {
			versions = append(versions, version.Outcome)
		}
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(versions), "[http-403 http-403 unpoliced unpoliced http-403]"; got != want {
		t.Errorf("version by version %s, want %s", got, want)
	}
}

func TestWhatDoesNotExistCannotBeDeleted(t *testing.T) {
	p := played(t, head+`  workloads: [{name: app, kind: echo}]
  steps:
    - name: nothing
      actions: [{delete: [{kind: Server, name: http}]}]
`, nil)
	if err := p.Run(); err == nil || !strings.Contains(err.Error(), "Server mp-played/http is deleted and does not exist") {
		t.Errorf("the error is %v", err)
	}
}

const shop = `apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}, annotations: {config.linkerd.io/default-inbound-policy: all-authenticated}}
    spec: {containers: [{name: nginx, image: docker.io/library/nginx, ports: [{name: web, containerPort: 80}]}]}
`

func TestUsersOwnPodsAreWhatTheirFileSays(t *testing.T) {
	p := played(t, head+`  workloads: [{name: shop, kind: manifest, manifest: shop.yaml}]
  steps:
    - name: called
      claims:
        - {name: she is denied, call: {client: alice, target: "cart:web", protocol: http1, expect: denied}}
    - name: called under a Server
      actions:
        - apply: [{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: web}, spec: {podSelector: {matchLabels: {app: cart}}, port: web, accessPolicy: all-unauthenticated}}]
      claims:
        - {name: she is let in, call: {client: alice, target: "cart:web", protocol: http1, expect: allowed}}
`, map[string]string{"shop.yaml": shop})
	p.Differs = func(c scenarios.Claim, what string) { t.Errorf("%s: %s", c.Name, what) }
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if p.Asked["call"] != 2 {
		t.Errorf("%d calls were asked about, want 2", p.Asked["call"])
	}
}
