package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// dialTimeout bounds a port-forward's connection to a port on the pod's own
// loopback, and the time until a stream's request has arrived.
const dialTimeout = 10 * time.Second

// sessions are the connections on which streams run. They are hijacked from
// the HTTP server, which forgets about them then.
type sessions struct {
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	ended   bool
	serving sync.WaitGroup
}

func (s *sessions) add(connection net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.open == nil {
		s.open = map[net.Conn]struct{}{}
	}
	s.open[connection] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *sessions) remove(connection net.Conn) {
	s.mu.Lock()
	delete(s.open, connection)
	s.mu.Unlock()
	s.serving.Done()
}

// end closes all connections and waits for their handlers.
func (s *sessions) end() {
	s.mu.Lock()
	s.ended = true
	for connection := range s.open {
		connection.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

type connectionKey struct{}

// streamServer serves exec, attach and port-forward, each request as a session.
func (s *Server) streamServer() *http.Server {
	return &http.Server{
		ReadHeaderTimeout: dialTimeout,
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connection)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			connection := r.Context().Value(connectionKey{}).(net.Conn)
			if !s.sessions.add(connection) {
				http.Error(w, "the runtime stops", http.StatusServiceUnavailable)
				return
			}
			defer s.sessions.remove(connection)
			s.streams.ServeHTTP(w, r)
		}),
	}
}

// Exec prepares a stream on which a command is run.
func (s *Server) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := s.mustRun(request.GetContainerId()); err != nil {
		return nil, err
	}
	return s.streams.GetExec(request)
}

// Attach prepares a stream to a container's own standard streams.
func (s *Server) Attach(_ context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := s.mustRun(request.GetContainerId()); err != nil {
		return nil, err
	}
	return s.streams.GetAttach(request)
}

// PortForward prepares a stream to the pod's loopback.
func (s *Server) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	pod, err := s.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if !pod.ready.Load() {
		return nil, status.Errorf(codes.FailedPrecondition, "pod sandbox %q has been stopped", pod.id)
	}
	return s.streams.GetPortForward(request)
}

func (s *Server) mustRun(containerID string) error {
	c, err := s.container(containerID)
	if err != nil {
		return err
	}
	if c.running() == nil {
		return status.Errorf(codes.FailedPrecondition, "container %q does not run", containerID)
	}
	return nil
}

// streamRuntime is the server as the stream server sees it.
type streamRuntime struct{ server *Server }

// exitError is a command's exit status in the form that clients are told it.
type exitError struct{ code int }

func (e exitError) Error() string   { return fmt.Sprintf("command terminated with exit code %d", e.code) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return e.code }

// Exec runs a command with the client's streams.
func (r streamRuntime) Exec(ctx context.Context, containerID string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := r.server.container(containerID)
	if err != nil {
		return err
	}
	end, err := c.execute(ctx, command, in, writer(out), writer(errOut), tty, resize)
	if err != nil {
		return err
	}
	if end.code != 0 {
		return exitError{end.code}
	}
	return nil
}

// writer avoids an interface that holds a nil.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// Attach connects the client to the container's standard streams until the
// container ends or the client goes.
func (r streamRuntime) Attach(ctx context.Context, containerID string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := r.server.container(containerID)
	if err != nil {
		return err
	}
	input := c.streams.input()
	if in != nil && input == nil {
		return errors.New("the container has no standard input, or no longer")
	}
	w := c.streams.attach()
	if w == nil {
		return fmt.Errorf("container %q does not run", c.id)
	}
	defer c.streams.detach(w)
	if in != nil {
		// Ends with the client's stream, and so after this function.
		go func() {
			_, _ = io.Copy(input, in)
			if c.streams.stdinOnce {
				c.streams.closeInput()
			}
		}()
	}
	var helpers sync.WaitGroup
	ended := make(chan struct{})
	defer helpers.Wait()
	defer close(ended)
	if c.streams.tty {
		helpers.Go(func() { followSize(ended, resize, c.streams.out) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case shown, ok := <-w.queue:
			if !ok {
				return nil
			}
			to := out
			if shown.isErr {
				to = errOut
			}
			if to == nil {
				continue
			}
			if _, err := to.Write(shown.text); err != nil {
				return nil // the client has gone
			}
		case <-w.gone:
			return errors.New("detached: the output was not read in time")
		}
	}
}

// PortForward connects a client's stream to a port on the pod's loopback.
func (r streamRuntime) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	pod, err := r.server.sandbox(sandboxID)
	if err != nil {
		return err
	}
	connection, err := pod.dial(ctx, port)
	if err != nil {
		return err
	}
	defer connection.Close()
	stop := context.AfterFunc(ctx, func() { connection.Close() })
	defer stop()
	go func() {
		// Ends with the stream, which is closed when this function returns.
		if _, err := io.Copy(connection, stream); err != nil {
			connection.Close()
			return
		}
		_ = connection.CloseWrite()
	}()
	if _, err := io.Copy(stream, connection); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("forward port %d: %w", port, err)
	}
	return nil
}

// dial connects from inside the pod's network to its loopback.
func (pod *sandbox) dial(ctx context.Context, port int32) (*net.TCPConn, error) {
	var connection net.Conn
	err := onThread(func() error {
		pod.mu.RLock()
		if !pod.ready.Load() {
			pod.mu.RUnlock()
			return fmt.Errorf("pod sandbox %q has been stopped", pod.id)
		}
		var err error
		if !pod.hostNetwork() {
			err = unix.Setns(int(pod.namespaces[0].Fd()), unix.CLONE_NEWNET)
		}
		pod.mu.RUnlock()
		if err != nil {
			return fmt.Errorf("join the pod's network: %w", err)
		}
		// One address each: the dialer makes the socket on this thread.
		dialer := net.Dialer{Timeout: dialTimeout}
		connection, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err != nil {
			var other error
			if connection, other = dialer.DialContext(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(int(port)))); other == nil {
				err = nil
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("forward port %d: %w", port, err)
	}
	return connection.(*net.TCPConn), nil
}
