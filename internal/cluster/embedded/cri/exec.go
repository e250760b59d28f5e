package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
)

// maxExecOutput is how much of each stream of a synchronous exec is kept, in
// bytes; the message with both must stay below maxMessage. The rest is read
// and forgotten, so that the command does not block.
const maxExecOutput = 4 << 20

// joinNamespaces are what a process that is executed in a container shares
// with it.
const joinNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// join starts another process in the container, with the container's own
// environment, directory, user and privileges. With terminal it has one and
// the controlling end is returned; child is then not used.
func (c *container) join(command []string, terminal bool, child stdio) (p *process, controller *os.File, err error) {
	first := c.running()
	if first == nil {
		return nil, nil, status.Errorf(codes.FailedPrecondition, "container %q does not run", c.id)
	}
	what := c.spec.Process
	what.Args = command
	err = onThread(func() error {
		if err := first.enter(); err != nil {
			return err
		}
		if terminal {
			what.Env = append(what.Env[:len(what.Env):len(what.Env)], "TERM=xterm")
			master, slave, err := containerinit.OpenPTY(what.Credentials)
			if err != nil {
				return err
			}
			controller = newTerminal(master)
			file := os.NewFile(uintptr(slave), "terminal")
			defer file.Close()
			child = stdio{file, file, file}
		}
		path, err := what.Enter()
		if err != nil {
			return err
		}
		if err := what.Credentials.Apply(); err != nil {
			return err
		}
		// A change of uid makes the whole process undumpable, and its files
		// in /proc the host's root's.
		defer func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }()
		p, err = startProcess(path, command, &syscall.ProcAttr{
			Env:   what.Env,
			Files: []uintptr{child[0].Fd(), child[1].Fd(), child[2].Fd()},
			// A session of its own, to be killed as one.
			Sys: &syscall.SysProcAttr{Setsid: true, Setctty: terminal},
		})
		if err != nil {
			return fmt.Errorf("exec %q: %w", path, err)
		}
		return nil
	})
	if err != nil {
		if controller != nil {
			controller.Close()
		}
		return nil, nil, fmt.Errorf("exec in container %q: %w", c.config.GetMetadata().GetName(), err)
	}
	return p, controller, nil
}

// enter moves the calling thread, which must end afterwards, into the
// process's namespaces; children of the thread get into its PID namespace.
func (p *process) enter() error {
	// A mount namespace can be joined only by a thread that shares its root
	// and directory with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("separate from other threads: %w", err)
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("join the container: %w", err)
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { failure = unix.Setns(int(fd), joinNamespaces) }); err != nil {
		return fmt.Errorf("join the container: %w", err)
	}
	if failure != nil {
		return fmt.Errorf("join the container: %w", failure)
	}
	return nil
}

// killSession kills a process that leads a session, and who has stayed in it.
func (p *process) killSession() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
}

// waitJoined waits for an executed process and books its processor time.
func (c *container) waitJoined(p *process) (exit, error) {
	end, err := p.wait()
	c.joinedCPU.Add(int64(end.cpu))
	return end, err
}

// ExecSync runs a command in a container to its end, or to the timeout in
// seconds, at which it is killed.
func (s *Server) ExecSync(ctx context.Context, request *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	c, err := s.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.standIn && c.running() != nil {
		// Probes and hooks run programs that only the other image has; a stand-in
		// answers all of them with yes.
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	timeout := time.Duration(request.GetTimeout()) * time.Second
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var stdout, stderr limitedBuffer
	end, err := c.execute(ctx, request.GetCmd(), nil, &stdout, &stderr, false, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, status.Errorf(codes.DeadlineExceeded, "command %q in container %q was killed after %s", request.GetCmd(), c.config.GetMetadata().GetName(), timeout)
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitCode: int32(end.code)}, nil
}

// limitedBuffer keeps the first maxExecOutput bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxExecOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// execute runs a command with streams and returns how it ended. When ctx ends
// first the command is killed and ctx's error returned. Streams may be nil.
func (c *container) execute(ctx context.Context, command []string, in io.Reader, out, errOut io.Writer, terminal bool, resize <-chan remotecommand.TerminalSize) (exit, error) {
	if terminal {
		return c.executeTerminal(ctx, command, in, out, resize)
	}
	child, ours, err := c.execPipes(in != nil)
	if err != nil {
		return exit{}, err
	}
	p, _, err := c.join(command, false, child)
	child.close()
	if err != nil {
		ours.close()
		return exit{}, err
	}
	if in != nil {
		// Ends with the client's stream or, by a broken pipe, with the
		// command; the client's stream ends with the request, and so is not
		// waited for here.
		go func() {
			_, _ = io.Copy(ours[0], in)
			ours[0].Close()
		}()
	}
	var output sync.WaitGroup
	output.Go(func() { drain(out, ours[1]) })
	output.Go(func() { drain(errOut, ours[2]) })
	end, err := c.waitExecuted(ctx, p, ours[1], ours[2])
	output.Wait()
	ours.close()
	return end, err
}

func drain(to io.Writer, from io.Reader) {
	if to != nil {
		if _, err := io.Copy(to, from); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	_, _ = io.Copy(io.Discard, from) // the client has gone, the command goes on
}

// waitExecuted waits for the command, kills it when ctx ends, and bounds the
// time in which what it has left in its output pipes is read.
func (c *container) waitExecuted(ctx context.Context, p *process, outputs ...*os.File) (exit, error) {
	stop := context.AfterFunc(ctx, p.killSession)
	end, err := c.waitJoined(p)
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	deadline := time.Now().Add(drainTimeout)
	for _, file := range outputs {
		_ = file.SetReadDeadline(deadline)
	}
	return end, err
}

// execPipes makes a command's standard streams: the command's ends and ours.
func (c *container) execPipes(stdin bool) (child, ours stdio, err error) {
	defer func() {
		if err != nil {
			child.close()
			ours.close()
			err = fmt.Errorf("make standard streams: %w", err)
		}
	}()
	if stdin {
		child[0], ours[0], err = os.Pipe()
	} else {
		child[0], err = os.Open(os.DevNull)
	}
	if err != nil {
		return child, ours, err
	}
	for i := 1; i <= 2; i++ {
		if ours[i], child[i], err = os.Pipe(); err != nil {
			return child, ours, err
		}
		// For those who open /dev/stdout.
		_ = child[i].Chown(c.spec.Process.Credentials.UID, c.spec.Process.Credentials.GID)
	}
	return child, ours, nil
}

func (c *container) executeTerminal(ctx context.Context, command []string, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) (exit, error) {
	p, terminal, err := c.join(command, true, stdio{})
	if err != nil {
		return exit{}, err
	}
	defer terminal.Close()
	ended := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { followSize(ended, resize, terminal) })
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	helpers.Go(func() { drain(out, terminal) })
	end, err := c.waitExecuted(ctx, p, terminal)
	close(ended)
	helpers.Wait()
	return end, err
}

// followSize applies the client's window sizes to a terminal.
func followSize(ended <-chan struct{}, resize <-chan remotecommand.TerminalSize, terminal *os.File) {
	for {
		select {
		case <-ended:
			return
		case size, ok := <-resize:
			if !ok {
				return
			}
			raw, err := terminal.SyscallConn()
			if err != nil {
				return
			}
			_ = raw.Control(func(fd uintptr) {
				_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
			})
		}
	}
}
