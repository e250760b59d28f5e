package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
)

const (
	// startTimeout bounds the time between the clone and the execve. It is
	// only reached when the machine hangs.
	startTimeout = 60 * time.Second
	// maxStartError is the longest error, in bytes, taken from a container's
	// first process.
	maxStartError = 4096
)

// start makes c's process. On success c runs and is supervised.
func (s *Server) start(ctx context.Context, c *container) (err error) {
	if err := c.log.reopen(); err != nil {
		return err
	}
	ours, theirs, err := controlSocket()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	child, err := c.streams.open(c.config)
	if err != nil {
		return err
	}
	p, err := s.clone(c, child, theirs)
	// The child has its own; the container's output ends when it does.
	theirs.Close()
	child.close()
	if err != nil {
		c.streams.close()
		return err
	}
	if err := c.handshake(ctx, ours); err != nil {
		_ = p.signal(unix.SIGKILL)
		_, waitErr := p.wait()
		c.streams.close()
		return errors.Join(err, waitErr)
	}
	output := c.streams.pump(c.log)
	c.mu.Lock()
	c.process, c.state, c.started = p, runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now()
	c.mu.Unlock()
	s.running.Go(func() { s.supervise(c, p, output) })
	return nil
}

// controlSocket makes the connection to a container's first process.
func controlSocket() (ours *net.UnixConn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "control")
	file := os.NewFile(uintptr(pair[0]), "control")
	defer file.Close()
	connection, err := net.FileConn(file)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make control socket: %w", err), theirs.Close())
	}
	return connection.(*net.UnixConn), theirs, nil
}

// clone starts this program anew as the container's first process.
func (s *Server) clone(c *container, child stdio, control *os.File) (*process, error) {
	// Not RLock: who stops the sandbox waits for this start.
	if !c.pod.mu.TryRLock() {
		return nil, fmt.Errorf("pod sandbox %s is being stopped", c.pod.id)
	}
	defer c.pod.mu.RUnlock()
	if !c.pod.ready.Load() {
		return nil, fmt.Errorf("pod sandbox %s has been stopped", c.pod.id)
	}
	files := []uintptr{child[0].Fd(), child[1].Fd(), child[2].Fd(), control.Fd()}
	for _, namespace := range c.pod.namespaces {
		files = append(files, namespace.Fd())
	}
	p, err := s.spawner.start("/proc/self/exe", append([]string{"meshproof"}, containerinit.Arguments...), &syscall.ProcAttr{
		// One garbage collection more or less is all this process would do.
		Env:   []string{"GOGC=off"},
		Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
			Pdeathsig:  unix.SIGKILL,
			Setsid:     true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make process: %w", err)
	}
	return p, nil
}

// handshake sends the description and waits for execve or an error. With a
// terminal it also receives that.
func (c *container) handshake(ctx context.Context, control *net.UnixConn) error {
	deadline := time.Now().Add(startTimeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if err := control.SetDeadline(deadline); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	description, err := c.spec.Encode()
	if err != nil {
		return fmt.Errorf("encode description: %w", err)
	}
	_, sendErr := control.Write(description)
	answer := make([]byte, maxStartError)
	rights := make([]byte, unix.CmsgSpace(4))
	var text strings.Builder
	for {
		n, rightsLength, _, _, err := control.ReadMsgUnix(answer, rights)
		if rightsLength > 0 {
			if err := c.streams.adoptTerminal(rights[:rightsLength]); err != nil {
				return err
			}
			n = 0 // the byte that carried it
		}
		text.Write(answer[:n])
		if errors.Is(err, io.EOF) || err == nil && n == 0 && rightsLength == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("wait for the container's command to start: %w", err)
		}
		if text.Len() > maxStartError {
			break
		}
	}
	if text.Len() > 0 {
		return errors.New(text.String())
	}
	if sendErr != nil {
		return fmt.Errorf("describe the container to its first process: %w", sendErr)
	}
	return nil
}
