package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/clients/load"
)

// service is what a target has one port for.
type service struct {
	protocol load.Protocol
	// mesh: mutual TLS from the client to the target.
	mesh bool
}

func (s service) String() string {
	if s.mesh {
		return string(s.protocol) + "-mtls"
	}
	return string(s.protocol)
}

// protocols are those of the sink; Connect uses HTTP1's port.
var protocols = []load.Protocol{load.HTTP1, load.Frames, load.GRPC, load.Bulk}

// target is something that stands in front of the sink.
type target struct {
	name string
	// packages are Debian's names of what must be installed, nil when this tree is enough.
	packages []string
	// program finds what must be installed; nil when this tree is enough.
	program func() (string, error)
	start   func(ctx context.Context, w *world, program string) (instance, error)
	// optional: rows may be empty.
	optional bool
}

// instance is a running target.
type instance interface {
	// address of a service, "" when it has none.
	address(service) string
	// pid is the process to judge, 0 for none.
	pid() int
	stop()
}

// enforcing is an instance whose policy can be changed.
type enforcing interface {
	apply(ctx context.Context, protocol load.Protocol, policy *pb.Server) error
}

// Names of targets.
const (
	nameOurs    = "meshproof"
	nameDirect  = "direct"
	nameNginx   = "nginx"
	nameHAProxy = "haproxy"
	nameReverse = "reverseproxy"
	nameEnvoy   = "envoy"
)

// targets in the order of the table's columns.
var targets = []target{
	{name: nameOurs, start: startOurs},
	{name: nameDirect, start: func(_ context.Context, w *world, _ string) (instance, error) { return direct{w}, nil }},
	{name: nameNginx, packages: []string{"nginx", "libnginx-mod-stream"}, program: findNginx, start: startNginx},
	{name: nameHAProxy, packages: []string{"haproxy"}, program: func() (string, error) { return find("haproxy") }, start: startHAProxy},
	{name: nameReverse, start: startReverse},
	{name: nameEnvoy, optional: true, program: func() (string, error) { return find("envoy") }, start: startEnvoy},
}

// find looks for a program where Debian puts servers, too.
func find(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// direct is no target at all.
type direct struct{ *world }

func (d direct) address(s service) string {
	if s.mesh {
		return ""
	}
	return d.sink[s.protocol]
}

func (direct) pid() int { return 0 }
func (direct) stop()    {}

// ported is a program with a port per service that it was told.
type ported struct {
	*process
	ports map[service]string
}

func (p ported) address(s service) string { return p.ports[s] }
func (p ported) pid() int                 { return p.cmd.Process.Pid }

// readyWithin is how long a target may take to listen.
const readyWithin = 10 * time.Second

// ready waits until all ports take connections.
func (p ported) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, address := range p.ports {
		for {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-p.ended:
				return fmt.Errorf("%s has ended\n%s", p.name, p.stderr.text)
			case <-ctx.Done():
				return fmt.Errorf("wait for %s: %w", p.name, err)
			case <-time.After(pollEvery):
			}
		}
	}
	return nil
}

const pollEvery = 5 * time.Millisecond

// allServices have a port each.
func allServices() []service {
	var all []service
	for _, protocol := range protocols {
		all = append(all, service{protocol, false}, service{protocol, true})
	}
	return all
}

// freePorts finds addresses that nothing listens on at the moment.
func freePorts(services []service) (map[service]string, error) {
	ports := map[service]string{}
	for _, s := range services {
		l, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[s] = l.Addr().String()
	}
	return ports, nil
}

// configured starts a program with a port per service and a configuration file
// in which {service} stands for the address of a port, {sink:protocol} for an
// application's, and {dir} for the folder with the certificates.
func configured(ctx context.Context, w *world, config, program string, args ...string) (instance, error) {
	ports, err := freePorts(allServices())
	if err != nil {
		return nil, err
	}
	var pairs []string
	for s, address := range ports {
		pairs = append(pairs, "{"+s.String()+"}", address)
		_, port, _ := net.SplitHostPort(address)
		pairs = append(pairs, "{"+s.String()+":port}", port)
	}
	for protocol, address := range w.sink {
		_, port, _ := net.SplitHostPort(address)
		pairs = append(pairs, "{sink:"+string(protocol)+"}", address, "{sink:"+string(protocol)+":port}", port)
	}
	text := strings.NewReplacer(append(pairs, "{dir}", w.dir)...).Replace(config)
	// Envoy goes by the name; the others do not care.
	file, err := os.CreateTemp(w.dir, "*.yaml")
	if err != nil {
		return nil, err
	}
	if _, err := file.WriteString(text); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	args = slices.Clone(args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{config}", file.Name())
	}
	p, err := launch(ctx, nil, nil, program, args...)
	if err != nil {
		return nil, err
	}
	made := ported{p, ports}
	if err := made.ready(ctx); err != nil {
		made.stop()
		return nil, err
	}
	return made, nil
}
