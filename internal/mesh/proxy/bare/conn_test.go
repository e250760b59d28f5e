package bare_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/bare"
)

// patience is how long what must come may take.
const patience = 10 * time.Second

// pair connects a Conn with a peer.
func pair(t *testing.T) (*bare.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := bare.New(conn.(*net.TCPConn))
	t.Cleanup(func() { c.Close(); peer.Close() })
	c.SetDeadline(time.Now().Add(patience))
	peer.SetDeadline(time.Now().Add(patience))
	return c, peer.(*net.TCPConn)
}

func TestBytesPassBothWaysAtOnceHoweverFullTheSocketsAre(t *testing.T) {
	c, peer := pair(t)
	sent := make([]byte, 32<<20) // more than both sockets hold, so that writes are partial
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	var echo sync.WaitGroup
	echo.Go(func() { io.Copy(peer, peer) })
	echo.Go(func() {
		if n, err := c.Write(sent); n != len(sent) || err != nil {
			t.Errorf("wrote %d of %d: %v", n, len(sent), err)
		}
		c.CloseWrite()
	})
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read %d of %d: %v", n, len(got), err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("what came back differs from what was sent")
	}
	echo.Wait()
}

func TestAnEndIsEOFAlone(t *testing.T) {
	c, peer := pair(t)
	peer.Write([]byte("last"))
	peer.CloseWrite()
	got, err := io.ReadAll(c)
	if string(got) != "last" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v; want 0, io.EOF", n, err)
	}
	if _, err := c.Write([]byte("still open")); err != nil {
		t.Errorf("the other direction: %v", err)
	}
}

func TestNothingAskedIsNothingDone(t *testing.T) {
	c, _ := pair(t)
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("read into nothing: %d, %v", n, err)
	}
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Errorf("write of nothing: %d, %v", n, err)
	}
}

// fill writes more than anybody takes without reading.
func fill(c net.Conn) (n int, err error) { return c.Write(make([]byte, 64<<20)) }

func TestErrorsAreThoseOfPackageNet(t *testing.T) {
	soon := func(c *bare.Conn) { c.SetDeadline(time.Now().Add(20 * time.Millisecond)) }
	reset := func(_ *bare.Conn, peer *net.TCPConn) {
		peer.SetLinger(0)
		peer.Close()
	}
	read := func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
	write := func(c net.Conn) error { _, err := fill(c); return err }
	for _, test := range []struct {
		name    string
		prepare func(*bare.Conn, *net.TCPConn)
		do      func(net.Conn) error
		want    error
		op      string
	}{
		{"a read past its deadline", func(c *bare.Conn, _ *net.TCPConn) { soon(c) }, read, os.ErrDeadlineExceeded, "read"},
		{"a write past its deadline", func(c *bare.Conn, _ *net.TCPConn) { soon(c) }, write, os.ErrDeadlineExceeded, "write"},
		{"a read of what is closed", func(c *bare.Conn, _ *net.TCPConn) { c.Close() }, read, net.ErrClosed, "read"},
		{"a write to what is closed", func(c *bare.Conn, _ *net.TCPConn) { c.Close() }, write, net.ErrClosed, "write"},
		{"a read after a reset", reset, read, syscall.ECONNRESET, "read"},
		{"a write after a reset that a read has told", func(c *bare.Conn, p *net.TCPConn) { reset(c, p); read(c) }, write, syscall.EPIPE, "write"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, peer := pair(t)
			test.prepare(c, peer)
			err := test.do(c)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			said, ok := errors.AsType[*net.OpError](err)
			if !ok || said.Op != test.op || said.Net != "tcp" || said.Source == nil || said.Addr == nil {
				t.Errorf("error %#v, want a *net.OpError of %s with both addresses", err, test.op)
			}
			if timeout := errors.Is(test.want, os.ErrDeadlineExceeded); ok && said.Timeout() != timeout {
				t.Errorf("timeout %t, want %t", said.Timeout(), timeout)
			}
		})
	}
}

func TestAWriteThatIsCutTellsHowMuchWentOut(t *testing.T) {
	c, peer := pair(t)
	type outcome struct {
		n   int
		err error
	}
	wrote := make(chan outcome)
	go func() { n, err := fill(c); wrote <- outcome{n, err} }()
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	c.SetWriteDeadline(time.Unix(1, 0))
	w := <-wrote
	if !errors.Is(w.err, os.ErrDeadlineExceeded) || w.n == 0 {
		t.Fatalf("wrote %d, %v", w.n, w.err)
	}
	c.CloseWrite()
	got, err := io.Copy(io.Discard, peer)
	if int(got)+1 != w.n || err != nil {
		t.Errorf("the peer got %d of %d: %v", got+1, w.n, err)
	}
}

func TestADeadlineMovedWhileSomebodyWaitsEndsTheWait(t *testing.T) {
	c, peer := pair(t)
	ended := make(chan error)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	runtime.Gosched()
	c.SetReadDeadline(time.Unix(1, 0))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	peer.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("with a new deadline: %v", err)
	}
}

func TestClosingEndsWhoWaits(t *testing.T) {
	c, _ := pair(t)
	ended := make(chan error)
	for range 2 { // the second one waits for the first
		go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
		go func() { _, err := fill(c); ended <- err }()
	}
	runtime.Gosched()
	c.Close()
	for range 4 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestReadingAndWritingAllocateNothing(t *testing.T) {
	c, peer := pair(t)
	message, got := []byte("to be or not to be"), make([]byte, 64)
	once := func() {
		if _, err := c.Write(message); err != nil {
			t.Error(err)
		}
		peer.Read(got)
		peer.Write(message)
		if _, err := c.Read(got); err != nil {
			t.Error(err)
		}
	}
	// More rounds than it takes for a call in the usual way.
	if n := testing.AllocsPerRun(600, once); n != 0 {
		t.Errorf("%v allocations for a read and a write", n)
	}
}

func TestNothingToReadIsToldAtOnceAndWithoutAllocating(t *testing.T) {
	c, _ := pair(t)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var calls bare.Calls
	b := make([]byte, 1)
	look := func(fd uintptr) {
		if n, err := calls.Read(fd, b); n != 0 || err != syscall.EAGAIN {
			t.Errorf("%d, %v; want EAGAIN", n, err)
		}
	}
	if n := testing.AllocsPerRun(600, func() { raw.Control(look) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
