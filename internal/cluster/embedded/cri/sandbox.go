package cri

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod's namespaces.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	created time.Time
	// ip is the zero value in the node's own network.
	ip    netip.Addr
	ready atomic.Bool

	// mu is held for reading while a container is started in the sandbox and
	// for writing while the sandbox is stopped.
	mu sync.RWMutex
	// namespaces are what containers join; what is missing is the node's.
	namespaces []*os.File
	attached   bool
}

// namespace kinds in the order in which they are opened; net comes first when
// it is there.
var namespaceKinds = []struct {
	flag int
	name string
}{{unix.CLONE_NEWNET, "net"}, {unix.CLONE_NEWUTS, "uts"}, {unix.CLONE_NEWIPC, "ipc"}}

// kernelDefaults are what a pod's network starts with: every user may listen
// on every port, and ping. Where that is not allowed it stays as it is.
func (m idMap) kernelDefaults() map[string]string {
	last := m.gids[len(m.gids)-1]
	return map[string]string{
		"net/ipv4/ip_unprivileged_port_start": "0",
		"net/ipv4/ping_group_range":           fmt.Sprint(m.gids[0].first, " ", last.first+last.count-1),
	}
}

func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func (s *sandbox) hostNetwork() bool {
	return s.namespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func (s *sandbox) namespaceOptions() *runtimeapi.NamespaceOption {
	return s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
}

// RunPodSandbox makes a pod's namespaces and its network.
func (s *Server) RunPodSandbox(ctx context.Context, request *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	pod := &sandbox{id: newID(), config: request.GetConfig(), created: time.Now()}
	if err := checkSandbox(pod, request.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	metadata := pod.config.GetMetadata()
	if err := s.openSandbox(ctx, pod); err != nil {
		return nil, errors.Join(fmt.Errorf("pod %s/%s: %w", metadata.GetNamespace(), metadata.GetName(), err), s.stopSandbox(context.WithoutCancel(ctx), pod))
	}
	pod.ready.Store(true)
	s.mu.Lock()
	s.sandboxes[pod.id] = pod
	s.mu.Unlock()
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: pod.id}, nil
}

func checkSandbox(pod *sandbox, handler string) error {
	options := pod.namespaceOptions()
	switch {
	case pod.config.GetMetadata() == nil:
		return status.Error(codes.InvalidArgument, "pod sandbox without metadata")
	case handler != "":
		return status.Errorf(codes.InvalidArgument, "runtime handler %q: this runtime has only the default one", handler)
	case options.GetPid() == runtimeapi.NamespaceMode_POD && options != nil:
		return status.Error(codes.Unimplemented, "a PID namespace shared by the pod (shareProcessNamespace) is not supported")
	case options.GetPid() == runtimeapi.NamespaceMode_NODE:
		return status.Error(codes.Unimplemented, "the node's PID namespace (hostPID) is not supported")
	case options.GetUsernsOptions() != nil && options.GetUsernsOptions().GetMode() != runtimeapi.NamespaceMode_NODE:
		return status.Error(codes.Unimplemented, "a user namespace of the pod's own (hostUsers: false) is not supported")
	}
	return nil
}

func (s *Server) openSandbox(ctx context.Context, pod *sandbox) error {
	options := pod.namespaceOptions()
	flags := 0
	if !pod.hostNetwork() {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	}
	if options.GetIpc() != runtimeapi.NamespaceMode_NODE {
		flags |= unix.CLONE_NEWIPC
	}
	if err := onThread(func() error { return openNamespaces(pod, flags, s.ids.kernelDefaults()) }); err != nil {
		return err
	}
	memory := filepath.Join(s.sharedMemory(), pod.id)
	if err := errors.Join(os.Mkdir(memory, 0o1777), os.Chmod(memory, 0o777|os.ModeSticky)); err != nil {
		return fmt.Errorf("make shared memory: %w", err)
	}
	if pod.hostNetwork() {
		return nil
	}
	// Other processes must be able to open the path.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.namespaces[0].Fd())
	pod.attached = true
	outside := pod.config.GetAnnotations()[NetworkAnnotation] == NetworkOutside
	ip, err := s.config.Network.Attach(ctx, pod.id, path, outside)
	if err != nil {
		return fmt.Errorf("attach to the network: %w", err)
	}
	pod.ip = ip
	return nil
}

// openNamespaces makes namespaces on the calling thread, which must end
// afterwards, and keeps them by descriptors.
func openNamespaces(pod *sandbox, flags int, defaults map[string]string) error {
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if flags&unix.CLONE_NEWUTS != 0 {
		if err := unix.Sethostname([]byte(pod.config.GetHostname())); err != nil {
			return fmt.Errorf("set hostname %q: %w", pod.config.GetHostname(), err)
		}
	}
	if flags&unix.CLONE_NEWNET != 0 {
		if err := raiseLoopback(); err != nil {
			return err
		}
		for name, value := range defaults {
			_ = writeSysctl(name, value)
		}
	}
	for name, value := range pod.config.GetLinux().GetSysctls() {
		if strings.HasPrefix(name, "net.") && flags&unix.CLONE_NEWNET == 0 {
			return fmt.Errorf("set sysctl %s: the pod has the node's network", name)
		}
		if err := writeSysctl(strings.ReplaceAll(name, ".", "/"), value); err != nil {
			return err
		}
	}
	for _, kind := range namespaceKinds {
		if flags&kind.flag == 0 {
			continue
		}
		file, err := os.Open("/proc/thread-self/ns/" + kind.name)
		if err != nil {
			return fmt.Errorf("keep the %s namespace: %w", kind.name, err)
		}
		pod.namespaces = append(pod.namespaces, file)
	}
	return nil
}

func writeSysctl(path, value string) error {
	if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s to %q: %w", path, value, err)
	}
	return nil
}

