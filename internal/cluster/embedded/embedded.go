// Package embedded makes clusters out of nothing but this project's programs:
// Kubernetes itself in namespaces of its own, without a container runtime, an
// image, or any right that an ordinary user does not have.
//
// The creating process writes certificates and links programs into a state
// folder, starts the cluster's first process there (package sandbox) and waits
// for the API on a socket of the host's loopback that it passed on. From then
// on the cluster lives in that one process: when it ends, the kernel ends
// everything else, and all that is left is the folder. The package changes
// nothing of the host: no setting, no route, no file outside the folder.
package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/state"
	"github.com/meshproof/meshproof/workloads/images"
)

// Kind is this provider's name.
const Kind = "embedded"

// endTimeout bounds how long the kernel may take to end a cluster that was
// told to.
const endTimeout = 30 * time.Second

// Provider makes embedded clusters.
type Provider struct {
	binDir    string
	clusters  state.Registry
	verbosity int
}

var (
	_ cluster.Provider = (*Provider)(nil)
	_ cluster.Foreseen = (*Provider)(nil)
)

// New returns a provider that takes its programs from binDir and keeps its
// clusters below stateDir; empty strings mean the folder of this executable
// and state.Dir.
func New(binDir, stateDir string) (*Provider, error) {
	if binDir == "" {
		executable, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program's folder: %w", err)
		}
		binDir = filepath.Dir(executable)
	}
	binDir, err := filepath.Abs(binDir)
	if err != nil {
		return nil, fmt.Errorf("find folder of programs: %w", err)
	}
	if stateDir == "" {
		if stateDir, err = state.Dir(); err != nil {
			return nil, err
		}
	}
	return &Provider{binDir: binDir, clusters: state.Registry(filepath.Join(stateDir, "clusters")), verbosity: 1}, nil
}

// Kind implements cluster.Provider.
func (p *Provider) Kind() string { return Kind }

// Capabilities implements cluster.Foreseen.
func (p *Provider) Capabilities() cluster.Capabilities { return capabilities(singleUID()) }

func capabilities(singleUID bool) cluster.Capabilities {
	return cluster.Capabilities{SingleUID: singleUID, Nodes: 1, LocalImages: true, Faults: true,
		Outside: cluster.Outside{How: cluster.OutsidePods, Networks: []netip.Prefix{layout.Outside}}}
}

// Create implements cluster.Provider.
func (p *Provider) Create(ctx context.Context, options cluster.Options) (cluster.Cluster, error) {
	begun := time.Now()
	if options.Name == "" {
		options.Name = madeUpName()
	}
	if err := state.CheckName(options.Name); err != nil {
		return nil, err
	}
	programs, err := p.programs()
	if err != nil {
		return nil, err
	}
	f, lock, err := p.clusters.Reserve(options.Name, nil)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // by then the first process holds it
	c, err := p.start(ctx, f, lock, programs, options)
	if err != nil {
		return nil, errors.Join(err, f.Remove())
	}
	if err := c.waitReady(ctx, begun, options); err != nil {
		err = fmt.Errorf("%w: %w", cluster.ErrNotReady, c.explain(ctx, err))
		if options.Logs != "" && ctx.Err() == nil {
			err = errors.Join(err, c.Logs(ctx, options.Logs))
		}
		return nil, errors.Join(err, c.end())
	}
	if options.Standing {
		if err := c.Keep(ctx); err != nil {
			return nil, errors.Join(err, c.end())
		}
	}
	return c, nil
}

