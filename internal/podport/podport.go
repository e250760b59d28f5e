// Package podport asks ports on the loopback of pods, through the API server's
// port-forward: what the mesh tells about itself it tells there and nowhere else.
//
// A pod and a port go in, a local port or an answer comes out. It needs the right
// to create pods/portforward and no route into the cluster's network. It keeps no
// connection: whoever asks often keeps what Open gave him.
package podport

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// maxAnswer bounds what is read of one answer.
const maxAnswer = 32 << 20

// Cluster is how to reach one.
type Cluster struct {
	Config *rest.Config
	Client kubernetes.Interface
}

// Open opens a local port that ends at a loopback port of the pod; stop closes it
// and waits for it to be gone.
func (c Cluster) Open(ctx context.Context, pod types.NamespacedName, port int) (local uint16, stop func(), err error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return 0, nil, fmt.Errorf("make a client of port-forward: %w", err)
	}
	at := c.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, at)
	quit, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", port)}, quit, ready, io.Discard, io.Discard)
	if err != nil {
		return 0, nil, fmt.Errorf("forward to %s port %d: %w", pod, port, err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	stop = func() { close(quit); <-done }
	select {
	case err := <-done:
		return 0, nil, fmt.Errorf("forward to %s port %d: %w", pod, port, err)
	case <-ctx.Done():
		stop()
		return 0, nil, ctx.Err()
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) == 0 {
		stop()
		return 0, nil, fmt.Errorf("forward to %s port %d: no local port: %w", pod, port, err)
	}
	return ports[0].Local, stop, nil
}

// Get asks a loopback port of the pod over HTTP and returns status and body.
func (c Cluster) Get(ctx context.Context, pod types.NamespacedName, port int, path string, query url.Values) (status int, body []byte, err error) {
	local, stop, err := c.Open(ctx, pod, port)
	if err != nil {
		return 0, nil, err
	}
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s?%s", local, path, query.Encode()), nil)
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s port %d for %s: %w", pod, port, path, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s port %d for %s: %w", pod, port, path, err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("read what %s port %d answers to %s: %w", pod, port, path, err)
	}
	return response.StatusCode, body, nil
}
