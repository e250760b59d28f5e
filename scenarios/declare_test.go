package scenarios

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const declaring = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: declaring}
spec:
  summary: ports and probes besides those of the kind
  workloads:
    - name: app
      kind: echo
      ports:
        - {name: dns, port: 8081, protocol: UDP}
        - {name: aside, port: 9090, on: sidecar}
      probes:
        - {type: readiness, path: "/ready?x=1", port: http}
        - {type: liveness, path: /live, port: "9090", on: sidecar, performed: false}
  clients:
    - {name: c, kind: unmeshed}
  steps:
    - name: one
      claims:
        - {name: a, call: {client: c, target: "app:http", protocol: http1, expect: allowed}}
`

func TestPodsGetThePortsAndProbesThatAreDeclared(t *testing.T) {
	set, err := Parse("declaring.yaml", []byte(declaring), nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "echo", Image: "image", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}
	set.Scenarios[0].Spec.Workloads[0].Declare(&spec)
	app := spec.Containers[0]
	if len(app.Ports) != 2 || app.Ports[1].Name != "dns" || app.Ports[1].Protocol != corev1.ProtocolUDP {
		t.Errorf("the application declares %v", app.Ports)
	}
	if app.ReadinessProbe == nil || app.ReadinessProbe.HTTPGet.Path != "/ready?x=1" || app.ReadinessProbe.HTTPGet.Port.String() != "http" || app.LivenessProbe != nil {
		t.Errorf("the application's probes are %v and %v", app.ReadinessProbe, app.LivenessProbe)
	}
	if len(spec.InitContainers) != 1 {
		t.Fatalf("there are %d initContainers, want the sidecar", len(spec.InitContainers))
	}
	aside := spec.InitContainers[0]
	if aside.Image != "image" || aside.RestartPolicy == nil || *aside.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Errorf("the sidecar is %v, want one of the application's image that runs on", aside)
	}
	if len(aside.Ports) != 1 || aside.Ports[0].ContainerPort != 9090 {
		t.Errorf("the sidecar declares %v", aside.Ports)
	}
	if aside.LivenessProbe == nil || aside.LivenessProbe.InitialDelaySeconds < 600 || aside.LivenessProbe.HTTPGet.Port.IntValue() != 9090 {
		t.Errorf("the sidecar's probe is %v, want one that is never performed", aside.LivenessProbe)
	}
}

func TestDeclarationsThatMakeNoSenseAreRefused(t *testing.T) {
	for want, change := range map[string][2]string{
		"port 70000":                 {"port: 8081,", "port: 70000,"},
		"one readiness probe":        {`{type: liveness, path: /live, port: "9090", on: sidecar, performed: false}`, "{type: readiness, path: /b, port: http}"},
		"only a liveness probe":      {"{type: liveness,", "{type: startup,"},
		"only a workload of kind":    {"kind: echo", "kind: emojivoto"},
		`"ICMP" is not a port proto`: {"UDP", "ICMP"},
	} {
		text := strings.Replace(declaring, change[0], change[1], 1)
		if text == declaring {
			t.Fatalf("%q is not in the scenario", change[0])
		}
		if _, err := Parse("declaring.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %q the error is %v, want one that says %q", change[1], err, want)
		}
	}
}
