package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A tunnel that opens while its client is watched is a tunnel like others: a client
// that only ends its side gets all that the application has to say.
func TestTheEndOfAWatchedClientsSideEndsNoTunnel(t *testing.T) {
	watched := make(chan struct{})
	w := newWorld(t, func(c net.Conn) {
		read := bufio.NewReader(c)
		http.ReadRequest(read)
		<-watched
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(io.Discard, read)
		io.WriteString(c, "last")
	}, func(w *world) { w.relay.Limits.Watch = time.Millisecond })
	conn := w.dial()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	c := w.last()
	eventually(t, "the client is watched", func() bool { return c.watched.Load() > 0 })
	close(watched)
	read := bufio.NewReader(conn)
	if _, err := http.ReadResponse(read, nil); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(read); err != nil || string(got) != "last" {
		t.Errorf("got %q, %v", got, err)
	}
}

// An application that was not given a request's whole body is never asked again on
// that connection: it would take the next request for the rest.
func TestNothingFollowsABodyThatWasNotTakenWhole(t *testing.T) {
	client, served := net.Pipe()
	app, dialled := net.Pipe()
	asked := &countingConn{Conn: dialled}
	var bitten atomic.Int64
	relay := &Relay{
		Limits: Limits{Stall: 100 * time.Millisecond, Watch: 10 * time.Millisecond},
		Bitten: func(Limit) { bitten.Add(1) },
	}
	c := relay.Conn(Config{Client: served, Handler: &judge{}, Dial: func() (net.Conn, error) { return asked, nil }})
	over := make(chan struct{})
	go func() { defer close(over); c.Serve() }()
	t.Cleanup(func() { client.Close(); app.Close(); <-over })

	for _, part := range []string{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "x"} {
		io.WriteString(client, part)
		if part != "x" { // the last byte is never read
			io.ReadFull(app, make([]byte, len(part)))
		}
	}
	eventually(t, "the body is given up", func() bool { return bitten.Load() > 0 })
	before := asked.reads.Load()
	eventually(t, "the sender's end is noticed", func() bool { return asked.reads.Load() > before+1 })
	go io.WriteString(app, ok)
	if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(client, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	app.SetReadDeadline(time.Now().Add(soon))
	if got, _ := io.ReadAll(app); len(got) > 0 {
		t.Errorf("then the application got %q", got)
	}
}

// countingConn counts how often it is read from.
type countingConn struct {
	net.Conn
	reads atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

// The client is watched on the connection that its request goes on with.
func TestAClientThatGoesAwayEndsItsRequestThatWasSentAgain(t *testing.T) {
	watched, over := make(chan struct{}), make(chan struct{})
	n := 0
	w := newWorld(t, func(c net.Conn) {
		read := bufio.NewReader(c)
		http.ReadRequest(read)
		if n++; n == 1 {
			io.WriteString(c, ok)
			http.ReadRequest(read)
			<-watched
			return
		}
		io.Copy(io.Discard, read)
		close(over)
	}, func(w *world) { w.relay.Limits.Watch = 20 * time.Millisecond })
	conn := w.dial()
	io.WriteString(conn, get)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	c := w.last()
	before := c.watched.Load()
	io.WriteString(conn, get)
	eventually(t, "the client is watched", func() bool { return c.watched.Load() > before })
	close(watched)
	eventually(t, "the request is sent again", func() bool { return w.dials.Load() == 2 })
	conn.Close()
	select {
	case <-over:
	case <-time.After(soon):
		t.Error("the application is still asked for a client that has gone")
	}
}

// Time that an answer took is not time that its connection was idle.
func TestAConnectionIsIdleFromTheEndOfItsAnswer(t *testing.T) {
	const idle = 400 * time.Millisecond
	w := newWorld(t, func(c net.Conn) {
		read := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(read); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
			<-time.After(2 * idle)
			io.WriteString(c, "i")
		}
	}, func(w *world) { w.relay.Limits.Idle = idle })
	conn := w.dial()
	read := bufio.NewReader(conn)
	for i := range 2 {
		io.WriteString(conn, get)
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hi" {
			t.Fatalf("request %d: got %q, %v", i, b, err)
		}
	}
}

// A body that breaks off while its answer comes is the client's fault, not the
// application's.
func TestABodyThatBreaksOffUnderAnAnswerIsTheClients(t *testing.T) {
	w := newWorld(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
		io.Copy(io.Discard, c)
	})
	for range 20 {
		before := len(w.judge.responses())
		conn := w.dial()
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "y\r\n")
		eventually(t, "the handler is told", func() bool { return len(w.judge.responses()) > before })
		if told := w.judge.responses()[before]; !strings.HasSuffix(told, " 200 -1 client") {
			t.Errorf("told %q", told)
		}
		conn.Close()
	}
}
