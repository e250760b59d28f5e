package injector

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// D-19, D-20, K-03, K-05: where the proxy listens, what is redirected and what it
// asks about follow the annotations, of the pod or else of its namespace.
func TestTheProxyListensWhereItsAnnotationsSay(t *testing.T) {
	type seen struct {
		Inbound, Admin, Control, Ports, Detect, Unused string
		Redirected, Ignored                            string
		Container, ContainerAdmin                      int32
		Probe                                          intstr.IntOrString
		Await                                          []string
	}
	ordinary := seen{"0.0.0.0:4143", "0.0.0.0:4191", "0.0.0.0:4190", "8080,8801", "10s", "", "4143", "4190,4191,4567,4568", 4143, 4191, intstr.FromInt32(4191),
		[]string{agent, "proxy-await", "--timeout=2m"}}
	for name, row := range map[string]struct {
		pod, namespace map[string]string
		edit           func(*seen)
		notes          int
	}{
		"nothing said": {},
		"other ports": {pod: with(InboundPortAnnotation, "5143", AdminPortAnnotation, "5191", ControlPortAnnotation, "5190"), edit: func(s *seen) {
			s.Inbound, s.Admin, s.Control, s.Redirected, s.Ignored = "0.0.0.0:5143", "0.0.0.0:5191", "0.0.0.0:5190", "5143", "5190,5191,4567,4568"
			s.Container, s.ContainerAdmin, s.Probe = 5143, 5191, intstr.FromInt32(5191)
			s.Await = append(s.Await, "--url=http://127.0.0.1:5191/ready")
		}},
		"the namespace's": {namespace: with(InboundPortAnnotation, "5143"), edit: func(s *seen) {
			s.Inbound, s.Redirected, s.Container = "0.0.0.0:5143", "5143", 5143
		}},
		"no port":                  {pod: with(InboundPortAnnotation, "http", AdminPortAnnotation, "0", ControlPortAnnotation, "70000"), notes: 3},
		"one port twice":           {pod: with(InboundPortAnnotation, "4191"), notes: 1},
		"a port of its own":        {pod: with(AdminPortAnnotation, "4140"), notes: 1},
		"ports to ask about":       {pod: with(PodInboundPortsAnnotation, "9000, grpc"), edit: func(s *seen) { s.Ports = "8080,9000" }},
		"no ports to ask about":    {pod: with(PodInboundPortsAnnotation, ""), edit: func(s *seen) { s.Ports = "" }},
		"a port that is none":      {pod: with(PodInboundPortsAnnotation, "9000,none"), edit: func(s *seen) { s.Ports = "9000" }, notes: 1},
		"patience":                 {pod: with(NoDetectTimeoutAnnotation, "true"), edit: func(s *seen) { s.Detect = "8760h" }},
		"no patience":              {pod: with(NoDetectTimeoutAnnotation, "false"), namespace: with(NoDetectTimeoutAnnotation, "true")},
		"patience perhaps":         {pod: with(NoDetectTimeoutAnnotation, "perhaps"), notes: 1},
		"a short memory":           {pod: with(DiscoveryTimeoutAnnotation, "5s"), edit: func(s *seen) { s.Unused = "5s" }},
		"a memory of no time":      {pod: with(DiscoveryTimeoutAnnotation, "0"), notes: 1},
		"a memory without measure": {pod: with(DiscoveryTimeoutAnnotation, "long"), notes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if row.namespace == nil {
				row.namespace = map[string]string{}
			}
			row.namespace[InjectAnnotation] = "enabled"
			result := Inject(mkPod(row.pod), mkNamespace(row.namespace), mkSettings(t, nil))
			proxy, init := result.Pod.Spec.Containers[0], result.Pod.Spec.InitContainers[0]
			env := map[string]string{}
			for _, variable := range proxy.Env {
				env[variable.Name] = variable.Value
			}
			const prefix = "LINKERD2_PROXY_"
			got := seen{env[prefix+"INBOUND_LISTEN_ADDR"], env[prefix+"ADMIN_LISTEN_ADDR"], env[prefix+"CONTROL_LISTEN_ADDR"], env[prefix+"INBOUND_PORTS"],
				env[prefix+"INBOUND_DETECT_TIMEOUT"], env[prefix+"INBOUND_DISCOVERY_IDLE_TIMEOUT"], argument(init, "--incoming-proxy-port"), argument(init, "--inbound-ports-to-ignore"),
				proxy.Ports[0].ContainerPort, proxy.Ports[1].ContainerPort, proxy.ReadinessProbe.HTTPGet.Port, proxy.Lifecycle.PostStart.Exec.Command}
			want := ordinary
			want.Await = append([]string(nil), ordinary.Await...)
			if row.edit != nil {
				row.edit(&want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if len(result.Notes) != row.notes {
				t.Errorf("%d notes, want %d: %v", len(result.Notes), row.notes, result.Notes)
			}
		})
	}
}

// argument is what follows a flag.
func argument(container corev1.Container, flag string) string {
	for i, arg := range container.Args {
		if arg == flag {
			return container.Args[i+1]
		}
	}
	return ""
}
