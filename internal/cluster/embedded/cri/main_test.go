package cri

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/workloads/images"
)

// The tests run this binary in four roles: the test, the same test inside
// namespaces of its own as the cluster has them, a container's first process,
// and the program in a container.
func TestMain(m *testing.M) {
	InitMain()
	if filepath.Base(os.Args[0]) == "app" {
		os.Exit(app(os.Args[1:]))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// insideVariable tells a test that it is inside namespaces, and of which kind.
const insideVariable = "MESHPROOF_TEST_INSIDE"

// Kinds of user namespace: as root makes them, and as an ordinary user does.
const (
	ranged = "range"
	single = "single"
)

// inNamespaces runs body inside namespaces of both kinds, in processes of
// their own.
func inNamespaces(t *testing.T, body func(t *testing.T, r *rig)) {
	if os.Getenv(insideVariable) != "" {
		body(t, newRig(t))
		return
	}
	if dynamic(t) {
		t.Skip("the test binary is linked dynamically and cannot run in a container: build it with CGO_ENABLED=0")
	}
	bin := copyApp(t)
	for _, kind := range []string{ranged, single} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			runInside(t, kind, bin)
		})
	}
}

// dynamic says whether this binary needs a loader.
func dynamic(t *testing.T) bool {
	t.Helper()
	binary, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, program := range binary.Progs {
		if program.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

// copyApp puts this binary where every user can read it.
func copyApp(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "cri-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	binary, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.Chmod(directory, 0o755), os.WriteFile(filepath.Join(directory, "app"), binary, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

func runInside(t *testing.T, kind, bin string) {
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(filepath.Join(bin, "app"), "-test.run=^"+name+"$", "-test.v", "-test.timeout=2m")
	cmd.Args[0] = "cri.test"
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), insideVariable+"="+kind, "MESHPROOF_TEST_BIN="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	attributes := cmd.SysProcAttr
	switch {
	case kind == ranged && os.Geteuid() != 0:
		t.Skip("only root can map a range of user IDs")
	case kind == ranged:
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 200000, Size: 65536}}
		attributes.GidMappings = attributes.UidMappings
		attributes.GidMappingsEnableSetgroups = true
		attributes.Credential = &syscall.Credential{}
	default:
		host := os.Geteuid()
		if host == 0 {
			host = nobody
			attributes.Credential = &syscall.Credential{NoSetGroups: true}
		}
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: 1}}
		if os.Geteuid() != 0 {
			attributes.GidMappings[0].HostID = os.Getegid()
		}
	}
	output, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("no namespaces to be had here: %v", err)
	}
	if err != nil {
		t.Fatalf("inside %s namespaces: %v\n%s", kind, err, output)
	}
	if testing.Verbose() {
		t.Logf("%s", output)
	}
	if !strings.Contains(string(output), "--- PASS: "+name) {
		t.Fatalf("inside %s namespaces nothing ran:\n%s", kind, output)
	}
}

// rig is a runtime with a client, inside namespaces.
type rig struct {
	*testing.T
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
	network *fakeNetwork
	server  *Server
	logs    string
	single  bool
	stop    func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("test", "/mnt", "tmpfs", 0, "mode=0755"))
	must(os.Mkdir("/mnt/logs", 0o755))
	r := &rig{T: t, network: &fakeNetwork{attached: map[string]string{}}, logs: "/mnt/logs", single: os.Getenv(insideVariable) == single}
	server, err := New(Config{
		BinDir: os.Getenv("MESHPROOF_TEST_BIN"), RunDir: "/mnt/run", Network: r.network,
		Images: func(reference string) (images.Image, error) {
			standIn := images.Image{Repository: "test/elsewhere", Files: map[string]string{"/app": "app"}, Entrypoint: []string{"/app"}, StandsFor: "somebody/app:v1", User: 2102}
			for _, image := range append(testImages(), standIn) {
				if strings.HasPrefix(reference, image.Repository) {
					return image, nil
				}
			}
			return images.Image{}, fmt.Errorf("image %q is not one of this project's images", reference)
		},
		AllImages: testImages,
		StandIn: func(_ context.Context, namespace, pod, container string) ([]string, error) {
			return []string{"id", namespace, pod, container}, nil
		},
	})
	must(err)
	// The kernel gives a new network namespace a loopback that is down.
	must(raiseLoopback())
	r.server = server
	listener, err := net.Listen("unix", "/mnt/cri.sock")
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	connection, err := grpc.NewClient("unix:///mnt/cri.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	r.runtime, r.images = runtimeapi.NewRuntimeServiceClient(connection), runtimeapi.NewImageServiceClient(connection)
	r.stop = sync.OnceFunc(func() {
		connection.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func testImages() []images.Image {
	return []images.Image{
		{Repository: "test/app", Files: map[string]string{"/app": "app", "/usr/bin/app": "app"}, Entrypoint: []string{"/app"}, Cmd: []string{"wait"}, User: 2102},
		{Repository: "test/root", Files: map[string]string{"/app": "app"}, Entrypoint: []string{"/app"}},
		{Repository: "test/incomplete", Files: map[string]string{"/app": "not-built"}},
	}
}

// fakeNetwork hands out addresses and remembers who has one.
type fakeNetwork struct {
	mu       sync.Mutex
	last     byte
	attached map[string]string
	outside  bool
}

func (n *fakeNetwork) Attach(_ context.Context, id, netns string, outside bool) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := os.ReadFile(netns); !errors.Is(err, unix.EINVAL) { // the file of a namespace
		return netip.Addr{}, fmt.Errorf("open network namespace: %w", err)
	}
	n.last++
	n.attached[id], n.outside = netns, outside
	return netip.AddrFrom4([4]byte{10, 244, 0, n.last}), nil
}

func (n *fakeNetwork) Detach(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, id)
	return nil
}

// pod starts a sandbox.
func (r *rig) pod(change ...func(*runtimeapi.PodSandboxConfig)) (string, *runtimeapi.PodSandboxConfig) {
	r.Helper()
	config := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod", Namespace: "ns", Uid: newID()},
		Hostname: "pod", LogDirectory: filepath.Join(r.logs, newID()),
		DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"ns.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
	}
	for _, f := range change {
		f(config)
	}
	response, err := r.runtime.RunPodSandbox(r.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		r.Fatal(err)
	}
	return response.PodSandboxId, config
}