// programs lists the files of bin/ that a cluster needs, by name. Of the images'
// programs nothing runs without meshproof-agent; what else bin/ lacks is left
// out: a pod that wants it is told.
func (p *Provider) programs() (map[string]string, error) {
	found := map[string]string{}
	for _, name := range []string{program, "meshproof-kube", "meshproof-agent"} {
		found[name] = filepath.Join(p.binDir, name)
		if _, err := os.Stat(found[name]); err != nil {
			return nil, &cluster.SetupError{Cause: "find the program " + name, Remedy: "run make build", Err: err}
		}
	}
	for _, image := range images.All() {
		for _, name := range image.Files {
			path := filepath.Join(p.binDir, name)
			if _, err := os.Stat(path); err == nil {
				found[name] = path
			}
		}
	}
	for _, path := range found {
		if err := checkStatic(path); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// placePrograms makes the programs available in the state folder: by hard links
// where they are on the same file system and this user may link them. Where
// not, a cluster of the same user is told where they are, and mounts them over
// the empty files made here; any other cluster may be unable to reach them and
// gets copies.
func placePrograms(f state.Folder, programs map[string]string, singleUID bool) (mounted map[string]string, err error) {
	mounted = map[string]string{}
	for name, path := range programs {
		target := f.Path(layout.Bin, name)
		switch {
		case link(path, target):
		case singleUID:
			mounted[name] = path
			err = os.WriteFile(target, nil, 0o755)
		default:
			err = copyProgram(path, target)
		}
		if err != nil {
			return nil, fmt.Errorf("place program %s: %w", name, err)
		}
	}
	return mounted, nil
}

// start fills the folder and starts the first process.
func (p *Provider) start(ctx context.Context, f state.Folder, lock *os.File, programs map[string]string, options cluster.Options) (*Cluster, error) {
	for _, dir := range []string{layout.Bin, layout.LogDir, layout.Run, layout.Root} {
		if err := os.Mkdir(f.Path(dir), 0o755); err != nil {
			return nil, fmt.Errorf("make cluster's folder: %w", err)
		}
	}
	setup := layout.Setup{Name: options.Name, SingleUID: singleUID(), Verbosity: p.verbosity}
	var err error
	if setup.Programs, err = placePrograms(f, programs, setup.SingleUID); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	defer listener.Close() // the first process has inherited it
	server := "https://" + listener.Addr().String()
	if err := writePKI(string(f), options.Name, server); err != nil {
		return nil, err
	}
	if !setup.SingleUID {
		if err := p.handOver(f); err != nil {
			return nil, err
		}
	}
	sandbox, err := startSandbox(f, setup, firstID, !options.Standing, listener.(*net.TCPListener), lock)
	if err != nil {
		return nil, err
	}
	c := &Cluster{folder: f, sandbox: sandbox, done: make(chan struct{}), status: make(chan layout.Status, 16), record: record{
		Name: options.Name, Created: time.Now(), Server: server, Standing: options.Standing, SingleUID: setup.SingleUID,
		PID: sandbox.pid, StartTime: startTime(sandbox.pid)}}
	go c.follow()
	if err := f.WriteRecord(c.record); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// handOver gives what the cluster's user must read or write to it.
func (p *Provider) handOver(f state.Folder) error {
	for _, dir := range []string{layout.PKI, layout.LogDir, layout.Run, layout.Root} {
		if err := give(f.Path(dir), firstID); err != nil {
			return err
		}
	}
	if err := os.Lchown(string(f), firstID, firstID); err != nil {
		return fmt.Errorf("hand over to the cluster's user: %w", err)
	}
	return nil
}

// singleUID is true when only one user ID can be mapped: for an ordinary user,
// and for a root whose own IDs are only a part.
func singleUID() bool {
	if os.Geteuid() != 0 {
		return true
	}
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(data))
	return !slices.Equal(fields, []string{"0", "0", "4294967295"})
}

func madeUpName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return "run-" + hex.EncodeToString(b[:])
}

// Open implements cluster.Provider.
func (p *Provider) Open(_ context.Context, name string) (cluster.Cluster, error) {
	f := p.clusters.Folder(name)
	r, err := readRecord(f)
	if err != nil || !f.Owned() {
		return nil, fmt.Errorf("open cluster %s: %w", name, cluster.ErrNotFound)
	}
	return &Cluster{folder: f, record: r, done: make(chan struct{})}, nil
}

// Delete implements cluster.Provider.
func (p *Provider) Delete(ctx context.Context, name string) error {
	f := p.clusters.Folder(name)
	if !state.ValidName(name) {
		return fmt.Errorf("delete cluster %q: %w", name, cluster.ErrNotFound)
	}
	if _, err := os.Stat(string(f)); err != nil {
		return fmt.Errorf("delete cluster %s: %w", name, cluster.ErrNotFound)
	}
	if f.Owned() {
		r, err := readRecord(f)
		if err != nil {
			return fmt.Errorf("delete cluster %s while it is being created: %w", name, err)
		}
		if err := kill(ctx, r); err != nil {
			return fmt.Errorf("delete cluster %s: %w", name, err)
		}
	}
	release, err := p.clusters.Guard()
	if err != nil {
		return err
	}
	defer release()
	return f.Remove()
}

// kill ends the process that a record names, if it still is that process, and
// waits until it is gone.
func kill(ctx context.Context, r record) error {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find process %d: %w", r.PID, err)
	}
	defer unix.Close(fd)
	if startTime(r.PID) != r.StartTime {
		return nil // another process has got its number
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d: %w", r.PID, err)
	}
	return awaitExit(ctx, fd)
}

// awaitExit waits until the process behind a descriptor has ended. The first
// process of a namespace ends after all others.
func awaitExit(ctx context.Context, fd int) error {
	deadline := time.Now().Add(endTimeout)
	for {
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(wait, int(exitPoll.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the cluster's end: %w", err)
		}
		switch {
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the cluster's end: %w", ctx.Err())
		case time.Now().After(deadline):
			return fmt.Errorf("the cluster has not ended after %s", endTimeout)
		}
	}
}

// exitPoll is how often a wait for a process looks whether it was cancelled.
const exitPoll = 100 * time.Millisecond

// List implements cluster.Provider.
func (p *Provider) List(context.Context) ([]cluster.Info, error) {
	names, err := p.clusters.Names()
	if err != nil {
		return nil, err
	}
	var out []cluster.Info
	for _, name := range names {
		f := p.clusters.Folder(name)
		r, err := readRecord(f)
		if err != nil {
			r = record{Name: name} // it is being created, or its folder is damaged
		}
		out = append(out, cluster.Info{Name: name, Kind: Kind, Running: f.Owned(), Standing: r.Standing, Created: r.Created,
			Server: r.Server, Kubeconfig: f.Path(layout.Kubeconfig)})
	}
	return out, nil
}

// Cleanup implements cluster.Provider.
func (p *Provider) Cleanup(ctx context.Context) ([]string, error) {
	if _, err := os.Stat(string(p.clusters)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	release, err := p.clusters.Guard()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := p.clusters.RemoveHolds(); err != nil {
		return nil, err
	}
	names, err := p.clusters.Names()
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		f := p.clusters.Folder(name)
		lock, free, err := f.Lock()
		if err != nil {
			return removed, err
		}
		if !free {
			continue
		}
		err = f.Remove()
		lock.Close()
		if err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	return removed, nil
}
