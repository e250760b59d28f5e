package proxytest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/proxy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

const (
	// startWithin and applyWithin are far more than a proxy takes on loopback.
	startWithin = 20 * time.Second
	applyWithin = 10 * time.Second
	// stopWithin is more than a proxy drains; one that is still there then is killed.
	stopWithin = 20 * time.Second
	tokenMode  = 0o600
)

// Program is the file name of package standalone's program, in bin.
const Program = "meshproof-standalone"

// Options is how a proxy is started. The zero value of what has no comment on it is of no use.
type Options struct {
	// Program is the path of the program.
	Program string
	// Apps are the destinations; the proxy gets one listener on 127.0.0.1 for each.
	Apps []netip.AddrPort
	// Listen is the address of the listeners; 127.0.0.1 when empty.
	Listen string
	// IPs are the pod's addresses; empty means any.
	IPs []netip.Addr
	// Dialect is documented when empty.
	Dialect string
	// Env are further variables NAME=VALUE of the proxy's environment.
	Env []string
	// Stderr gets the proxy's log; nil means none.
	Stderr io.Writer
	// Wrap is a command and its arguments to start the program by, such as prlimit; nil for none.
	Wrap []string
}

// Proxy is a running proxy. Everything it serves for clients is on 127.0.0.1.
type Proxy struct {
	// Pairs are where clients connect to, in the order of Options.Apps.
	Pairs []netip.AddrPort
	// Direct takes direct connections, Admin the requests of Prometheus and kubelet, Observe is the control port.
	Direct, Admin, Observe netip.AddrPort

	plane *Plane
	cmd   *exec.Cmd
	dir   string
	ended chan struct{}
	err   error
	http  *http.Client
}

// Start starts a proxy and waits until it is certified and listens. Policies of
// its ports are not waited for. Stop ends it.
func (p *Plane) Start(ctx context.Context, options Options) (*Proxy, error) {
	dir, err := os.MkdirTemp("", "meshproof-standalone-")
	if err != nil {
		return nil, err
	}
	proxy := &Proxy{plane: p, dir: dir, ended: make(chan struct{}), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if err := proxy.start(ctx, options); err != nil {
		if proxy.cmd != nil && proxy.cmd.Process != nil {
			proxy.Stop()
		}
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	return proxy, nil
}

func (p *Proxy) start(ctx context.Context, options Options) error {
	token := filepath.Join(p.dir, "token")
	if err := os.WriteFile(token, []byte("token"), tokenMode); err != nil {
		return err
	}
	free, err := freeAddrs(4)
	if err != nil {
		return err
	}
	p.Direct, p.Admin, p.Observe = free[0], free[1], free[2]
	command := append(slices.Clone(options.Wrap), options.Program)
	listen := options.Listen
	if listen == "" {
		listen = "127.0.0.1"
	}
	for _, app := range options.Apps {
		command = append(command, net.JoinHostPort(listen, "0")+"="+app.String())
	}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Env = append([]string{
		"LINKERD2_PROXY_INBOUND_LISTEN_ADDR=" + p.Direct.String(),
		"LINKERD2_PROXY_ADMIN_LISTEN_ADDR=" + p.Admin.String(),
		"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR=" + free[3].String(),
		"MESHPROOF_PROXY_OBSERVE_ADDR=" + p.Observe.String(),
		"LINKERD2_PROXY_INBOUND_PORTS=" + ports(options.Apps),
		"LINKERD2_PROXY_INBOUND_IPS=" + addresses(options.IPs),
		"LINKERD2_PROXY_POLICY_SVC_ADDR=" + p.plane.policy,
		"LINKERD2_PROXY_POLICY_WORKLOAD=apps:app-0",
		"LINKERD2_PROXY_IDENTITY_SVC_ADDR=" + p.plane.identity,
		"LINKERD2_PROXY_IDENTITY_SVC_NAME=" + identityName,
		"LINKERD2_PROXY_IDENTITY_TOKEN_FILE=" + token,
		"LINKERD2_PROXY_IDENTITY_LOCAL_NAME=" + ProxyName,
		"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS=" + string(p.plane.CA.PEM()),
		"MESHPROOF_DIALECT=" + options.Dialect,
	}, options.Env...)
	p.cmd.Stderr = options.Stderr
	// What kills the suite kills its proxies.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	kill := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer kill()
	line, readErr := bufio.NewReader(out).ReadBytes('\n')
	go func() { defer close(p.ended); p.err = p.cmd.Wait() }()
	if readErr != nil {
		return fmt.Errorf("it ended before it listened: %w", readErr)
	}
	var listening proxy.Listening
	if err := json.Unmarshal(line, &listening); err != nil {
		return fmt.Errorf("read where it listens from %q: %w", line, err)
	}
	p.Pairs = listening.Pairs
	return p.certified(ctx)
}

// certified waits for the certificate, without which mesh TLS is refused.
func (p *Proxy) certified(ctx context.Context) error {
	p.plane.Set(p.Admin.Port(), Everybody())
	if err := p.poll(ctx, func() bool { _, err := p.get(ctx, p.Admin, "/ready"); return err == nil }); err != nil {
		return fmt.Errorf("wait until it is ready: %w", err)
	}
	return nil
}

func (p *Proxy) poll(ctx context.Context, ok func() bool) error {
	const every = 5 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return errors.New("it has ended")
		}
	}
	return nil
}

