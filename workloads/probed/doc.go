// Package probed is a workload that answers every kind of probe a kubelet can
// make, readiness and liveness, each on a port of its own, so that a policy on
// one port bears on one probe.
//
// Probes come in, an answer by the probe's health goes out, and a count of what
// arrived is kept: GET /probes on the loopback port. All are healthy until told
// otherwise there (POST /probes?name=http-ready&healthy=false), so what makes
// a pod unready is otherwise the mesh. An unhealthy TCP probe's port is closed.
// The exec probes run this program, as `probed check NAME`, which asks the
// loopback port.
package probed

// Probe is one of the probes: its name and what it takes to declare it.
type Probe struct {
	// Name is also the name of the container port, where there is one.
	Name string
	Kind Kind
	// Port is 0 for exec.
	Port int
	// Liveness is false for a readiness probe.
	Liveness bool
}

// Kind is how a probe asks.
type Kind string

// The kinds of probe.
const (
	HTTP Kind = "http"
	TCP  Kind = "tcp"
	GRPC Kind = "grpc"
	Exec Kind = "exec"
)

const (
	// PortControl is the loopback port.
	PortControl = 4195
	// Path is what HTTP probes ask for. Any other path is answered too.
	Path = "/healthz"
)

// Probes lists all probes.
func Probes() []Probe {
	return []Probe{
		{"http-ready", HTTP, 8080, false}, {"http-live", HTTP, 8081, true},
		{"tcp-ready", TCP, 9080, false}, {"tcp-live", TCP, 9081, true},
		{"grpc-ready", GRPC, 9180, false}, {"grpc-live", GRPC, 9181, true},
		{"exec-ready", Exec, 0, false}, {"exec-live", Exec, 0, true},
	}
}

// Find returns the probe of that name.
func Find(name string) (Probe, bool) {
	for _, probe := range Probes() {
		if probe.Name == name {
			return probe, true
		}
	}
	return Probe{}, false
}
