package clients_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// beat is the pause between echoes in these tests.
const beat = 5 * time.Millisecond

// echoUntil echoes lines until end is closed, then calls how.
func echoUntil(t *testing.T, greeting string, end <-chan struct{}, how func(*net.TCPConn)) string {
	return listen(t, func(conn net.Conn) {
		io.WriteString(conn, greeting)
		done := make(chan struct{})
		go func() {
			defer close(done)
			reader := bufio.NewReader(conn)
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				io.WriteString(conn, line)
			}
		}()
		select {
		case <-end:
			how(conn.(*net.TCPConn))
		case <-done:
		}
		<-done
	})
}

func TestAHeldConnectionTellsHowItEnded(t *testing.T) {
	closeInOrder := func(c *net.TCPConn) { c.CloseWrite() }
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	for _, row := range []struct {
		name     string
		protocol clients.Protocol
		greeting string
		end      func(*net.TCPConn)
		want     clients.Kind
	}{
		{"closed", clients.TCP, "", closeInOrder, clients.Closed},
		{"reset", clients.TCP, "", reset, clients.Reset},
		{"greeted and closed", clients.TCPServerFirst, "hello\n", closeInOrder, clients.Closed},
		{"silent and reset", clients.TCPSilent, "hello\n", reset, clients.Reset},
	} {
		t.Run(row.name, func(t *testing.T) {
			end := make(chan struct{})
			address := echoUntil(t, row.greeting, end, row.end)
			caller := clients.New(clients.Options{})
			defer caller.Close()
			held, err := caller.Hold(clients.Request{Protocol: row.protocol, Address: address, Timeout: plenty}, beat)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			before := held.State()
			if !before.Open || before.EchoesReceived == 0 || before.LocalAddr == "" || before.OpenedAt.IsZero() || before.How != "" {
				t.Fatalf("after opening: %+v", before)
			}
			close(end)
			after := held.Wait(t.Context(), plenty)
			if after.Open || after.How != row.want || after.ClosedAt.Before(after.OpenedAt) || after.Bytes == 0 {
				t.Errorf("after the end: %+v, want %q", after, row.want)
			}
		})
	}
}

func TestAHeldConnectionKeepsEchoing(t *testing.T) {
	address := echoUntil(t, "", nil, nil)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	held, err := caller.Hold(clients.Request{Protocol: clients.TCP, Address: address, Timeout: plenty}, beat)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(plenty)
	for held.State().EchoesReceived < 5 && time.Now().Before(deadline) {
		held.Wait(t.Context(), beat)
	}
	state := held.Close()
	if state.EchoesReceived < 5 || state.EchoesSent < state.EchoesReceived || state.Open || state.How != "" {
		t.Errorf("closed from here: %+v, want five echoes and no cause", state)
	}
}

func TestABareConnectionIsHeldWithoutAWord(t *testing.T) {
	received := make(chan int64, 1)
	address := listen(t, func(conn net.Conn) {
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	})
	caller := clients.New(clients.Options{})
	defer caller.Close()
	held, err := caller.Hold(clients.Request{Protocol: clients.Connect, Address: address, Timeout: time.Hour}, beat)
	if err != nil {
		t.Fatal(err)
	}
	if state := held.Close(); state.OpenedAt.IsZero() || state.How != "" || state.EchoesSent != 0 {
		t.Errorf("closed from here: %+v", state)
	}
	if n := <-received; n != 0 {
		t.Errorf("the server received %d bytes, want none", n)
	}
}

