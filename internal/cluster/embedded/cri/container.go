package cri

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
)

const (
	// killTimeout bounds the wait for a process after SIGKILL. It is long:
	// passing it means that a process hangs in the kernel.
	killTimeout = 10 * time.Second
	// startErrorStatus is the exit status of a container whose command could
	// not be started, as other runtimes have it.
	startErrorStatus = 128
)

// Reasons in a container's status.
const (
	reasonCompleted  = "Completed"
	reasonError      = "Error"
	reasonOOMKilled  = "OOMKilled"
	reasonStartError = "StartError"
)

// container is one attempt at running a container of a pod.
type container struct {
	id     string
	pod    *sandbox
	config *runtimeapi.ContainerConfig
	image  string
	// standIn says that it runs in the place of an image that is not here.
	standIn bool
	spec    *containerinit.Spec
	created time.Time
	log     *containerLog
	streams streams
	// exited is closed when the container has ended, with its output written.
	exited chan struct{}

	// starting serialises StartContainer and RemoveContainer.
	starting sync.Mutex
	// killed is set before SIGKILL is sent on purpose.
	killed atomic.Bool
	// joinedCPU is the processor time of ended exec processes, in nanoseconds.
	joinedCPU atomic.Int64

	mu                sync.Mutex
	state             runtimeapi.ContainerState
	started, finished time.Time
	exitCode          int
	reason, message   string
	process           *process
	resources         *runtimeapi.LinuxContainerResources
}

