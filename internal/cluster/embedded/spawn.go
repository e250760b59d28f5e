package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// The range of user and group IDs that a cluster created by root uses. Nobody
// owns it by default, and what belongs to the host's root stays out of reach:
// this is what keeps the kubelet from changing the host's kernel settings.
const (
	firstID = 200000
	idCount = 65536
)

// program is the file in bin/ that is also the cluster's first process.
const program = "meshproof"

// sandbox is the first process of a cluster, seen from outside.
type sandbox struct {
	pid int
	// status is the reading end of the status pipe.
	status *os.File
	// lifeline is the writing end of the pipe that keeps it alive.
	lifeline *os.File
	// done is closed when the process has been waited for.
	done chan struct{}
	// release ends the thread that the process is bound to; see start.
	process *os.Process
}

// startSandbox starts the first process of a cluster in namespaces of its own.
// With owned it dies with this process, however that ends.
func startSandbox(f state.Folder, setup layout.Setup, uid int, owned bool, listener *net.TCPListener, lock *os.File) (*sandbox, error) {
	argument, err := json.Marshal(setup)
	if err != nil {
		return nil, fmt.Errorf("encode set-up: %w", err)
	}
	socket, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("pass listener: %w", err)
	}
	defer socket.Close()
	lifelineEnd, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make lifeline: %w", err)
	}
	defer lifelineEnd.Close()
	status, statusEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make status pipe: %w", err), lifeline.Close())
	}
	defer statusEnd.Close()
	log, err := os.OpenFile(f.Path(layout.LogDir, "sandbox.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), lifeline.Close(), status.Close())
	}
	defer log.Close()

	attributes := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		// A session of its own: Ctrl-C on the terminal is for the caller, who
		// may want to look at the cluster before it ends.
		Setsid: true,
	}
	if setup.SingleUID {
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	} else {
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: idCount}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: idCount}}
		attributes.GidMappingsEnableSetgroups = true
		attributes.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	if owned {
		attributes.Pdeathsig = syscall.SIGKILL
	}
	// Relative to the folder, which may be all that the process can reach.
	path := filepath.Join(layout.Bin, program)
	if elsewhere, ok := setup.Programs[program]; ok {
		path = elsewhere
	}
	cmd := &exec.Cmd{
		Path:        path,
		Args:        []string{program, "node", "init", string(argument)},
		Env:         environment(),
		Stdout:      log,
		Stderr:      log,
		ExtraFiles:  []*os.File{lifelineEnd, statusEnd, socket, lock},
		SysProcAttr: attributes,
	}

	started := make(chan error)
	s := &sandbox{status: status, lifeline: lifeline, done: make(chan struct{})}
	go func() {
		// The kernel sends the death signal when the starting thread ends, so
		// this goroutine keeps its thread until the process has gone. The
		// thread also gets a working directory of its own: the child inherits
		// it, and so starts in a folder whose parents it may not pass through
		// (/root, for one). The thread is not used for anything afterwards.
		defer close(s.done)
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(string(f))
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(explainStart(err), lifeline.Close(), status.Close())
	}
	s.pid, s.process = cmd.Process.Pid, cmd.Process
	return s, nil
}

// kill ends the process, and with it everything in its namespaces, and waits.
func (s *sandbox) kill() {
	_ = s.process.Kill() // it may be gone already
	<-s.done
}

// close lets go of the pipes.
func (s *sandbox) close() {
	s.lifeline.Close()
	s.status.Close()
}

// environment is what the cluster's processes see: nothing of the caller's
// that could change what they do.
func environment() []string {
	return []string{"PATH=/bin", "HOME=/state", "LANG=C.UTF-8"}
}

// explainStart turns the failure to start the first process into a cause and a
// remedy.
func explainStart(err error) error {
	setup := &cluster.SetupError{Cause: "start a process in namespaces of its own", Err: err}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || read("/proc/sys/user/max_user_namespaces") == "0":
		setup.Err = fmt.Errorf("no more user namespaces are allowed: %w", err)
		setup.Remedy = "raise the number of user namespaces: sysctl user.max_user_namespaces=15000"
	case errors.Is(err, unix.EINVAL):
		setup.Remedy = "use a kernel with user, network, mount and PID namespaces"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		setup.Remedy = "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, or run as root"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && os.Geteuid() != 0:
		setup.Remedy = "allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
	case errors.Is(err, unix.EPERM) && strings.Contains(read("/proc/self/status"), "Seccomp:\t2"):
		setup.Remedy = "this container's seccomp profile forbids namespaces: start it with --privileged, or with --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
	case errors.Is(err, unix.EACCES):
		setup.Remedy = "the file system of the state folder must allow programs to run: set " + state.DirVariable + " to a folder on another one"
	case errors.Is(err, unix.EPERM):
		setup.Remedy = "let this user create user namespaces, or run as root"
	}
	return setup
}

// explainInside does the same for what failed inside.
func explainInside(status layout.Status) error {
	setup := &cluster.SetupError{Cause: status.Failed}
	if status.Errno != 0 {
		setup.Err = unix.Errno(status.Errno)
		setup.Cause = strings.TrimSuffix(status.Failed, ": "+setup.Err.Error())
	}
	switch status.Step {
	case "proc":
		setup.Remedy = "parts of /proc are hidden here, as in a container: start it with --privileged, or with --security-opt systempaths=unconfined"
	case "mount":
		setup.Remedy = "user namespaces without the right to mount are of no use: on Ubuntu sysctl kernel.apparmor_restrict_unprivileged_userns=0; in a container start it with --privileged"
	case "link":
		setup.Remedy = "the kernel must offer veth devices: modprobe veth"
	case "nftables":
		setup.Remedy = "the kernel must offer nftables with NAT: modprobe -a nf_tables nft_chain_nat nft_redir nft_numgen nft_reject_inet"
	}
	return setup
}