func TestAHeldConnectionThatIsRefusedSaysSo(t *testing.T) {
	for _, row := range []struct {
		name    string
		address string
		want    clients.Kind
	}{{"nobody", nobody(t), clients.Refused}, {"closed at once", closing("")(t), clients.Closed}, {"reset at once", resetting("")(t), clients.Reset}} {
		t.Run(row.name, func(t *testing.T) {
			caller := clients.New(clients.Options{})
			defer caller.Close()
			for _, protocol := range []clients.Protocol{clients.TCP, clients.HTTP2, clients.GRPCStream} {
				request := clients.Request{Protocol: protocol, Address: row.address, Timeout: plenty}
				if protocol == clients.GRPCStream {
					request.Method = "/a.B/C"
				}
				held, err := caller.Hold(request, beat)
				if err != nil {
					t.Fatal(err)
				}
				if state := held.Wait(t.Context(), plenty); state.Open || state.How != row.want || state.EchoesReceived != 0 {
					t.Errorf("%s: %+v, want %q", protocol, state, row.want)
				}
				held.Close()
			}
		})
	}
}

func TestAHeldHTTPConnectionOutlivesDenials(t *testing.T) {
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2} {
		t.Run(string(protocol), func(t *testing.T) { outlivesDenials(t, protocol) })
	}
}

func outlivesDenials(t *testing.T, protocol clients.Protocol) {
	var denied atomic.Bool
	var mu sync.Mutex
	seen := map[string]int{}
	from := map[string]bool{}
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.Header.Get(clients.HeaderID)]++
		from[r.RemoteAddr] = true
		if denied.Load() {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	caller := clients.New(clients.Options{})
	defer caller.Close()
	held, err := caller.Hold(clients.Request{Protocol: protocol, Address: address, Timeout: plenty}, beat)
	if err != nil {
		t.Fatal(err)
	}
	first := held.State()
	denied.Store(true)
	deadline := time.Now().Add(plenty)
	for held.State().Answers[clients.Forbidden] < 3 && time.Now().Before(deadline) {
		held.Wait(t.Context(), beat)
	}
	state := held.State()
	if !state.Open || state.LocalAddr != first.LocalAddr || state.Answers[clients.Allowed] == 0 || state.Answers[clients.Forbidden] < 3 {
		t.Errorf("%+v, want an open connection with answers of both kinds", state)
	}
	if state.Last == nil || state.Last.Kind != clients.Forbidden || state.Last.LocalAddr != first.LocalAddr || state.Answered < 4 {
		t.Errorf("%+v, want the last answer, a denial", state)
	}
	held.Close()
	mu.Lock()
	defer mu.Unlock()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%d requests have the ID %s", n, id)
		}
	}
	if len(from) != 1 {
		t.Errorf("the requests came on %d connections", len(from))
	}
}

func TestAHeldHTTP1ConnectionEndsWhenItsServerSaysSo(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"in the answer": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") },
		"without one":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			caller := clients.New(clients.Options{})
			defer caller.Close()
			held, err := caller.Hold(clients.Request{Protocol: clients.HTTP1, Address: serveHTTP(t, handler), Timeout: plenty}, beat)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			if state := held.Wait(t.Context(), plenty); state.Open || state.How != clients.Closed {
				t.Errorf("%+v, want it closed", state)
			}
		})
	}
}

func TestAHeldStreamEchoesAndTellsItsStatus(t *testing.T) {
	end := make(chan struct{})
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		buffer := make([]byte, 5)
		for {
			select {
			case <-end:
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "7")
				return
			default:
			}
			if _, err := io.ReadFull(r.Body, buffer); err != nil {
				return
			}
			w.Write(buffer)
			w.(http.Flusher).Flush()
		}
	})
	caller := clients.New(clients.Options{})
	defer caller.Close()
	held, err := caller.Hold(clients.Request{Protocol: clients.GRPCStream, Method: "/a.B/C", Address: address, Timeout: plenty}, beat)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if state := held.State(); !state.Open || state.EchoesReceived == 0 {
		t.Fatalf("after opening: %+v", state)
	}
	close(end)
	if state := held.Wait(t.Context(), plenty); state.Open || state.How != clients.PermissionDenied || state.GRPCStatus != 7 {
		t.Errorf("after the end: %+v, want status 7", state)
	}
}
