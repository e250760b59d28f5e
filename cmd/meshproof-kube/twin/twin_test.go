package twin

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// twinOf returns a listener on two sockets, and the addresses of both.
func twinOf(t *testing.T) (l net.Listener, inside, outside string) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	outside = socket.Addr().String()
	socket.Close()
	// The descriptor is handed over, as an inherited one is.
	l, err = Listen("127.0.0.1:0", dup(t, file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().String(), outside
}

func TestBothSocketsAreServed(t *testing.T) {
	l, inside, outside := twinOf(t)
	if inside == outside {
		t.Fatalf("both sockets are %s", inside)
	}
	for _, address := range []string{inside, outside, outside, inside} {
		client, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := server.LocalAddr().String(), address; got != want {
			t.Errorf("accepted on %s, want %s", got, want)
		}
		if server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("accepted %s, want %s", server.RemoteAddr(), client.LocalAddr())
		}
		client.Close()
		server.Close()
	}
}

func TestCloseEndsAcceptAndBothSockets(t *testing.T) {
	l, inside, outside := twinOf(t)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		if conn, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v, %v", conn, err)
		}
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	accepting.Wait()
	for _, address := range []string{inside, outside} {
		if conn, err := net.DialTimeout("tcp", address, patience); err == nil {
			conn.Close()
			t.Errorf("%s still accepts", address)
		}
	}
	if err := l.Close(); err != nil {
		t.Error("second close:", err)
	}
}

func TestDescriptorThatIsNoSocketIsRefused(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := Listen("127.0.0.1:0", dup(t, file)); err == nil {
		l.Close()
		t.Error("listening on /dev/null succeeded")
	}
}

// dup returns a descriptor that nobody else will close.
func dup(t *testing.T, file *os.File) int {
	t.Helper()
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
