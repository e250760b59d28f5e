package scenarios

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Component is one set of pods of a workload kind, as it is called.
type Component struct {
	// Service that stands before the pods.
	Service string
	// Ports by name.
	Ports map[string]Port
	// Replicas and ServiceAccount are those of a part of a workload of kind manifest.
	Replicas       int
	ServiceAccount string
}

// Port of a component.
type Port struct {
	// Container is the port in the pod, Service the one of the Service.
	Container, Service int
}

// AdminPort is the proxy's own port: every injected pod has it.
const (
	AdminPort     = 4191
	AdminPortName = "linkerd-admin"
)

func same(port int) Port { return Port{Container: port, Service: port} }

// emojivotoComponents are the parts of the sample application (rules E-02, E-03).
var emojivotoComponents = map[string]Component{
	"web":      {Service: "web-svc", Ports: map[string]Port{"http": {Container: 8080, Service: 80}}},
	"emoji":    {Service: "emoji-svc", Ports: map[string]Port{"grpc": same(8080), "prom": same(8801)}},
	"voting":   {Service: "voting-svc", Ports: map[string]Port{"grpc": same(8080), "prom": same(8801)}},
	"vote-bot": {Ports: map[string]Port{}},
}

// echoPorts and probedPorts are what those programs listen on; a test compares
// them with the programs.
var (
	echoPorts = map[string]Port{
		"http": same(8080), "grpc": same(8081), "tls": same(8443), "tcp": same(9090), "server-first": same(9091),
	}
	probedPorts = map[string]Port{
		"http-ready": same(8080), "http-live": same(8081), "tcp-ready": same(9080), "tcp-live": same(9081), "grpc-ready": same(9180), "grpc-live": same(9181),
	}
)

// Components lists what a workload consists of, by the name with which it is
// called as a target.
func (w *Workload) Components() map[string]Component {
	switch w.Kind {
	case Emojivoto:
		return emojivotoComponents
	case FromManifest:
		return w.Parts
	case Probed:
		return map[string]Component{w.Name: {Service: w.Name, Ports: probedPorts}}
	default:
		return map[string]Component{w.Name: {Service: w.Name, Ports: echoPorts}}
	}
}

// Target is a resolved WORKLOAD:PORT.
type Target struct {
	Workload  *Workload
	Component string
	Service   string
	// Port in the pod and of the Service; PortName as declared, or empty.
	Port, ServicePort int
	PortName          string
}

func (t Target) String() string {
	if t.PortName != "" {
		return t.Component + ":" + t.PortName
	}
	return t.Component + ":" + strconv.Itoa(t.Port)
}

// Component finds the workload and component with that name.
func (s *Scenario) Component(name string) (*Workload, Component, bool) {
	for i := range s.Spec.Workloads {
		if component, ok := s.Spec.Workloads[i].Components()[name]; ok {
			return &s.Spec.Workloads[i], component, true
		}
	}
	return nil, Component{}, false
}

// naturalPorts are where a protocol is spoken when a target names no port.
var naturalPorts = map[Protocol]string{
	HTTP1: "http", HTTP2: "http", GRPC: "grpc", GRPCStream: "grpc", TCP: "tcp", TCPServerFirst: "server-first", TCPSilent: "tcp", HTTPUpgrade: "http", HTTPConnect: "http",
}

// Target resolves WORKLOAD:PORT, or WORKLOAD alone for the port where the
// protocol is spoken.
func (s *Scenario) Target(text string, protocol Protocol) (Target, error) {
	name, portText, ok := strings.Cut(text, ":")
	if !ok {
		portText = naturalPorts[protocol]
	}
	if portText == "" {
		return Target{}, fmt.Errorf("target %q is not WORKLOAD:PORT", text)
	}
	workload, component, ok := s.Component(name)
	if !ok {
		return Target{}, fmt.Errorf("target %q: no workload is called %q: %s", text, name, didYouMean(name, s.componentNames()))
	}
	target := Target{Workload: workload, Component: name, Service: component.Service}
	if portText == AdminPortName || portText == strconv.Itoa(AdminPort) {
		target.Port, target.ServicePort, target.PortName = AdminPort, AdminPort, AdminPortName
		return target, nil
	}
	if port, ok := component.Ports[portText]; ok {
		target.Port, target.ServicePort, target.PortName = port.Container, port.Service, portText
		return target, nil
	}
	number, err := strconv.Atoi(portText)
	if err != nil || number < 1 || number > 65535 {
		var names []string
		for port := range component.Ports {
			names = append(names, port)
		}
		return Target{}, fmt.Errorf("target %q: %s has no port %q: %s", text, name, portText, didYouMean(portText, append(names, AdminPortName)))
	}
	target.Port, target.ServicePort = number, number
	for portName, port := range component.Ports {
		if port.Container == number {
			target.PortName, target.ServicePort = portName, port.Service
		}
	}
	return target, nil
}

func (s *Scenario) componentNames() []string {
	var names []string
	for i := range s.Spec.Workloads {
		for name := range s.Spec.Workloads[i].Components() {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}
