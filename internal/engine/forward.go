package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// forwarder reaches loopback ports of pods. It keeps one port-forward per pod
// open and makes a stream of it per connection, so that a question to a proxy
// costs no connection of its own. It listens on no local port.
type forwarder struct {
	config *rest.Config
	kube   kubernetes.Interface

	mu    sync.Mutex
	pods  map[types.NamespacedName]*podForward
	https map[podPort]*http.Transport
}

type podPort struct {
	pod  types.NamespacedName
	port int
}

func newForwarder(config *rest.Config, kube kubernetes.Interface) *forwarder {
	return &forwarder{config: config, kube: kube, pods: map[types.NamespacedName]*podForward{}, https: map[podPort]*http.Transport{}}
}

// podForward is the port-forward of one pod.
type podForward struct {
	mu         sync.Mutex
	connection httpstream.Connection
	requests   atomic.Int64
}

// transport returns a transport whose connections end at the pod's port.
func (f *forwarder) transport(pod types.NamespacedName, port int) http.RoundTripper {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := podPort{pod, port}
	t := f.https[key]
	if t == nil {
		t = &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, pod, port) },
			MaxIdleConnsPerHost: idleStreams, DisableCompression: true,
		}
		f.https[key] = t
	}
	return t
}

// idleStreams is how many streams to one port are kept for the next question.
const idleStreams = 8

// dial opens a stream to the pod's port, and the port-forward first when there
// is none.
func (f *forwarder) dial(ctx context.Context, pod types.NamespacedName, port int) (net.Conn, error) {
	f.mu.Lock()
	p := f.pods[pod]
	if p == nil {
		p = &podForward{}
		f.pods[pod] = p
	}
	f.mu.Unlock()
	connection, err := f.connect(ctx, p, pod)
	if err != nil {
		return nil, err
	}
	conn, err := p.stream(connection, pod, port)
	if err == nil {
		return conn, nil
	}
	// A port-forward that has died is found out here: one more try on a new one.
	p.forget(connection)
	if connection, err = f.connect(ctx, p, pod); err != nil {
		return nil, err
	}
	return p.stream(connection, pod, port)
}

func (f *forwarder) connect(ctx context.Context, p *podForward, pod types.NamespacedName) (httpstream.Connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connection != nil {
		select {
		case <-p.connection.CloseChan():
			p.connection = nil
		default:
			return p.connection, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		return nil, fmt.Errorf("prepare a port-forward: %w", err)
	}
	url := f.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	connection, _, err := spdy.NewDialer(upgrader, &http.Client{Transport: transport, Timeout: portForwardBudget}, http.MethodPost, url).Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("open a port-forward to %s: %w", pod, err)
	}
	p.connection = connection
	return connection, nil
}

func (p *podForward) forget(connection httpstream.Connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connection == connection {
		p.connection = nil
	}
	_ = connection.Close()
}

func (p *podForward) stream(connection httpstream.Connection, pod types.NamespacedName, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(p.requests.Add(1), 10))
	errs, err := connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s port %d: %w", pod, port, err)
	}
	_ = errs.Close() // nothing is ever written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := connection.CreateStream(headers)
	if err != nil {
		connection.RemoveStreams(errs)
		return nil, fmt.Errorf("open a stream to %s port %d: %w", pod, port, err)
	}
	conn := &streamConn{Stream: data, connection: connection, errs: errs, what: fmt.Sprintf("%s port %d", pod, port)}
	conn.watch.Go(conn.readError)
	return conn, nil
}

// close ends every port-forward.
func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.https {
		t.CloseIdleConnections()
	}
	for _, p := range f.pods {
		p.mu.Lock()
		if p.connection != nil {
			_ = p.connection.Close()
		}
		p.mu.Unlock()
	}
	f.pods, f.https = map[types.NamespacedName]*podForward{}, map[podPort]*http.Transport{}
}

// drop ends the port-forward of a pod that is gone.
func (f *forwarder) drop(pod types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, t := range f.https {
		if key.pod == pod {
			t.CloseIdleConnections()
			delete(f.https, key)
		}
	}
	if p := f.pods[pod]; p != nil {
		delete(f.pods, pod)
		p.mu.Lock()
		if p.connection != nil {
			_ = p.connection.Close()
		}
		p.mu.Unlock()
	}
}

// streamConn makes a net.Conn of the two streams of a forwarded connection.
type streamConn struct {
	httpstream.Stream
	connection httpstream.Connection
	errs       httpstream.Stream
	what       string
	watch      sync.WaitGroup
	once       sync.Once
	failure    atomic.Pointer[error]
}

// readError waits for what the far side says on the error stream; nothing means
// that the connection ended in order.
func (c *streamConn) readError() {
	text, err := io.ReadAll(io.LimitReader(c.errs, 4<<10))
	if err == nil && len(text) > 0 {
		failure := fmt.Errorf("connect to %s: %s", c.what, text)
		c.failure.Store(&failure)
		_ = c.Stream.Reset()
	}
}

func (c *streamConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if err != nil {
		if failure := c.failure.Load(); failure != nil {
			err = *failure
		}
	}
	return n, err
}

func (c *streamConn) Close() error {
	c.once.Do(func() {
		_ = c.Stream.Reset()
		_ = c.errs.Reset()
		c.connection.RemoveStreams(c.Stream, c.errs)
		c.watch.Wait()
	})
	return nil
}

func (c *streamConn) LocalAddr() net.Addr  { return forwardAddr("local") }
func (c *streamConn) RemoteAddr() net.Addr { return forwardAddr(c.what) }

// Deadlines are the callers' contexts: http.Transport closes the connection.
func (c *streamConn) SetDeadline(time.Time) error      { return nil }
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

type forwardAddr string

func (forwardAddr) Network() string  { return "portforward" }
func (a forwardAddr) String() string { return string(a) }

var errNoPod = errors.New("there is no such pod")
