package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Client is who asks, with what people call it.
type Client struct {
	Name string
	oracle.Client
	// Assumed says that the address was not given.
	Assumed bool
}

// ParseClient reads NAMESPACE/SERVICEACCOUNT, spiffe://..., unmeshed,
// tls-no-identity, localhost or self, each with @ADDRESS or without. Without one
// the client is somewhere in the cluster's networks.
func ParseClient(text string, settings oracle.Settings) (Client, error) {
	who, at, given := strings.Cut(text, "@")
	client := Client{Name: text}
	if given {
		address, err := netip.ParseAddr(at)
		if err != nil {
			return client, fmt.Errorf("client %q: %q is no address", text, at)
		}
		client.Address = address
	} else if client.Address = inside(settings); client.Address.IsValid() {
		client.Assumed = true
	}
	namespace, account, meshed := strings.Cut(who, "/")
	switch {
	case who == "unmeshed":
		client.Way = oracle.Plain
	case who == "tls-no-identity":
		client.Way = oracle.TLSNoIdentity
	case who == "localhost":
		client.Way, client.Address, client.Assumed = oracle.Plain, netip.MustParseAddr("127.0.0.1"), false
	case who == "self":
		client.Way, client.Self = oracle.Plain, true
	case strings.HasPrefix(who, "spiffe://"):
		client.Way, client.Identity = oracle.Meshed, who
	case meshed && namespace != "" && account != "" && !strings.Contains(account, "/"):
		client.Way, client.Identity = oracle.Meshed, oracle.AccountIdentity(namespace, account, settings)
	default:
		return client, fmt.Errorf("client %q: want NAMESPACE/SERVICEACCOUNT, spiffe://ID, unmeshed, tls-no-identity, localhost or self, with @ADDRESS if it matters", text)
	}
	if !client.Address.IsValid() {
		return client, fmt.Errorf("client %q: the cluster has no networks, so an address is needed, as in %s@203.0.113.7", text, who)
	}
	return client, nil
}

// inside is some address in the cluster's networks.
func inside(settings oracle.Settings) netip.Addr {
	for _, network := range settings.ClusterNetworks {
		if address := network.Addr().Next(); network.Contains(address) {
			return address
		} else if network.IsSingleIP() {
			return network.Addr()
		}
	}
	return netip.Addr{}
}

// ParseRequest reads "METHOD /path", "h2 METHOD /path" or
// "grpc /package.Service/Method"; headers are NAME: VALUE, and Host is one.
func ParseRequest(text string, headers []string) (oracle.Request, error) {
	request := oracle.Request{Protocol: oracle.HTTP1, Headers: map[string]string{}}
	words := strings.Fields(text)
	want := fmt.Errorf("request %q: want \"METHOD /path\", \"h2 METHOD /path\" or \"grpc /package.Service/Method\"", text)
	if len(words) == 0 {
		return request, want
	}
	switch strings.ToLower(words[0]) {
	case "grpc":
		request.Protocol, words[0] = oracle.GRPC, "POST"
	case "h2":
		request.Protocol, words = oracle.HTTP2, words[1:]
	}
	if len(words) != 2 || !strings.HasPrefix(words[1], "/") || strings.ToUpper(words[0]) != words[0] {
		return request, want
	}
	request.Method, request.Path = words[0], words[1]
	if request.Protocol == oracle.GRPC && strings.Count(request.Path, "/") != 2 {
		return request, want
	}
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || name == "" {
			return request, fmt.Errorf("header %q: want NAME: VALUE", header)
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "host") {
			request.Host = value
		} else {
			request.Headers[name] = value
		}
	}
	return request, nil
}

// kindAliases are the ways in which commands spell kinds.
var kindAliases = map[string]string{
	"deployment": "deploy", "deployments": "deploy", "statefulset": "sts", "statefulsets": "sts", "daemonset": "ds", "daemonsets": "ds",
	"replicaset": "rs", "replicasets": "rs", "replicationcontroller": "rc", "jobs": "job", "cronjobs": "cronjob", "cj": "cronjob", "po": "pod", "pods": "pod",
}

// FindWorkload finds NAMESPACE/NAME, a Pod, or NAMESPACE/KIND/NAME.
func FindWorkload(set *objects.Set, text string) (objects.Workload, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 2 {
		parts = []string{parts[0], "pod", parts[1]}
	}
	if len(parts) != 3 || slices.Contains(parts, "") {
		return objects.Workload{}, fmt.Errorf("pod %q: want NAMESPACE/POD or NAMESPACE/KIND/NAME, as in emojivoto/deploy/web", text)
	}
	kind := cmp.Or(kindAliases[strings.ToLower(parts[1])], strings.ToLower(parts[1]))
	var known []string
	for _, w := range set.Workloads {
		if w.Pod.Namespace == parts[0] && w.Kind == kind && w.Pod.Name == parts[2] {
			return w, nil
		}
		known = append(known, w.String())
	}
	if len(known) == 0 {
		return objects.Workload{}, fmt.Errorf("pod %q: no workload was read, and without labels and ports nothing can be said: add its manifest with -f", text)
	}
	const few = 8
	if len(known) > few {
		known = append(known[:few], fmt.Sprintf("and %d more", len(known)-few))
	}
	return objects.Workload{}, fmt.Errorf("pod %q: not among what was read: %s", text, strings.Join(known, ", "))
}

// FindPort resolves a number, or the name of a declared port.
func FindPort(pod *corev1.Pod, text string) (number uint16, name string, err error) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
		for _, p := range oracle.Ports(pod) {
			if p.ContainerPort == int32(n) {
				name = p.Name
			}
		}
		return uint16(n), name, nil
	}
	var found, known []string
	for _, p := range oracle.Ports(pod) {
		if p.Name == text {
			number = uint16(p.ContainerPort)
			found = append(found, strconv.Itoa(int(p.ContainerPort)))
		}
		if p.Name != "" {
			known = append(known, p.Name)
		}
	}
	switch len(found) {
	case 1:
		return number, text, nil
	case 0:
		return 0, "", fmt.Errorf("port %q: not a number from 1 to 65535, nor one of %s", text, strings.Join(known, ", "))
	default:
		return 0, "", fmt.Errorf("port %q: several ports have this name: %s", text, strings.Join(found, ", "))
	}
}

// Natural is a request as it is usual where the protocol is spoken.
func Natural(protocol api.ProxyProtocol) oracle.Request {
	switch protocol {
	case api.ProtocolGRPC:
		return oracle.Request{Protocol: oracle.GRPC, Method: "POST", Path: "/any.Service/Call"}
	case api.ProtocolHTTP2:
		return oracle.Request{Protocol: oracle.HTTP2, Method: "GET", Path: "/"}
	case api.ProtocolOpaque, api.ProtocolTLS:
		return oracle.Request{Protocol: oracle.TCP}
	default:
		return oracle.Request{Protocol: oracle.HTTP1, Method: "GET", Path: "/"}
	}
}

// Describe is a request in the form in which ParseRequest reads it.
func Describe(r oracle.Request) string {
	text := ""
	switch r.Protocol {
	case oracle.GRPC:
		text = "grpc " + r.Path
	case oracle.HTTP2:
		text = "h2 " + r.Method + " " + r.Path
	case oracle.HTTP1:
		text = r.Method + " " + r.Path
	default:
		return string(r.Protocol)
	}
	if r.Host != "" {
		text += " at " + r.Host
	}
	return text
}
