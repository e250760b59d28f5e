// Package faults is how an embedded cluster's pods are harmed on purpose from
// outside: the two ends of a socket in the cluster's state folder.
//
// Orders go in, from whoever holds the cluster; the node's own process, which
// holds the pods' processes and namespaces, carries them out. Whoever can reach
// the state folder could end the cluster anyway, so the socket asks nobody who
// he is; no pod sees it. The package knows nothing of policies or of what a
// fault is for, and keeps no time: what was disturbed stays so until it is
// calmed, or the cluster ends.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/network"
)

const (
	// orderLimit bounds an order, and answerLimit what is said of its failure.
	orderLimit, answerLimit = 16 << 10, 64 << 10
	// orderTimeout bounds how long an order takes; each takes milliseconds.
	orderTimeout = 10 * time.Second
)

// Pods reaches the pods that are to be harmed. Error: cluster.ErrNotFound.
type Pods interface {
	Signal(pod cluster.Pod, container string, signal syscall.Signal) error
	Limit(pod cluster.Pod, container string, more int) error
	// Network is the pod's network namespace; the caller closes it.
	Network(pod cluster.Pod) (*os.File, error)
}

// order is what goes over the socket.
type order struct {
	Pod         cluster.Pod          `json:"pod"`
	Container   string               `json:"container,omitempty"`
	Signal      int                  `json:"signal,omitempty"`
	More        int                  `json:"more,omitempty"`
	Disturbance *cluster.Disturbance `json:"disturbance,omitempty"`
}

// Paths of the orders.
const (
	signalPath  = "/signal"
	limitPath   = "/limit"
	disturbPath = "/disturb"
	calmPath    = "/calm"
)

// server carries orders out.
type server struct {
	pods Pods

	mu        sync.Mutex
	disturbed map[cluster.Pod]*network.Disturbed
}

// Serve carries orders out until ctx ends, and then calms what is disturbed. It
// closes the listener.
func Serve(ctx context.Context, listener net.Listener, pods Pods) error {
	s := &server{pods: pods, disturbed: map[cluster.Pod]*network.Disturbed{}}
	mux := http.NewServeMux()
	for path, carryOut := range map[string]func(order) error{signalPath: s.signal, limitPath: s.limit, disturbPath: s.disturb, calmPath: s.calm} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, carryOut) })
	}
	h := &http.Server{Handler: mux, ReadTimeout: orderTimeout}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	err := h.Serve(listener)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.disturbed {
		_ = one.Calm() // the namespaces end with the cluster
	}
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("take orders for faults: %w", err)
}

func answer(w http.ResponseWriter, r *http.Request, carryOut func(order) error) {
	var o order
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, orderLimit))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch err := carryOut(o); {
	case err == nil:
	case errors.Is(err, cluster.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *server) signal(o order) error {
	return s.pods.Signal(o.Pod, o.Container, syscall.Signal(o.Signal))
}

func (s *server) limit(o order) error { return s.pods.Limit(o.Pod, o.Container, o.More) }

func (s *server) disturb(o order) error {
	if o.Disturbance == nil {
		return errors.New("an order to disturb that does not say how")
	}
	if err := s.calm(o); err != nil {
		return err
	}
	namespace, err := s.pods.Network(o.Pod)
	if err != nil {
		return err
	}
	disturbed, err := network.Disturb(namespace, *o.Disturbance)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disturbed[o.Pod] = disturbed
	return nil
}

func (s *server) calm(o order) error {
	s.mu.Lock()
	disturbed := s.disturbed[o.Pod]
	delete(s.disturbed, o.Pod)
	s.mu.Unlock()
	if disturbed == nil {
		return nil
	}
	return disturbed.Calm()
}

// Client gives orders. It is safe for concurrent use.
type Client struct{ http *http.Client }

var _ cluster.Faults = (*Client)(nil)

// NewClient gives orders through the socket at a path, which need not exist yet.
func NewClient(socket string) *Client {
	return &Client{&http.Client{Timeout: orderTimeout, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) }}}}
}

// dial connects to a socket whose path may be longer than an address can be.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	folder, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(socket)))
}

// Signal implements cluster.Faults.
func (c *Client) Signal(ctx context.Context, pod cluster.Pod, container string, signal syscall.Signal) error {
	if err := c.order(ctx, signalPath, order{Pod: pod, Container: container, Signal: int(signal)}); err != nil {
		return fmt.Errorf("send %s to container %s of pod %s: %w", signal, container, pod, err)
	}
	return nil
}

// Limit implements cluster.Faults.
func (c *Client) Limit(ctx context.Context, pod cluster.Pod, container string, more int) error {
	if err := c.order(ctx, limitPath, order{Pod: pod, Container: container, More: more}); err != nil {
		return fmt.Errorf("limit the descriptors of container %s of pod %s: %w", container, pod, err)
	}
	return nil
}

// Disturb implements cluster.Faults.
func (c *Client) Disturb(ctx context.Context, pod cluster.Pod, disturbance cluster.Disturbance) error {
	err := disturbance.Check()
	if err == nil {
		err = c.order(ctx, disturbPath, order{Pod: pod, Disturbance: &disturbance})
	}
	if err != nil {
		return fmt.Errorf("disturb pod %s: %w", pod, err)
	}
	return nil
}

// Calm implements cluster.Faults.
func (c *Client) Calm(ctx context.Context, pod cluster.Pod) error {
	if err := c.order(ctx, calmPath, order{Pod: pod}); err != nil {
		return fmt.Errorf("calm pod %s: %w", pod, err)
	}
	return nil
}

func (c *Client) order(ctx context.Context, path string, o order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://faults"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", bytes.TrimSpace(text), cluster.ErrNotFound)
	}
	return errors.New(string(bytes.TrimSpace(text)))
}
