package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/meshproof/meshproof/workloads/images"
)

const (
	// maxMessage is the largest CRI message, the kubelet's own limit.
	maxMessage = 16 << 20
	// closeTimeout bounds how long Serve waits for sandboxes to be taken down.
	closeTimeout = 10 * time.Second
	// firstOwnFD is the first descriptor after the standard ones.
	firstOwnFD = 3
)

// Config is what a Server needs. Zero values are replaced as told.
type Config struct {
	// BinDir holds the binaries that images name.
	BinDir string
	// RunDir is made, and belongs to the server: it mounts a tmpfs over it.
	RunDir string
	// Network of the pods.
	Network Network
	// Images resolves references and is images.Find by default.
	Images func(reference string) (images.Image, error)
	// StandIn says with which arguments an image that stands for another one runs
	// as a container of a pod; nil: such images are refused.
	StandIn func(ctx context.Context, namespace, pod, container string) ([]string, error)
	// AllImages lists them and is images.All by default.
	AllImages func() []images.Image
	// StreamAddr is where exec, attach and port-forward streams are served;
	// 127.0.0.1:0 by default.
	StreamAddr string
	// Log is slog.Default() by default.
	Log *slog.Logger
}

// Server is a container runtime. Its state is in memory only: what it runs
// does not outlive it.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	config    Config
	log       *slog.Logger
	ids       idMap
	streams   streaming.Server
	streamLis net.Listener
	sessions  sessions
	// oomKills is the kernel's count when it was last looked at.
	oomKills atomic.Uint64
	spawner  *spawner

	// mu guards the two maps and nothing slow.
	mu         sync.RWMutex
	sandboxes  map[string]*sandbox
	containers map[string]*container

	// running counts the goroutines that Serve waits for.
	running sync.WaitGroup
}

// New makes a server; Serve must be called, it is also what releases it. It
// marks all descriptors of the process after the standard ones to be closed on
// execve.
func New(config Config) (_ *Server, err error) {
	if config.Images == nil {
		config.Images = images.Find
	}
	if config.AllImages == nil {
		config.AllImages = images.All
	}
	if config.StreamAddr == "" {
		config.StreamAddr = "127.0.0.1:0"
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Network == nil {
		return nil, errors.New("container runtime: no pod network given")
	}
	s := &Server{config: config, log: config.Log, sandboxes: map[string]*sandbox{}, containers: map[string]*container{}}
	if s.ids, err = readIDMap(); err != nil {
		return nil, err
	}
	// What this process has inherited must not get into containers by exec.
	if err := unix.CloseRange(firstOwnFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep own descriptors from containers (Linux 5.12 or newer is needed): %w", err)
	}
	if err := s.makeRunDir(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.removeRunDir())
		}
	}()
	if s.streamLis, err = net.Listen("tcp", config.StreamAddr); err != nil {
		return nil, fmt.Errorf("listen for exec and port-forward streams: %w", err)
	}
	streamConfig := streaming.DefaultConfig
	streamConfig.BaseURL = &url.URL{Scheme: "http", Host: s.streamLis.Addr().String(), Path: "/"}
	if s.streams, err = streaming.NewServer(streamConfig, streamRuntime{s}); err != nil {
		return nil, errors.Join(fmt.Errorf("make stream server: %w", err), s.streamLis.Close())
	}
	s.oomKills.Store(oomKills())
	s.spawner = startSpawner()
	return s, nil
}

// staging is where every container assembles its root, each in its own mount
// namespace.
func (s *Server) staging() string { return filepath.Join(s.config.RunDir, "root") }

// sharedMemory is where the pods' /dev/shm are.
func (s *Server) sharedMemory() string { return filepath.Join(s.config.RunDir, "shm") }

func (s *Server) makeRunDir() error {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self", &stat); err != nil {
		return fmt.Errorf("find /proc: %w", err)
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != fmt.Sprint(os.Getpid()) {
		return fmt.Errorf("/proc belongs to another PID namespace: process %d is %q in it", os.Getpid(), self)
	}
	if err := os.MkdirAll(s.config.RunDir, 0o755); err != nil {
		return fmt.Errorf("make %q: %w", s.config.RunDir, err)
	}
	if err := unix.Mount("cri", s.config.RunDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount %q: %w", s.config.RunDir, err)
	}
	for _, directory := range []string{s.staging(), s.sharedMemory()} {
		if err := os.Mkdir(directory, 0o755); err != nil {
			return errors.Join(fmt.Errorf("make %q: %w", directory, err), s.removeRunDir())
		}
	}
	return nil
}

func (s *Server) removeRunDir() error {
	if err := unix.Unmount(s.config.RunDir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %q: %w", s.config.RunDir, err)
	}
	return nil
}

// Serve answers CRI calls until ctx ends, then kills every container, detaches
// every sandbox and waits for both. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.WaitForHandlers(true), grpc.ChainUnaryInterceptor(s.intercept))
	runtimeapi.RegisterRuntimeServiceServer(server, s)
	runtimeapi.RegisterImageServiceServer(server, s)
	streams := s.streamServer()

	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			failed <- fmt.Errorf("serve the container runtime interface: %w", err)
		}
	})
	serving.Go(func() {
		if err := streams.Serve(s.streamLis); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve streams: %w", err)
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	server.Stop()
	err = errors.Join(err, streams.Close())
	serving.Wait()
	return errors.Join(err, s.close())
}

// close takes everything down that calls have left.
func (s *Server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.mu.RLock()
	var all []*sandbox
	for _, sandbox := range s.sandboxes {
		all = append(all, sandbox)
	}
	s.mu.RUnlock()
	failures := make([]error, len(all))
	var stopping sync.WaitGroup
	for i, sandbox := range all {
		stopping.Go(func() { failures[i] = s.removeSandbox(ctx, sandbox) })
	}
	stopping.Wait()
	s.sessions.end()
	s.running.Wait()
	s.spawner.stop()
	return errors.Join(append(failures, s.removeRunDir())...)
}

// intercept gives every error a gRPC code and logs it.
func (s *Server) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err == nil {
		return response, nil
	}
	if _, ok := status.FromError(err); !ok {
		code := codes.Unknown
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			code = codes.DeadlineExceeded
		case errors.Is(err, context.Canceled):
			code = codes.Canceled
		}
		err = status.Error(code, err.Error())
	}
	// Callers ask for what has gone, and give up, as a matter of course.
	if code := status.Code(err); code != codes.NotFound && code != codes.Canceled {
		s.log.Warn("container runtime call failed", "method", info.FullMethod, "error", err)
	}
	return response, err
}
