package containerinit

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// failureStatus is the exit status of a first process that could not become
// the container's command; the runtime has the reason from the socket.
const failureStatus = 128

// The work is done here and not in the program's main because initialising all
// the packages that bin/meshproof links takes several times as long as starting
// a container does otherwise (measured: 30 ms against 5). Packages are
// initialised in the order of their paths as far as their imports allow, and
// this one imports nearly nothing.
func init() {
	if Requested(os.Args) {
		become()
	}
}

// Requested says whether a command line asks for a container's first process.
func Requested(args []string) bool {
	return len(args) == 1+len(Arguments) && slices.Equal(args[1:], Arguments)
}

// become makes this process the container. It does not return.
func become() {
	// Namespaces, credentials and the death signal are the thread's, and
	// execve keeps those of the thread that calls it.
	runtime.LockOSThread()
	err := run()
	_, _ = unix.Write(ControlFD, []byte(err.Error()))
	os.Exit(failureStatus)
}

// run returns only when it failed.
func run() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("a container's first process is process 1 of a PID namespace, not %d", os.Getpid())
	}
	var spec Spec
	if err := receive(&spec); err != nil {
		return err
	}
	for i := range spec.Namespaces {
		if err := unix.Setns(ControlFD+1+i, 0); err != nil {
			return fmt.Errorf("join the pod's namespace: %w", err)
		}
	}
	setOOMScore(spec.OOMScoreAdj)
	if err := enterRoot(&spec); err != nil {
		return err
	}
	credentials := spec.Process.Credentials
	if spec.Terminal {
		if err := openTerminal(credentials); err != nil {
			return err
		}
	} else {
		// /dev/stdout opens the pipe anew, for which it must be the user's.
		// A refusal costs only that.
		for fd := range 3 {
			_ = unix.Fchown(fd, credentials.UID, credentials.GID)
		}
	}
	unix.Umask(0o022)
	path, err := spec.Process.Enter()
	if err != nil {
		return err
	}
	if err := credentials.Apply(); err != nil {
		return err
	}
	// The change of uid has cleared it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie the container to its runtime: %w", err)
	}
	if err := unix.CloseRange(ControlFD, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors from the container: %w", err)
	}
	return fmt.Errorf("exec %q: %w", path, unix.Exec(path, spec.Process.Args, spec.Process.Env))
}

// receive reads one length-prefixed Spec.
func receive(spec *Spec) error {
	// Not an *os.File, which would close the descriptor when collected.
	control := descriptor(ControlFD)
	var length [8]byte
	if _, err := io.ReadFull(control, length[:]); err != nil {
		return fmt.Errorf("receive the container's description: %w", err)
	}
	size, err := strconv.ParseUint(string(length[:]), 16, 32)
	if err != nil {
		return fmt.Errorf("receive the container's description: %w", err)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(control, text); err != nil {
		return fmt.Errorf("receive the container's description: %w", err)
	}
	if err := json.Unmarshal(text, spec); err != nil {
		return fmt.Errorf("read the container's description: %w", err)
	}
	return nil
}

type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Encode is what receive reads.
func (s *Spec) Encode() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "%08x", len(text)), text...), nil
}

// openTerminal makes a pseudo terminal of the container's own /dev/pts its
// standard streams and sends the controlling end to the runtime.
func openTerminal(owner Credentials) error {
	controller, terminal, err := OpenPTY(owner)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(ControlFD, []byte{0}, unix.UnixRights(controller), nil, 0); err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	unix.Close(controller)
	for fd := range 3 {
		if err := unix.Dup3(terminal, fd, 0); err != nil {
			return fmt.Errorf("use the terminal as descriptor %d: %w", fd, err)
		}
	}
	unix.Close(terminal)
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	return nil
}

// OpenPTY opens a pseudo terminal of the calling thread's /dev/pts. Both ends
// are closed on execve.
func OpenPTY(owner Credentials) (controller, terminal int, err error) {
	controller, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open a terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(controller, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(controller)
		return -1, -1, fmt.Errorf("unlock the terminal: %w", err)
	}
	number, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(controller), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(controller)
		return -1, -1, fmt.Errorf("open the terminal's other end: %w", errno)
	}
	terminal = int(number)
	_ = unix.Fchown(terminal, owner.UID, owner.GID)
	return controller, terminal, nil
}