// CreateContainer checks a container's configuration and remembers it.
func (s *Server) CreateContainer(ctx context.Context, request *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	pod, err := s.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if !pod.ready.Load() {
		return nil, status.Errorf(codes.FailedPrecondition, "pod sandbox %q has been stopped", pod.id)
	}
	config := request.GetConfig()
	image, _, err := s.findImage(config.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	if image.StandsFor != "" {
		if config, err = s.standIn(ctx, pod, config, image); err != nil {
			return nil, err
		}
	}
	c := &container{
		id: newID(), pod: pod, config: config, image: image.Repository, standIn: image.StandsFor != "", created: time.Now(), exited: make(chan struct{}),
		state: runtimeapi.ContainerState_CONTAINER_CREATED, resources: config.GetLinux().GetResources(), log: &containerLog{},
	}
	if c.spec, err = s.describe(pod, config, image); err != nil {
		return nil, err
	}
	if config.GetLogPath() != "" && pod.config.GetLogDirectory() != "" {
		c.log.path = filepath.Join(pod.config.GetLogDirectory(), config.GetLogPath())
	}
	s.mu.Lock()
	if _, ok := s.sandboxes[pod.id]; !ok {
		s.mu.Unlock()
		return nil, status.Errorf(codes.NotFound, "pod sandbox %q has been removed", pod.id)
	}
	s.containers[c.id] = c
	s.mu.Unlock()
	return &runtimeapi.CreateContainerResponse{ContainerId: c.id}, nil
}

// StartContainer starts a container's process and returns when its command
// runs, or why it does not.
func (s *Server) StartContainer(ctx context.Context, request *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	c.starting.Lock()
	defer c.starting.Unlock()
	if state := c.status().GetState(); state != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q has been started before: it is %s", c.id, state)
	}
	if err := s.start(ctx, c); err != nil {
		err = fmt.Errorf("start container %q: %w", c.config.GetMetadata().GetName(), err)
		c.mu.Lock()
		c.state, c.exitCode, c.reason, c.message = runtimeapi.ContainerState_CONTAINER_EXITED, startErrorStatus, reasonStartError, err.Error()
		c.started, c.finished = time.Now(), time.Now()
		c.mu.Unlock()
		c.log.close()
		close(c.exited)
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

// supervise waits for a started container and records how it ended.
func (s *Server) supervise(c *container, p *process, output *sync.WaitGroup) {
	end, err := p.wait()
	c.streams.finish(output)
	c.log.close()
	c.mu.Lock()
	c.state, c.finished, c.process = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now(), nil
	c.exitCode = end.code
	switch {
	case err != nil:
		c.exitCode, c.reason, c.message = -1, reasonError, err.Error()
	case end.code == 0:
		c.reason = reasonCompleted
	case end.signal == syscall.SIGKILL && !c.killed.Load() && s.newOOMKill():
		c.reason = reasonOOMKilled
	default:
		c.reason = reasonError
	}
	c.mu.Unlock()
	close(c.exited)
}

// running is the container's first process, or nil when it does not run.
func (c *container) running() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// stop asks the container to end, and after grace makes it. When the first
// process dies the kernel kills the others of its PID namespace.
func (c *container) stop(ctx context.Context, grace time.Duration) error {
	// A start that is under way is waited for.
	c.starting.Lock()
	p := c.running()
	c.starting.Unlock()
	if p == nil {
		return nil
	}
	if grace > 0 {
		if err := p.signal(c.stopSignal()); err != nil {
			return fmt.Errorf("signal container %q: %w", c.id, err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.exited:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("stop container %q: %w", c.id, ctx.Err())
		}
	}
	c.killed.Store(true)
	if err := p.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill container %q: %w", c.id, err)
	}
	timer := time.NewTimer(killTimeout)
	defer timer.Stop()
	select {
	case <-c.exited:
		return nil
	case <-timer.C:
		return status.Errorf(codes.DeadlineExceeded, "container %q, process %d, is still there %s after SIGKILL", c.id, p.pid, killTimeout)
	case <-ctx.Done():
		return fmt.Errorf("kill container %q: %w", c.id, ctx.Err())
	}
}

// stopSignal is the signal that the pod asks for, SIGTERM by default.
func (c *container) stopSignal() syscall.Signal {
	name := c.config.GetStopSignal().String()
	name = cmp.Or(signalAliases[name], name)
	if number := unix.SignalNum(name); number != 0 {
		return number
	}
	var offset int
	if n, _ := fmt.Sscanf(name, "SIGRTMINPLUS%d", &offset); n == 1 || name == "SIGRTMIN" {
		return syscall.Signal(firstRealTime + offset)
	}
	if n, _ := fmt.Sscanf(name, "SIGRTMAXMINUS%d", &offset); n == 1 || name == "SIGRTMAX" {
		return syscall.Signal(lastRealTime - offset)
	}
	return unix.SIGTERM
}

// signalAliases are second names of signals.
var signalAliases = map[string]string{"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO"}

// Real-time signals that programs may use, by their numbers in Linux.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// StopContainer ends a container: the stop signal, and SIGKILL to everything
// in it after the grace period.
func (s *Server) StopContainer(ctx context.Context, request *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return &runtimeapi.StopContainerResponse{}, nil // gone is stopped
	}
	if err := c.stop(ctx, time.Duration(request.GetTimeout())*time.Second); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer forgets a container, killing it first if it runs.
func (s *Server) RemoveContainer(ctx context.Context, request *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	if c, err := s.container(request.GetContainerId()); err == nil {
		if err := s.removeContainer(ctx, c); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (s *Server) removeContainer(ctx context.Context, c *container) error {
	if err := c.stop(ctx, 0); err != nil {
		return err
	}
	c.starting.Lock()
	c.mu.Lock()
	if c.state == runtimeapi.ContainerState_CONTAINER_CREATED {
		c.state = runtimeapi.ContainerState_CONTAINER_EXITED // and so never starts
	}
	c.mu.Unlock()
	c.starting.Unlock()
	s.mu.Lock()
	delete(s.containers, c.id)
	s.mu.Unlock()
	return nil
}

// container finds a container by its ID or says NotFound.
func (s *Server) container(id string) (*container, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c, ok := s.containers[id]; ok {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no container %q", id)
}

// containersOf lists a sandbox's containers, the newest first.
func (s *Server) containersOf(sandboxID string) []*container {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*container
	for _, c := range s.containers {
		if c.pod.id == sandboxID {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *container) int { return b.created.Compare(a.created) })
	return found
}

func (c *container) status() *runtimeapi.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	credentials := c.spec.Process.Credentials
	user := &runtimeapi.LinuxContainerUser{Uid: int64(credentials.UID), Gid: int64(credentials.GID)}
	for _, group := range credentials.Groups {
		user.SupplementalGroups = append(user.SupplementalGroups, int64(group))
	}
	return &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state,
		CreatedAt: c.created.UnixNano(), StartedAt: nanoseconds(c.started), FinishedAt: nanoseconds(c.finished),
		ExitCode: int32(c.exitCode), Reason: c.reason, Message: c.message,
		Image: &runtimeapi.ImageSpec{Image: c.reference()}, ImageRef: c.image, ImageId: c.image,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(), LogPath: c.log.path,
		Resources: &runtimeapi.ContainerResources{Linux: c.resources}, User: &runtimeapi.ContainerUser{Linux: user},
		StopSignal: c.config.GetStopSignal(),
	}
}

// reference is what the pod called its image.
func (c *container) reference() string {
	return cmp.Or(c.config.GetImage().GetUserSpecifiedImage(), c.config.GetImage().GetImage())
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// ContainerStatus tells a container's state.
func (s *Server) ContainerStatus(_ context.Context, request *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.ContainerStatusResponse{Status: c.status()}
	if p := c.running(); p != nil && request.GetVerbose() {
		response.Info = map[string]string{"pid": fmt.Sprint(p.pid)}
	}
	return response, nil
}

// ListContainers lists containers, the newest first.
func (s *Server) ListContainers(_ context.Context, request *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	filter := request.GetFilter()
	response := &runtimeapi.ListContainersResponse{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.containers {
		c.mu.Lock()
		state := c.state
		c.mu.Unlock()
		if filter.GetId() != "" && filter.GetId() != c.id || filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.pod.id ||
			filter.GetState() != nil && filter.GetState().GetState() != state ||
			!selects(filter.GetLabelSelector(), c.config.GetLabels()) {
			continue
		}
		response.Containers = append(response.Containers, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.pod.id, Metadata: c.config.GetMetadata(), State: state, CreatedAt: c.created.UnixNano(),
			Image: &runtimeapi.ImageSpec{Image: c.reference()}, ImageRef: c.image, ImageId: c.image,
			Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	slices.SortFunc(response.Containers, func(a, b *runtimeapi.Container) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return response, nil
}

// ReopenContainerLog starts a new log file after the kubelet moved the old one
// away.
func (s *Server) ReopenContainerLog(_ context.Context, request *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.running() == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q does not run", c.id)
	}
	if err := c.log.reopen(); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