// container creates a container whose program is app with args.
func (r *rig) container(podID string, pod *runtimeapi.PodSandboxConfig, change func(*runtimeapi.ContainerConfig), args ...string) string {
	r.Helper()
	id, err := r.tryContainer(podID, pod, change, args...)
	if err != nil {
		r.Fatal(err)
	}
	return id
}

func (r *rig) tryContainer(podID string, pod *runtimeapi.PodSandboxConfig, change func(*runtimeapi.ContainerConfig), args ...string) (string, error) {
	config := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: "test/app:v1"}, Args: args, LogPath: "main/0.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
	}
	if change != nil {
		change(config)
	}
	response, err := r.runtime.CreateContainer(r.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: podID, Config: config, SandboxConfig: pod})
	if err != nil {
		return "", err
	}
	return response.ContainerId, nil
}

func (r *rig) start(id string) {
	r.Helper()
	if _, err := r.runtime.StartContainer(r.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) status(id string) *runtimeapi.ContainerStatus {
	r.Helper()
	response, err := r.runtime.ContainerStatus(r.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		r.Fatal(err)
	}
	return response.Status
}

// exited waits for a container's end.
func (r *rig) exited(id string) *runtimeapi.ContainerStatus {
	r.Helper()
	var last *runtimeapi.ContainerStatus
	r.eventually("container has exited", func() bool {
		last = r.status(id)
		return last.State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return last
}

// patience is how long a test waits for what is about to happen.
const patience = 20 * time.Second

func (r *rig) eventually(what string, condition func() bool) {
	r.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			r.Fatalf("waited in vain until: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// run runs app with args in a container of a new pod and returns its log
// without the CRI's prefixes and its status.
func (r *rig) run(change func(*runtimeapi.ContainerConfig), args ...string) (string, *runtimeapi.ContainerStatus) {
	r.Helper()
	podID, pod := r.pod()
	defer r.remove(podID)
	id := r.container(podID, pod, change, args...)
	r.start(id)
	status := r.exited(id)
	return r.log(status.LogPath), status
}

func (r *rig) remove(podID string) {
	r.Helper()
	if _, err := r.runtime.RemovePodSandbox(context.Background(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: podID}); err != nil {
		r.Error(err)
	}
}

// log is the content of a CRI log.
func (r *rig) log(path string) string {
	r.Helper()
	file, err := os.Open(path)
	if err != nil {
		r.Fatal(err)
	}
	defer file.Close()
	var content strings.Builder
	reader := bufio.NewReader(file)
	for {
		entry, err := reader.ReadString('\n')
		if err == io.EOF {
			return content.String()
		}
		fields := strings.SplitN(strings.TrimSuffix(entry, "\n"), " ", 4)
		if len(fields) != 4 {
			r.Fatalf("log entry %q", entry)
		}
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			r.Errorf("log entry %q: %v", entry, err)
		}
		content.WriteString(fields[3])
		if fields[2] == "F" {
			content.WriteByte('\n')
		}
	}
}
