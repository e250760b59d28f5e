package intercept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
	"github.com/meshproof/meshproof/internal/mesh/proxy/outbound"
)

// The test runs itself again in a user and network namespace of its own, where
// it may do what a pod's init container may. The pod is that namespace, the
// world outside is a second one at the other end of a veth pair.
const (
	childEnv = "MESHPROOF_INTERCEPT_CHILD"
	// dialEnv and meddleEnv make the test binary dial, or try what an
	// application must not be able to do, and end.
	dialEnv   = "MESHPROOF_INTERCEPT_DIAL"
	meddleEnv = "MESHPROOF_INTERCEPT_MEDDLE"

	podIP, podIP6         = "10.9.0.2", "fd09::2"
	outsideIP, outsideIP6 = "10.9.0.1", "fd09::1"
	proxyUID              = 2102
	proxyMark             = 0x4143

	// patience bounds every wait; only a failing test uses it up.
	patience = 10 * time.Second
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(dialEnv) != "":
		conn, err := net.DialTimeout("tcp", os.Getenv(dialEnv), patience)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		conn.Close()
		os.Exit(0)
	case os.Getenv(meddleEnv) != "":
		os.Exit(meddle(os.Getenv(meddleEnv)))
	}
	os.Exit(m.Run())
}

// meddle prints what an application without NET_* capability could do.
func meddle(target string) int {
	code := 0
	complain := func(what string) { fmt.Println(what); code = 1 }
	if conn, err := sockopt.Dialer(proxyMark).Dial("tcp", target); err == nil {
		conn.Close()
		complain("set the socket mark")
	} else if !errors.Is(err, unix.EPERM) {
		complain("mark: " + err.Error())
	}
	if err := Remove(); !errors.Is(err, ErrNotPermitted) {
		complain(fmt.Sprintf("removed the rules: %v", err))
	}
	if err := Apply(Rules{ProxyUID: 1}); !errors.Is(err, ErrNotPermitted) {
		complain(fmt.Sprintf("replaced the rules: %v", err))
	}
	if err := Main(context.Background(), []string{"--proxy-uid", "2102"}); !errors.Is(err, ErrNotPermitted) {
		complain(fmt.Sprintf("proxy-init without NET_ADMIN: %v", err))
	}
	conn, err := nftables.New()
	if err == nil {
		conn.FlushRuleset()
		err = conn.Flush()
	}
	if !errors.Is(err, unix.EPERM) {
		complain(fmt.Sprintf("flushed the ruleset: %v", err))
	}
	return code
}

func TestRedirection(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		inNamespaces(t)
		return
	}
	w := newWorld(t)
	for _, exempt := range []struct {
		name  string
		rules Rules
	}{
		{"by mark", Rules{ProxyMark: proxyMark}},
		{"by user", Rules{ProxyUID: proxyUID}},
	} {
		t.Run(exempt.name, func(t *testing.T) {
			rules := exempt.rules
			rules.SkipInbound = []PortRange{{4567, 4568}}
			rules.SkipOutbound = []PortRange{{2500, 2501}, {9999, 9999}}
			for range 2 { // the second time must find its own work and replace it
				if err := Apply(rules); err != nil {
					t.Fatal(err)
				}
			}
			w.checkTable(t, len(rules.SkipInbound)+3, len(rules.SkipInbound)+len(rules.SkipOutbound)+7)
			for _, family := range w.families {
				t.Run(family.name, func(t *testing.T) { w.checkRedirection(t, family, rules) })
			}
			t.Run("an application cannot meddle", func(t *testing.T) { w.checkMeddling(t) })
		})
	}
	t.Run("with a real proxy", func(t *testing.T) { w.checkProxy(t) })
	t.Run("removed", func(t *testing.T) {
		for range 2 {
			if err := Remove(); err != nil {
				t.Fatal(err)
			}
		}
		w.inbound(t, w.families[0], 8080, direct)
		w.outbound(t, w.families[0], 9000, 0, direct)
	})
}

