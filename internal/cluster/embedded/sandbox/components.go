package sandbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

const (
	// startTimeout bounds the wait for what the kubelet needs before it starts.
	startTimeout = 60 * time.Second
	// pollInterval is how often a component is asked whether it is there.
	pollInterval = 10 * time.Millisecond
	// askTimeout bounds one such question.
	askTimeout = 2 * time.Second
)

// components are the long-lived processes of the cluster. This process is the
// first of its namespace and inherits everybody's orphans, so one loop reaps
// them all and knows its own by their process IDs.
type components struct {
	mu    sync.Mutex // held while one is started: it may end before Start returns
	names map[int]string
}

// startAll starts the components in the order in which they need each other
// and returns when one of them has ended, and which.
func (c *components) startAll(setup layout.Setup, status *os.File) error {
	address := layout.NodeIP.String()
	verbosity := fmt.Sprintf("--v=%d", setup.Verbosity)
	listener := os.NewFile(layout.ListenerFD, "listener")
	if err := c.start("control-plane", []*os.File{listener}, "meshproof-kube", "control-plane",
		"--state="+layout.State, "--address="+address, fmt.Sprintf("--port=%d", layout.APIPort),
		"--service-cidr="+layout.Services.String(), "--listen-fd=3", verbosity); err != nil {
		return err
	}
	// Only the API server may accept from now on.
	if err := listener.Close(); err != nil {
		return fmt.Errorf("let go of the API's socket: %w", err)
	}
	if err := c.start("node", []*os.File{status}, "meshproof", "node", "agent", "--status-fd=3"); err != nil {
		return err
	}
	dead := make(chan error, 1)
	go func() { dead <- c.reap() }()

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- waitForKubelet(ctx) }()
	select {
	case err := <-dead:
		return err
	case err := <-waited:
		if err != nil {
			return err
		}
	}
	if err := c.start("kubelet", nil, "meshproof-kube", "kubelet", "--state="+layout.State, "--node="+layout.NodeName,
		"--address="+address, "--cluster-dns="+layout.DNS.String(), "--runtime=unix://"+layout.Socket, verbosity); err != nil {
		return err
	}
	return <-dead
}

// start starts a program of the state folder's bin/. Its output goes to a log
// of its own.
func (c *components) start(name string, files []*os.File, program string, args ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	log, err := os.OpenFile(logPath(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(layout.State, layout.Bin, program), args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, files
	// The components hold much that never changes; they run with a small heap
	// rather than a fast one.
	cmd.Env = append(os.Environ(), "GOGC="+garbageTarget)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c.names[cmd.Process.Pid] = name
	return nil
}

// garbageTarget is Go's GOGC for the components, in percent.
const garbageTarget = "100"

// reap waits for every process there is until a component ends.
func (c *components) reap() error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the cluster's processes: %w", err)
		}
		c.mu.Lock()
		name, ok := c.names[pid]
		c.mu.Unlock()
		if !ok {
			continue
		}
		if status.Signaled() {
			return fmt.Errorf("%s was ended by signal %s%s", name, status.Signal(), lastWords(name))
		}
		return fmt.Errorf("%s ended with code %d%s", name, status.ExitStatus(), lastWords(name))
	}
}

// lastWordsLength is how much of a log's end is told, in bytes.
const lastWordsLength = 400

// lastWords is the last line of a component's log: the log itself may be gone
// by the time somebody wants to know.
func lastWords(name string) string {
	file, err := os.Open(logPath(name))
	if err != nil {
		return ""
	}
	defer file.Close()
	if _, err := file.Seek(-lastWordsLength, io.SeekEnd); err != nil {
		_, _ = file.Seek(0, io.SeekStart) // it is shorter than that
	}
	text, _ := io.ReadAll(file)
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return ""
	}
	return "; its log ends with: " + string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// logPath is where a component's output goes.
func logPath(name string) string { return filepath.Join(layout.State, layout.LogDir, name+".log") }

// waitForKubelet waits for what the kubelet gives up without (the container
// runtime's socket) or loses seconds without (the API server).
func waitForKubelet(ctx context.Context) error {
	client := &http.Client{Timeout: askTimeout, Transport: &http.Transport{
		// Nothing is sent, and what listens there is this cluster's own.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	url := fmt.Sprintf("https://%s:%d/livez", layout.NodeIP, layout.APIPort)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		_, err := os.Stat(layout.Socket)
		if err == nil {
			var response *http.Response
			if response, err = client.Get(url); err == nil {
				response.Body.Close()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the container runtime and the API server: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}