// PID is the proxy's process id, for /proc.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// Apply brings a policy for a port into force here. A revision among its labels is no
// part of the policy.
func (p *Proxy) Apply(ctx context.Context, port uint16, server *pb.Server) error {
	bare := proto.Clone(server).(*pb.Server)
	delete(bare.Labels, revision.Label)
	hash, err := policy.Hash(bare)
	if err != nil {
		return fmt.Errorf("encode the policy of port %d: %w", port, err)
	}
	p.plane.Set(port, server)
	ctx, cancel := context.WithTimeout(ctx, applyWithin)
	defer cancel()
	if _, err := p.get(ctx, p.Observe, fmt.Sprintf("/policy?port=%d&hash=%s&timeout=%s", port, hash, applyWithin)); err != nil {
		return fmt.Errorf("bring a policy of port %d into force: %w", port, err)
	}
	return nil
}

// Decisions are the decisions since a sequence number.
func (p *Proxy) Decisions(ctx context.Context, since uint64) (list inbound.DecisionList, err error) {
	body, err := p.get(ctx, p.Observe, "/decisions?since="+strconv.FormatUint(since, 10))
	if err != nil {
		return list, err
	}
	return list, json.Unmarshal(body, &list)
}

// Metrics is the admin port's page.
func (p *Proxy) Metrics(ctx context.Context) ([]byte, error) { return p.get(ctx, p.Admin, "/metrics") }

// get asks the control port or the admin port.
func (p *Proxy) get(ctx context.Context, from netip.AddrPort, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+from.String()+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, res.Status, body)
	}
	return body, err
}

// Ended is closed when the process has ended.
func (p *Proxy) Ended() <-chan struct{} { return p.ended }

// Signal sends the process a signal.
func (p *Proxy) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end, kills it when it does not, and returns what it ended with.
func (p *Proxy) Stop() error {
	defer os.RemoveAll(p.dir)
	p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopWithin, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	return p.err
}

// Kill ends the process at once.
func (p *Proxy) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
	os.RemoveAll(p.dir)
}

// Neighbour is an address of this machine that is not localhost to the proxy,
// which localhost's clients need no policy for (H-20).
const Neighbour = "127.0.0.2"

// Dialer connects from an address of this machine.
func Dialer(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: applyWithin}
}

// freeAddrs are addresses that nothing listens on at the moment.
func freeAddrs(n int) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return addrs, nil
}

func ports(apps []netip.AddrPort) string {
	text := ""
	for _, app := range apps {
		text += strconv.Itoa(int(app.Port())) + ","
	}
	return text
}

func addresses(ips []netip.Addr) string {
	text := ""
	for _, ip := range ips {
		text += ip.String() + ","
	}
	return text
}
