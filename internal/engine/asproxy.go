package engine

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
)

const (
	// inboundPort is where a proxy takes connections that name their target port.
	inboundPort = 4143
	// controlPort4190 and adminPort are the proxy's own: those are not named but
	// dialled.
	controlPort4190 = 4190
	// opaquePorts is the annotation that lists ports at which nothing is detected.
	opaquePorts = "config.linkerd.io/opaque-ports"
	// opaqueProtocol is what a proxy calls the protocol of such a port.
	opaqueProtocol = "opaque"
)

// asProxy turns a request into what a meshed client's proxy would send (T-30): to
// the target proxy's own port, in mesh TLS, with a header that names the port.
// The client must be able to certify itself.
func (e *run) asProxy(ctx context.Context, r clients.Request, pod *corev1.Pod, port int, server string) (clients.Request, error) {
	r.TLS, r.ServerName = clients.OwnIdentity, server
	if r.Host == "" {
		r.Host = r.Address // what the application would have said
	}
	if port == adminPort || port == controlPort4190 {
		r.ALPN = []string{""}
		return r, nil
	}
	r.Address = hostPort(pod.Status.PodIP, inboundPort)
	r.Transport = &clients.TransportHeader{Port: port}
	opaque, err := e.opaque(ctx, pod, port)
	if err != nil {
		return r, err
	}
	switch {
	case opaque:
	case r.Protocol == clients.HTTP1:
		r.Transport.Session = clients.HTTP1
	case r.Protocol == clients.HTTP2, r.Protocol == clients.GRPC, r.Protocol == clients.GRPCStream:
		r.Transport.Session = clients.HTTP2
	}
	return r, nil
}

// opaque says whether clients would not name what they speak at a port (T-36):
// because its pod says that it is opaque, or the Server in force does.
func (e *run) opaque(ctx context.Context, pod *corev1.Pod, port int) (bool, error) {
	for item := range strings.SplitSeq(pod.Annotations[opaquePorts], ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if errFrom == nil && errTo == nil && from <= port && port <= to {
			return true, nil
		}
	}
	var answer struct {
		Ports map[string]portPolicy `json:"ports"`
	}
	number := strconv.Itoa(port)
	query := url.Values{"port": {number}, "timeout": {inForceBudget.String()}}
	if err := e.get(ctx, nameOf(pod), proxyPort, "/policy", query, &answer); err != nil {
		return false, fmt.Errorf("ask which protocol is in force: %w", err)
	}
	return answer.Ports[number].Protocol == opaqueProtocol, nil
}
