package cri

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
	"github.com/meshproof/meshproof/workloads/images"
)

// defaultPath is the PATH of containers that set none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// describe turns a container's CRI configuration into what its first process
// must do.
func (s *Server) describe(pod *sandbox, config *runtimeapi.ContainerConfig, image images.Image) (*containerinit.Spec, error) {
	security := config.GetLinux().GetSecurityContext()
	if err := checkContainer(config, security); err != nil {
		return nil, err
	}
	credentials, err := s.ids.credentials(security, image)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if credentials.Bounding, credentials.Ambient, err = capabilitySets(security); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	// Nothing in these images has file capabilities or a setuid bit, so that
	// only a privileged container could miss the right to gain privileges.
	credentials.NoNewPrivileges = security.GetNoNewPrivs() || !security.GetPrivileged()

	hostname := pod.config.GetHostname()
	if pod.hostNetwork() {
		if hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("read the node's name: %w", err)
		}
	}
	spec := &containerinit.Spec{
		Namespaces:   len(pod.namespaces),
		Staging:      s.staging(),
		Texts:        texts(pod, credentials, hostname),
		ReadOnlyRoot: security.GetReadonlyRootfs(),
		Terminal:     config.GetTty(),
		OOMScoreAdj:  int(config.GetLinux().GetResources().GetOomScoreAdj()),
		Process: containerinit.Process{
			Args: command(config, image), Env: environment(config, hostname), Dir: workingDir(config, image), Credentials: credentials,
		},
	}
	if !security.GetPrivileged() {
		spec.Masked, spec.ReadOnlyPaths = security.GetMaskedPaths(), security.GetReadonlyPaths()
	}
	spec.Mounts, err = s.mounts(pod, config, image)
	return spec, err
}

func checkContainer(config *runtimeapi.ContainerConfig, security *runtimeapi.LinuxContainerSecurityContext) error {
	switch {
	case config.GetMetadata() == nil:
		return status.Error(codes.InvalidArgument, "container without metadata")
	case security.GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_TARGET:
		return status.Error(codes.Unimplemented, "joining another container's PID namespace is not supported")
	case len(config.GetCDIDevices()) > 0:
		return status.Error(codes.Unimplemented, "devices by CDI are not supported")
	}
	return nil
}

// command applies the rules of command, args, entrypoint and cmd: a command in
// the pod makes the image's cmd void.
func command(config *runtimeapi.ContainerConfig, image images.Image) []string {
	start, arguments := config.GetCommand(), config.GetArgs()
	if len(start) == 0 {
		start = image.Entrypoint
		if len(arguments) == 0 {
			arguments = image.Cmd
		}
	}
	return slices.Concat(start, arguments)
}

func environment(config *runtimeapi.ContainerConfig, hostname string) []string {
	env := []string{defaultPath, "HOSTNAME=" + hostname, "HOME=/"}
	if config.GetTty() {
		env = append(env, "TERM=xterm")
	}
	for _, variable := range config.GetEnvs() {
		prefix := variable.GetKey() + "="
		env = slices.DeleteFunc(env, func(other string) bool { return strings.HasPrefix(other, prefix) })
		env = append(env, prefix+string(variable.GetValue()))
	}
	return env
}

func workingDir(config *runtimeapi.ContainerConfig, image images.Image) string {
	for _, directory := range []string{config.GetWorkingDir(), image.WorkingDir} {
		if directory != "" {
			return path.Join("/", directory)
		}
	}
	return "/"
}

// texts are the files of /etc that programs look for.
func texts(pod *sandbox, credentials containerinit.Credentials, hostname string) []containerinit.Text {
	users := "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
	if id := credentials.UID; id != 0 && id != nobody {
		users += fmt.Sprintf("user:x:%d:%d:user:/:/sbin/nologin\n", id, credentials.GID)
	}
	var resolver strings.Builder
	dns := pod.config.GetDnsConfig()
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&resolver, "nameserver %s\n", server)
	}
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&resolver, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&resolver, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return []containerinit.Text{
		{Path: "/etc/passwd", Content: users},
		{Path: "/etc/group", Content: "root:x:0:\nnobody:x:65534:\n"},
		{Path: "/etc/hostname", Content: hostname + "\n"},
		{Path: "/etc/hosts", Content: "127.0.0.1\tlocalhost\n::1\tlocalhost\n"},
		{Path: "/etc/resolv.conf", Content: resolver.String()},
		{Path: "/etc/nsswitch.conf", Content: "hosts: files dns\n"},
	}
}

// mounts are the image's files, the pod's shared memory, and what the kubelet
// asks for, parents before children.
func (s *Server) mounts(pod *sandbox, config *runtimeapi.ContainerConfig, image images.Image) ([]containerinit.Mount, error) {
	var mounts []containerinit.Mount
	for target, binary := range image.Files {
		mounts = append(mounts, containerinit.Mount{Source: filepath.Join(s.config.BinDir, binary), Target: path.Clean(target), ReadOnly: true})
	}
	mounts = append(mounts, containerinit.Mount{Source: filepath.Join(s.sharedMemory(), pod.id), Target: "/dev/shm"})
	for _, device := range config.GetDevices() {
		mounts = append(mounts, containerinit.Mount{Source: device.GetHostPath(), Target: path.Join("/", device.GetContainerPath()), Device: true})
	}
	for _, mount := range config.GetMounts() {
		target := path.Join("/", mount.GetContainerPath())
		switch {
		case mount.GetImage().GetImage() != "":
			return nil, status.Errorf(codes.Unimplemented, "mount at %q: image volumes are not supported", target)
		case mount.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
			return nil, status.Errorf(codes.Unimplemented, "mount at %q: bidirectional propagation is not supported", target)
		case target == "/":
			return nil, status.Error(codes.InvalidArgument, "mount at \"/\": the root is the image's")
		}
		if _, err := os.Stat(mount.GetHostPath()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "mount at %q: %v", target, err)
		}
		mounts = append(mounts, containerinit.Mount{
			Source: mount.GetHostPath(), Target: target, ReadOnly: mount.GetReadonly(), Recursive: mount.GetRecursiveReadOnly(),
			Receive: mount.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		})
	}
	// A later mount on the same path covers an earlier one, as asked.
	slices.SortStableFunc(mounts, func(a, b containerinit.Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return mounts, nil
}