// checkProxy has the outbound half take what is redirected: it must learn the
// original destination from the kernel, and its own mark must get it past the
// rules, or the connection would come back to it for ever.
func (w *world) checkProxy(t *testing.T) {
	const port = 14140
	if err := Apply(Rules{ProxyMark: proxyMark, OutboundPort: port}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	proxy, err := outbound.New(outbound.Config{
		Registerer: registry,
		ListenAddr: fmt.Sprintf("127.0.0.1:%d", port), SocketMark: proxyMark,
		Destination: outbound.Destination{Addr: "127.0.0.1:1"}, DiscoveryTimeout: time.Millisecond, // nobody to ask
		Identity: identitytest.NewCA(t, "ours").Client(t, "a.b"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); proxy.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for _, service := range []int{9000, 2500} {
		target := net.JoinHostPort(outsideIP, fmt.Sprint(service))
		conn, err := net.DialTimeout("tcp", target, patience)
		if err != nil {
			t.Fatal(err)
		}
		w.expect(t, "through the proxy to "+target, direct, podIP, target)
		conn.Close()
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == "tcp_open_total" && label.GetName() == "peer" && label.GetValue() == "src" && m.GetCounter().GetValue() != 2 {
					t.Errorf("the proxy took %v connections, want 2", m.GetCounter().GetValue())
				}
			}
		}
	}
}

// inNamespaces runs the same test again in namespaces of its own: as root with
// a range of users, as an ordinary user with a single one.
func inNamespaces(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRedirection$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	if os.Getuid() == 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: 200000, Size: 65536}}
		attr.GidMappings = attr.UidMappings
		attr.GidMappingsEnableSetgroups = true
		attr.Credential = &syscall.Credential{}
	}
	cmd.SysProcAttr = attr
	runtime.LockOSThread() // the child dies with the thread that made it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("this machine lets nobody make user and network namespaces: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal("failed inside its namespaces, see above")
	}
}

// family is one IP version of the world.
type family struct {
	name         string
	pod, outside string
	loopback     string
}

// world is the pod with its listeners and the machine outside.
type world struct {
	families []family
	// accepted receives what arrives at any listener.
	accepted chan arrival
	// outsideDo has a function run on the thread that lives outside.
	outsideDo chan func()
	manyUsers bool
}

// arrival is a connection as its acceptor sees it.
type arrival struct {
	at       string // "inbound", "outbound" or "app"
	peer     netip.Addr
	original netip.AddrPort
}

func newWorld(t *testing.T) *world {
	runtime.LockOSThread() // the test's thread stays in the pod
	w := &world{accepted: make(chan arrival, 16), outsideDo: make(chan func()), manyUsers: manyUsers()}
	w.families = []family{{"IPv4", podIP, outsideIP, "127.0.0.1"}}
	if len(families()) == 2 {
		w.families = append(w.families, family{"IPv6", podIP6, outsideIP6, "::1"})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	up := func(name string, addresses ...string) {
		t.Helper()
		link, err := netlink.LinkByName(name)
		must(err)
		for _, address := range addresses {
			addr, err := netlink.ParseAddr(address)
			must(err)
			addr.Flags = unix.IFA_F_NODAD
			must(netlink.AddrAdd(link, addr))
		}
		must(netlink.LinkSetUp(link))
	}
	addresses := func(v4, v6 string) []string {
		if len(w.families) == 2 {
			return []string{v4 + "/24", v6 + "/64"}
		}
		return []string{v4 + "/24"}
	}
	outsideNS := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			ns = -1
		}
		outsideNS <- ns
		for f := range w.outsideDo {
			f()
		}
	}()
	t.Cleanup(func() { close(w.outsideDo) })
	ns := <-outsideNS
	if ns < 0 {
		t.Fatal("cannot make the outside namespace")
	}
	up("lo")
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "out0", PeerNamespace: netlink.NsFd(ns)}))
	w.outside(func() { up("lo"); up("out0", addresses(outsideIP, outsideIP6)...) })
	up("eth0", addresses(podIP, podIP6)...)

	for _, port := range []int{DefaultInboundPort} {
		w.listen(t, "inbound", port, "")
	}
	for _, f := range w.families {
		w.listen(t, "outbound", DefaultOutboundPort, f.loopback)
	}
	for _, port := range []int{8080, controlPort, adminPort, 4567, 4568} {
		w.listen(t, "app", port, "")
	}
	w.outside(func() {
		for _, port := range []int{9000, 2500, 2501, 9999} {
			w.listen(t, "app", port, "")
		}
	})
	return w
}

func (w *world) outside(f func()) {
	done := make(chan struct{})
	w.outsideDo <- func() { defer close(done); f() }
	<-done
}

func (w *world) listen(t *testing.T, name string, port int, ip string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			original, err := sockopt.OriginalDst(conn.(*net.TCPConn))
			if err != nil {
				fmt.Println(err)
			}
			w.accepted <- arrival{name, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), original}
			conn.Close()
		}
	}()
}

// direct is the expectation that no proxy sees the connection.
const direct = "app"

func (w *world) expect(t *testing.T, what, at, peer, original string) {
	t.Helper()
	want := arrival{at, netip.MustParseAddr(peer), netip.MustParseAddrPort(original)}
	select {
	case got := <-w.accepted:
		if got != want {
			t.Errorf("%s: arrived %+v, want %+v", what, got, want)
		}
	case <-time.After(patience):
		t.Errorf("%s: arrived nowhere", what)
	}
}