// raiseLoopback sets lo up in the calling thread's network namespace.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

// stopSandbox ends everything in the sandbox and gives its network back. It
// can be repeated, and goes on where it failed.
func (s *Server) stopSandbox(ctx context.Context, pod *sandbox) error {
	pod.ready.Store(false)
	// From here on nothing starts in it.
	pod.mu.Lock()
	defer pod.mu.Unlock()
	var killing sync.WaitGroup
	var failures []error
	var mu sync.Mutex
	for _, c := range s.containersOf(pod.id) {
		killing.Go(func() {
			if err := c.stop(ctx, 0); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err)
			}
		})
	}
	killing.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if pod.attached {
		if err := s.config.Network.Detach(ctx, pod.id); err != nil {
			return fmt.Errorf("detach sandbox %s from the network: %w", pod.id, err)
		}
		pod.attached = false
	}
	for _, file := range pod.namespaces {
		file.Close()
	}
	pod.namespaces = nil
	if err := os.RemoveAll(filepath.Join(s.sharedMemory(), pod.id)); err != nil {
		return fmt.Errorf("remove shared memory of sandbox %s: %w", pod.id, err)
	}
	return nil
}

// StopPodSandbox ends a pod's processes and network.
func (s *Server) StopPodSandbox(ctx context.Context, request *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	if pod, err := s.sandbox(request.GetPodSandboxId()); err == nil {
		if err := s.stopSandbox(ctx, pod); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox forgets a pod, after stopping what still runs of it.
func (s *Server) RemovePodSandbox(ctx context.Context, request *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	if pod, err := s.sandbox(request.GetPodSandboxId()); err == nil {
		if err := s.removeSandbox(ctx, pod); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (s *Server) removeSandbox(ctx context.Context, pod *sandbox) error {
	if err := s.stopSandbox(ctx, pod); err != nil {
		return err
	}
	for _, c := range s.containersOf(pod.id) {
		if err := s.removeContainer(ctx, c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	delete(s.sandboxes, pod.id)
	s.mu.Unlock()
	return nil
}

// sandbox finds a sandbox by its ID or says NotFound.
func (s *Server) sandbox(id string) (*sandbox, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if pod, ok := s.sandboxes[id]; ok {
		return pod, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no pod sandbox %q", id)
}

func (pod *sandbox) state() runtimeapi.PodSandboxState {
	if pod.ready.Load() {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (pod *sandbox) status() *runtimeapi.PodSandboxStatus {
	network := &runtimeapi.PodSandboxNetworkStatus{}
	if pod.ip.IsValid() {
		network.Ip = pod.ip.String()
	}
	return &runtimeapi.PodSandboxStatus{
		Id: pod.id, Metadata: pod.config.GetMetadata(), State: pod.state(), CreatedAt: pod.created.UnixNano(), Network: network,
		Linux:  &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: pod.namespaceOptions()}},
		Labels: pod.config.GetLabels(), Annotations: pod.config.GetAnnotations(),
	}
}

// PodSandboxStatus tells a pod's state together with its containers', as seen
// at the same time.
func (s *Server) PodSandboxStatus(_ context.Context, request *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	pod, err := s.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.PodSandboxStatusResponse{Timestamp: time.Now().UnixNano(), Status: pod.status()}
	for _, c := range s.containersOf(pod.id) {
		response.ContainersStatuses = append(response.ContainersStatuses, c.status())
	}
	return response, nil
}

// ListPodSandbox lists pods, the newest first.
func (s *Server) ListPodSandbox(_ context.Context, request *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	filter := request.GetFilter()
	response := &runtimeapi.ListPodSandboxResponse{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, pod := range s.sandboxes {
		state := pod.state()
		if filter.GetId() != "" && filter.GetId() != pod.id ||
			filter.GetState() != nil && filter.GetState().GetState() != state ||
			!selects(filter.GetLabelSelector(), pod.config.GetLabels()) {
			continue
		}
		response.Items = append(response.Items, &runtimeapi.PodSandbox{
			Id: pod.id, Metadata: pod.config.GetMetadata(), State: state, CreatedAt: pod.created.UnixNano(),
			Labels: pod.config.GetLabels(), Annotations: pod.config.GetAnnotations(),
		})
	}
	slices.SortFunc(response.Items, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return response, nil
}

// selects says whether labels has all of selector.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
