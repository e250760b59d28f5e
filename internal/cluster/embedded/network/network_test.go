package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// pod is a network namespace attached to the node under test.
type pod struct {
	t       *testing.T
	id      string
	handle  netns.NsHandle
	address netip.Addr
}

func newPod(t *testing.T, pods *Pods, outside bool) *pod {
	t.Helper()
	p := &pod{t: t, id: fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var err error
		p.handle, err = netns.New()
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal("make a network namespace:", err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", int(p.handle))
	address, err := pods.Attach(context.Background(), p.id, path, outside)
	if err != nil {
		t.Fatal(err)
	}
	p.address = address
	t.Cleanup(func() {
		if err := pods.Detach(context.Background(), p.id); err != nil {
			t.Error(err)
		}
		p.handle.Close()
	})
	return p
}

// do runs f in the pod's network.
func (p *pod) do(f func() error) error { return inNamespace(p.handle, f) }

// serve answers every TCP connection with the pod's address and the client's.
func (p *pod) serve(port int) netip.AddrPort {
	p.t.Helper()
	var listener net.Listener
	if err := p.do(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "%s %s", p.address, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
			conn.Close()
		}
	})
	p.t.Cleanup(func() { listener.Close(); serving.Wait() })
	return netip.AddrPortFrom(p.address, uint16(port))
}

// ask connects and returns which pod answered and what it took the client for.
func ask(address netip.AddrPort) (server, client netip.Addr, err error) {
	conn, err := net.DialTimeout("tcp4", address.String(), patience)
	if err != nil {
		return server, client, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return server, client, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return server, client, err
	}
	a, b, _ := strings.Cut(string(text), " ")
	server, err = netip.ParseAddr(a)
	if err != nil {
		return server, client, err
	}
	client, err = netip.ParseAddr(b)
	return server, client, err
}

func (p *pod) ask(address netip.AddrPort) (server, client netip.Addr) {
	p.t.Helper()
	if err := p.do(func() (err error) {
		server, client, err = ask(address)
		return err
	}); err != nil {
		p.t.Fatalf("connect from %s to %s: %v", p.address, address, err)
	}
	return server, client
}

func service(host byte, port uint16, endpoints ...netip.AddrPort) Service {
	return Service{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 1, host}), port), Protocol: unix.IPPROTO_TCP, Endpoints: endpoints}
}

func apply(t *testing.T, translator *Translator, services ...Service) {
	t.Helper()
	if err := translator.Apply(services); err != nil {
		t.Fatal(err)
	}
}

func newTranslator(t *testing.T) *Translator {
	translator := &Translator{}
	t.Cleanup(func() { apply(t, translator) })
	return translator
}

func TestPodsReachEachOtherUnderTheirOwnAddresses(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	a, b, outside := newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, true)
	if !layout.Pods.Contains(a.address) || !layout.Pods.Contains(b.address) || a.address == b.address {
		t.Errorf("pods got %s and %s", a.address, b.address)
	}
	if !layout.Outside.Contains(outside.address) {
		t.Errorf("the outside pod got %s", outside.address)
	}
	target := b.serve(8080)
	for _, p := range []*pod{a, outside} {
		if server, client := p.ask(target); server != b.address || client != p.address {
			t.Errorf("from %s: server %s saw client %s", p.address, server, client)
		}
	}
}

func TestTrafficOfTheNodeComesFromTheNodeAddress(t *testing.T) {
	requireNetwork(t)
	p := newPod(t, NewPods(), false)
	target := p.serve(8080)
	translator := newTranslator(t)
	s := service(1, 80, target)
	apply(t, translator, s)
	for _, address := range []netip.AddrPort{target, s.Address} {
		server, client, err := ask(address)
		if err != nil || server != p.address || client != layout.NodeIP {
			t.Errorf("ask %s: server %s, client %s, error %v", address, server, client, err)
		}
	}
}

func TestPodHasNoRouteOutOfTheCluster(t *testing.T) {
	requireNetwork(t)
	p := newPod(t, NewPods(), false)
	err := p.do(func() error {
		_, _, err := ask(netip.MustParseAddrPort("192.0.2.1:80"))
		return err
	})
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("connect to an address beyond the cluster: %v", err)
	}
}

func TestAbsentPodIsUnreachable(t *testing.T) {
	requireNetwork(t)
	p := newPod(t, NewPods(), false)
	err := p.do(func() error {
		_, _, err := ask(netip.MustParseAddrPort("10.244.255.250:80"))
		return err
	})
	if !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("connect to a pod that is not there: %v", err)
	}
}

func TestServiceSpreadsOverItsEndpoints(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, a, b, c := newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, false)
	s := service(2, 80, a.serve(8080), b.serve(8081), c.serve(8082))
	apply(t, newTranslator(t), s)
	seen := map[netip.Addr]int{}
	const calls = 120 // the chance that one of three is never picked is below 1e-20
	for range calls {
		server, _ := client.ask(s.Address)
		seen[server]++
	}
	if len(seen) != 3 {
		t.Errorf("calls went to %v", seen)
	}
}

