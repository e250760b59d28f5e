package outbound

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// turnAway reads a connection up to the first bytes of a request's body, and then
// says that it has looked at none, as a peer does that is about to close it.
func turnAway(conn net.Conn) error {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	said := false
	for {
		frame, err := framer.ReadFrame()
		if said && err != nil {
			return nil // the other side closes
		}
		if err != nil {
			return err
		}
		if data, ok := frame.(*http2.DataFrame); ok && len(data.Data()) > 0 && !said {
			said = true
			if err := framer.WriteGoAway(0, http2.ErrCodeNo, nil); err != nil {
				return err
			}
		}
	}
}

func TestARequestThatAPeerNeverLookedAtIsSentAgain(t *testing.T) {
	w := newWorld(t, nil)
	var connections atomic.Int32
	var p *pod
	p = w.newPod(2, votingID, func(conn net.Conn) {
		if connections.Add(1) == 1 {
			if err := turnAway(conn); err != nil {
				t.Error(err)
			}
			return
		}
		serveHTTP(w, p)(conn)
	})
	w.destinations.service(p.describe(meshedHTTP2))
	seen, answer := w.get(w.http(serviceAddr, 2), w.request(http.MethodPost, "http://voting/vote", strings.NewReader("for the doughnut")))
	if answer.StatusCode != http.StatusOK || seen.Body != "for the doughnut" || connections.Load() != 2 {
		t.Errorf("%s with body %q over %d connections", answer.Status, seen.Body, connections.Load())
	}
}

func bodyOf(source io.Reader) *sparedBody {
	return newSparedBody(&http.Request{Body: io.NopCloser(source)})
}

func TestABodyIsReadAgainFromItsBeginning(t *testing.T) {
	body := bodyOf(strings.NewReader("abcdef"))
	if _, err := io.ReadFull(body.reader(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	again, err := body.again()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(again); string(all) != "abcdef" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
}

func TestWhatAReaderOfBeforeIsGivenIsNotLost(t *testing.T) {
	source, sink := io.Pipe()
	body := bodyOf(source)
	former := body.reader()
	given := make(chan error, 1)
	go func() {
		_, err := former.Read(make([]byte, 8))
		given <- err
	}()
	for body.mu.Lock(); !body.reading; body.mu.Lock() {
		body.mu.Unlock()
	}
	body.mu.Unlock()
	again, err := body.again()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(sink, "abc")
		sink.Close()
	}()
	if all, err := io.ReadAll(again); string(all) != "abc" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	if err := <-given; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the reader of before was told %v", err)
	}
}

func TestABodyOfWhichTooMuchIsGoneIsNotReadAgain(t *testing.T) {
	body := bodyOf(strings.NewReader(strings.Repeat("x", keptBody+1)))
	if n, err := io.Copy(io.Discard, body.reader()); n != keptBody+1 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := body.again(); !errors.Is(err, errBodyGone) {
		t.Errorf("%v", err)
	}
}