func dial(t *testing.T, mark int, address string) {
	t.Helper()
	dialer := sockopt.Dialer(mark)
	dialer.Timeout = patience
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Errorf("dial %s: %v", address, err)
		return
	}
	conn.Close()
}

func (w *world) inbound(t *testing.T, f family, port int, at string) {
	t.Helper()
	target := net.JoinHostPort(f.pod, fmt.Sprint(port))
	w.outside(func() { dial(t, 0, target) })
	w.expect(t, "inbound to "+target, at, f.outside, target)
}

func (w *world) outbound(t *testing.T, f family, port, mark int, at string) {
	t.Helper()
	target := net.JoinHostPort(f.outside, fmt.Sprint(port))
	dial(t, mark, target)
	w.expect(t, fmt.Sprintf("outbound to %s, mark %#x", target, mark), at, f.pod, target)
}

func (w *world) checkRedirection(t *testing.T, f family, rules Rules) {
	w.inbound(t, f, 8080, "inbound")
	w.inbound(t, f, 9, "inbound") // nobody listens there; the proxy answers all the same
	w.inbound(t, f, controlPort, direct)
	w.inbound(t, f, adminPort, direct)
	w.inbound(t, f, 4567, direct)
	w.inbound(t, f, 4568, direct)

	w.outbound(t, f, 9000, 0, "outbound")
	w.outbound(t, f, 9000, proxyMark+1, "outbound")
	w.outbound(t, f, 2500, 0, direct)
	w.outbound(t, f, 2501, 0, direct)
	w.outbound(t, f, 9999, 0, direct)
	w.outbound(t, f, 2502, 0, "outbound")
	// B-02: over the pod's own address through the inbound half, from that address.
	for _, own := range []struct {
		ip, port string
		mark     int
		at       string
	}{
		{f.loopback, "8080", 0, direct}, {f.pod, "8080", 0, "inbound"}, {f.pod, "9", 0, "inbound"},
		{f.pod, fmt.Sprint(adminPort), 0, direct}, {f.pod, "4567", 0, direct}, {f.loopback, "4567", 0, direct},
	} {
		target := net.JoinHostPort(own.ip, own.port)
		dial(t, own.mark, target)
		w.expect(t, "to itself at "+target, own.at, own.ip, target)
	}
	if rules.ProxyMark != 0 {
		target := net.JoinHostPort(f.pod, "8080")
		dial(t, proxyMark, target)
		w.expect(t, "the proxy to the application", direct, f.pod, target)
	}
	if rules.ProxyMark != 0 {
		w.outbound(t, f, 9000, proxyMark, direct)
	} else {
		w.outbound(t, f, 9000, proxyMark, "outbound")
	}
	if !w.manyUsers {
		t.Log("only one user in this namespace: exemption by user not tried")
		return
	}
	for _, uid := range []uint32{proxyUID, proxyUID + 1} {
		target := net.JoinHostPort(f.outside, "9000")
		at := "outbound"
		if uid == rules.ProxyUID {
			at = direct
		}
		if out, err := child(dialEnv, target, &syscall.Credential{Uid: uid, Gid: uid}); err != nil {
			t.Errorf("dial as user %d: %v: %s", uid, err, out)
			continue
		}
		w.expect(t, fmt.Sprintf("outbound as user %d", uid), at, f.pod, target)
	}
}

// checkMeddling runs what an application is: first as an ordinary user, then as
// the user that owns the namespace but without the network capabilities, which
// is what it is under a map of a single user.
func (w *world) checkMeddling(t *testing.T) {
	target := net.JoinHostPort(outsideIP, "9000")
	if w.manyUsers {
		if out, err := child(meddleEnv, target, &syscall.Credential{Uid: 1000, Gid: 1000}); err != nil {
			t.Errorf("as an ordinary user: %v\n%s", err, out)
		}
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: this thread has lost capabilities
		for _, capability := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE} {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
				failed <- err
				return
			}
		}
		out, err := child(meddleEnv, target, nil)
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Errorf("as root without network capabilities: %v", err)
	}
	w.outbound(t, w.families[0], 9000, 0, "outbound") // and the rules still stand
}

// child runs the test binary as a helper in the pod.
func child(env, value string, as *syscall.Credential) (string, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env+"="+value)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) checkTable(t *testing.T, inbound, outbound int) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) != len(w.families) {
		t.Errorf("%d tables for %d families", len(tables), len(w.families))
	}
	for _, table := range tables {
		for name, want := range map[string]int{"inbound": inbound, "outbound": outbound} {
			rules, err := conn.GetRules(table, &nftables.Chain{Name: name, Table: table})
			if err != nil {
				t.Fatal(err)
			}
			if len(rules) != want {
				t.Errorf("%d rules in chain %s, want %d", len(rules), name, want)
			}
		}
	}
}

func manyUsers() bool {
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Fields(string(uidMap))[2] != "1"
}