func TestStickyServiceKeepsAClientAtOneEndpoint(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	a, b, c := newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, false)
	s := service(3, 80, a.serve(8080), b.serve(8080), c.serve(8080))
	s.Sticky = true
	apply(t, newTranslator(t), s)
	all := map[netip.Addr]bool{}
	for range 16 {
		client := newPod(t, pods, false)
		first, _ := client.ask(s.Address)
		all[first] = true
		for range 8 {
			if server, _ := client.ask(s.Address); server != first {
				t.Fatalf("client %s reached %s and then %s", client.address, first, server)
			}
		}
	}
	if len(all) < 2 {
		t.Errorf("all clients reached %v", all)
	}
}

func TestPodReachesItselfThroughAService(t *testing.T) {
	requireNetwork(t)
	p := newPod(t, NewPods(), false)
	s := service(4, 80, p.serve(8080))
	apply(t, newTranslator(t), s)
	if server, client := p.ask(s.Address); server != p.address || client != layout.NodeIP {
		t.Errorf("server %s saw client %s", server, client)
	}
}

func TestServiceWithoutEndpointsRefuses(t *testing.T) {
	requireNetwork(t)
	p := newPod(t, NewPods(), false)
	translator := newTranslator(t)
	s := service(5, 80, p.serve(8080))
	empty := s
	empty.Endpoints = nil
	for name, services := range map[string][]Service{"no such service": nil, "no endpoints": {empty}} {
		apply(t, translator, services...)
		for from, try := range map[string]func(func() error) error{"pod": p.do, "node": func(f func() error) error { return f() }} {
			err := try(func() error { _, _, err := ask(s.Address); return err })
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s, from the %s: %v", name, from, err)
			}
		}
	}
	apply(t, translator, s)
	if server, _ := p.ask(s.Address); server != p.address {
		t.Errorf("with an endpoint: answered by %s", server)
	}
}

func TestChangesReachTheKernel(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, a, b := newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, false)
	atA, atB := a.serve(8080), b.serve(8080)
	translator := newTranslator(t)
	one, two := service(6, 80, atA), service(7, 80, atB)
	apply(t, translator, one, two)
	apply(t, translator, service(6, 80, atB), two)
	if server, _ := client.ask(one.Address); server != b.address {
		t.Errorf("after the endpoint was exchanged: answered by %s", server)
	}
	apply(t, translator, two)
	if got := chains(t); !slices.Equal(got, []string{"service-6-10.96.1.7:80"}) {
		t.Errorf("chains of services: %q", got)
	}
}

// chains lists the chains of services in the kernel.
func chains(t *testing.T) []string {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		if strings.HasPrefix(c.Name, "service-") {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestDatagramsFollowAnExchangedEndpoint(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, a, b := newPod(t, pods, false), newPod(t, pods, false), newPod(t, pods, false)
	s := Service{Address: netip.MustParseAddrPort("10.96.1.8:53"), Protocol: unix.IPPROTO_UDP}
	serve := func(p *pod) netip.AddrPort {
		var conn net.PacketConn
		if err := p.do(func() (err error) { conn, err = net.ListenPacket("udp4", "0.0.0.0:5353"); return err }); err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			buffer := make([]byte, 16)
			for {
				_, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(p.address.String()), from)
			}
		})
		t.Cleanup(func() { conn.Close(); serving.Wait() })
		return netip.AddrPortFrom(p.address, 5353)
	}
	atA, atB := serve(a), serve(b)
	translator := newTranslator(t)
	s.Endpoints = []netip.AddrPort{atA}
	apply(t, translator, s)
	var conn net.Conn
	if err := client.do(func() (err error) { conn, err = net.Dial("udp4", s.Address.String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := func() string {
		t.Helper()
		buffer := make([]byte, 64)
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	if got := answer(); got != a.address.String() {
		t.Fatalf("answered by %s", got)
	}
	s.Endpoints = []netip.AddrPort{atB}
	apply(t, translator, s)
	if got := answer(); got != b.address.String() {
		t.Errorf("the same flow, after the endpoint was exchanged: answered by %s", got)
	}
}

func TestDetachLeavesNothingAndMayBeRepeated(t *testing.T) {
	requireNetwork(t)
	before, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	pods := NewPods()
	p := newPod(t, pods, false)
	again, err := pods.Attach(context.Background(), p.id, "/nowhere", false)
	if err != nil || again != p.address {
		t.Errorf("second attach: %s, %v; want %s", again, err, p.address)
	}
	for range 2 {
		if err := pods.Detach(context.Background(), p.id); err != nil {
			t.Error(err)
		}
	}
	after, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d links before, %d after", len(before), len(after))
	}
}

func TestPoolHandsOutAnAddressAsLateAgainAsPossible(t *testing.T) {
	p := newPool(netip.MustParsePrefix("192.0.2.0/29"))
	var got []string
	for range 6 {
		address, ok := p.take()
		if !ok {
			t.Fatal("used up too early after", got)
		}
		got = append(got, address.String())
	}
	want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if address, ok := p.take(); ok {
		t.Errorf("got %s from a pool that is used up", address)
	}
	p.give(netip.MustParseAddr("192.0.2.2"))
	p.give(netip.MustParseAddr("192.0.2.5"))
	for _, want := range []string{"192.0.2.2", "192.0.2.5"} {
		if address, ok := p.take(); !ok || address.String() != want {
			t.Errorf("got %s, want %s", address, want)
		}
	}
}
