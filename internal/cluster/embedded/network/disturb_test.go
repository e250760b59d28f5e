package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

// shortly is long enough for what arrives to arrive, and short enough to wait
// for what must not.
const shortly = 200 * time.Millisecond

// echo sends back what it gets, at a port of the pod, and tells how each
// connection ended.
func (p *pod) echo(port int) (netip.AddrPort, <-chan error) {
	p.t.Helper()
	var listener net.Listener
	if err := p.do(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	ends := make(chan error, 16)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, err := io.Copy(conn, conn)
				conn.Close()
				ends <- err
			})
		}
	})
	p.t.Cleanup(func() { listener.Close(); serving.Wait() })
	return netip.AddrPortFrom(p.address, uint16(port)), ends
}

func (p *pod) dial(address netip.AddrPort, patience time.Duration) (conn net.Conn, err error) {
	err = p.do(func() (err error) {
		conn, err = net.DialTimeout("tcp4", address.String(), patience)
		return err
	})
	if err == nil {
		p.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// exchange sends a byte and waits for it.
func exchange(conn net.Conn, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func (p *pod) disturb(d cluster.Disturbance) *Disturbed {
	p.t.Helper()
	fd, err := unix.Dup(int(p.handle))
	if err != nil {
		p.t.Fatal(err)
	}
	disturbed, err := Disturb(os.NewFile(uintptr(fd), "network"), d)
	if err != nil {
		p.t.Fatal(err)
	}
	return disturbed
}

func calm(t *testing.T, d *Disturbed) {
	t.Helper()
	if err := d.Calm(); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, p *pod, address netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := p.dial(address, patience)
	if err == nil {
		err = exchange(conn, patience)
	}
	if err != nil {
		t.Fatal("an undisturbed connection:", err)
	}
	return conn
}

func TestRefusedResetsBothSidesAndComesBack(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, ends := server.echo(9000)
	conn := open(t, client, address)
	d := client.disturb(cluster.Disturbance{Port: 9000, How: cluster.Refused})
	if err := exchange(conn, patience); !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("on the open connection: %v", err)
	}
	select {
	case err := <-ends:
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the other side saw the end as %v", err)
		}
	case <-time.After(patience):
		t.Error("the other side was not told")
	}
	if _, err := client.dial(address, patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	calm(t, d)
	open(t, client, address)
}

func TestSwallowedIsSilentAndOpenConnectionsOutliveIt(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, _ := server.echo(9000)
	conn := open(t, client, address)
	d := client.disturb(cluster.Disturbance{Port: 9000, How: cluster.Swallowed})
	if err := exchange(conn, shortly); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("on the open connection: %v", err)
	}
	var late net.Error
	if _, err := client.dial(address, shortly); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("a new connection: %v", err)
	}
	calm(t, d)
	if err := exchange(conn, patience); err != nil {
		t.Errorf("on the open connection afterwards: %v", err)
	}
}

// intercept leads all that the pod sends to nowhere, as a mesh leads it to its
// proxy.
func (p *pod) intercept() {
	p.t.Helper()
	if err := p.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "interception"})
		chain := conn.AddChain(&nftables.Chain{Table: table, Name: "out", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(tcpPort(destinationPort, 9000),
			&expr.Immediate{Register: firstRegister, Data: binaryutil.BigEndian.PutUint16(1)}, &expr.Redir{RegisterProtoMin: firstRegister})})
		return conn.Flush()
	}); err != nil {
		p.t.Fatal(err)
	}
}

func TestDelayedArrivesLaterEitherWay(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, _ := server.echo(9000)
	old := open(t, client, address)
	client.intercept()
	d := client.disturb(cluster.Disturbance{Port: 9000, How: cluster.Delayed, Delay: shortly})
	if err := exchange(old, patience); err == nil {
		t.Error("a connection that was open before is not delayed")
	}
	conn, err := client.dial(address, patience)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := exchange(conn, patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*shortly {
		t.Errorf("there and back took %s, with %s either way", took, shortly)
	}
	// What the relay sends itself is not led to it again, and others are not
	// touched at all.
	other := open(t, server, address)
	calm(t, d)
	if err := exchange(conn, patience); err == nil {
		t.Error("a delayed connection outlives the delay")
	}
	if err := exchange(other, patience); err != nil {
		t.Error("another pod's connection:", err)
	}
	if _, err := client.dial(address, patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error("what intercepts does not any more:", err)
	}
}

func TestWhoWasDelayedIsToldThatTheConnectionHasEnded(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, _ := server.echo(9000)
	// Nobody else translates addresses in this pod.
	d := client.disturb(cluster.Disturbance{Port: 9000, How: cluster.Delayed, Delay: shortly})
	conn, err := client.dial(address, patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(conn, patience); err != nil {
		t.Fatal(err)
	}
	calm(t, d)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading on it: %v", err)
	}
	again, err := client.dial(address, patience)
	if err == nil {
		err = exchange(again, patience)
	}
	if err != nil {
		t.Error("a new connection:", err)
	}
}

func TestFlappingCutsAgainAndAgain(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, _ := server.echo(9000)
	d := client.disturb(cluster.Disturbance{Port: 9000, How: cluster.Flapping, Every: 10 * time.Millisecond})
	for range 3 {
		conn, err := client.dial(address, patience)
		for errors.Is(err, unix.ECONNABORTED) { // while it came about
			conn, err = client.dial(address, patience)
		}
		if err != nil {
			t.Fatal("between two cuts a connection comes about:", err)
		}
		// Until the next cut.
		for err == nil {
			err = exchange(conn, patience)
		}
		if !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, io.EOF) {
			t.Errorf("the connection ended with %v", err)
		}
	}
	calm(t, d)
	open(t, client, address)
}

func TestLossyLosesSomeAndConnectionsLiveOn(t *testing.T) {
	requireNetwork(t)
	pods := NewPods()
	client, server := newPod(t, pods, false), newPod(t, pods, false)
	address, _ := server.echo(9000)
	conn := open(t, client, address)
	sent := func() (lost int) {
		// Datagrams show what TCP makes good.
		if err := client.do(func() error {
			packets, err := net.Dial("udp4", net.JoinHostPort(server.address.String(), "9"))
			if err != nil {
				return err
			}
			defer packets.Close()
			for range 1000 {
				if _, err := packets.Write([]byte{1}); errors.Is(err, unix.EPERM) {
					lost++
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return lost
	}
	d := client.disturb(cluster.Disturbance{How: cluster.Lossy, Percent: 20})
	if lost := sent(); lost < 100 || lost > 300 {
		t.Errorf("of 1000 packets %d were lost, and 20 %% should be", lost)
	}
	for range 5 {
		if err := exchange(conn, patience); err != nil {
			t.Fatal("over TCP everything arrives:", err)
		}
	}
	calm(t, d)
	if lost := sent(); lost > 0 {
		t.Errorf("afterwards %d packets were lost", lost)
	}
}

func TestDisturbanceMustSayWhat(t *testing.T) {
	for name, d := range map[string]cluster.Disturbance{
		"no port":         {How: cluster.Refused},
		"no such way":     {Port: 1, How: "loud"},
		"no delay":        {Port: 1, How: cluster.Delayed},
		"cuts all along":  {Port: 1, How: cluster.Flapping},
		"a port lost":     {Port: 1, How: cluster.Lossy, Percent: 5},
		"everything lost": {How: cluster.Lossy, Percent: 100},
		"nothing of that": {},
	} {
		if d.Check() == nil {
			t.Errorf("%s: %+v was taken", name, d)
		}
	}
}
