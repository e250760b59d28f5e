package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// handOut gives every stream to serve.
func handOut(t testing.TB, limits Limits, serve func(*Stream)) (*relay, *asked) {
	h := &asked{serve: serve, decide: func(_ *Head, a *Action) {
		a.Verdict, a.Token = HandOut, "token"
		a.Append = append(a.Append, Header{"l5d-client-id", "web"})
	}}
	return startRelay(t, "127.0.0.1:1", h, limits, nil), h
}

func TestAStreamHandedOutIsAnsweredByTheHandler(t *testing.T) { // H-01
	r, h := handOut(t, Limits{}, func(s *Stream) {
		body, err := io.ReadAll(s)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		if s.Token() != "token" {
			t.Errorf("token %v", s.Token())
		}
		s.WriteHead(103, []Field{{[]byte("Link"), []byte("</a>")}}, false)
		err = s.WriteHead(201, []Field{{[]byte("X-Path"), s.Head().Path}, {[]byte("Connection"), []byte("close")}, {[]byte("l5d-orig-proto"), []byte("HTTP/1.1")}}, false)
		if _, werr := s.Write(fmt.Appendf(body, " %q %q", s.Head().Fields, s.Trailers())); err != nil || werr != nil {
			t.Errorf("write: %v, %v", err, werr)
		}
		if err := s.End([]Field{{[]byte("X-Sum"), []byte("2")}}); err != nil {
			t.Errorf("end: %v", err)
		}
	})
	c := dialRaw(t, r.addr)
	c.open(1, false, request("/a?b", "l5d-orig-proto", "HTTP/1.1")...)
	c.must(0, c.WriteData(1, false, []byte("to be ")))
	c.must(0, c.WriteData(1, false, []byte("read")))
	c.open(1, true, "x-sum", "1", "cookie", "c")
	c.want(1, "103")
	got := c.answer(1)
	if got[":status"] != "201" || got["x-path"] != "/a" || len(got) != 2 {
		t.Errorf("head %v", got)
	}
	f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameData }).(*http2.DataFrame)
	if want := `to be read [{"l5d-client-id" "web"}] [{"x-sum" "1"}]`; string(f.Data()) != want {
		t.Errorf("body %s", f.Data())
	}
	if got := c.answer(1); got["x-sum"] != "2" {
		t.Errorf("trailers %v", got)
	}
	if e := h.endings(); len(e) != 0 {
		t.Errorf("Responded was told %+v", e)
	}
}

func TestBodiesOfStreamsHandedOutAreWaitedForBothWays(t *testing.T) { // invariants 4, 5
	r, _ := handOut(t, Limits{}, func(s *Stream) {
		s.WriteHead(200, nil, false)
		io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, 10_000))
		s.End(nil)
	})
	transport := &http2.Transport{AllowHTTP: true, DialTLSContext: dialPlain(r.addr)}
	defer transport.CloseIdleConnections()
	payload := bytes.Repeat([]byte("0123456789"), 400_000)
	req, _ := http.NewRequest(http.MethodPost, "http://web/", bytes.NewReader(payload))
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(body, payload) {
		t.Errorf("%d bytes came back of %d: %v", len(body), len(payload), err)
	}
}

func TestTheEndOfAStreamHandedOutReachesItsHandler(t *testing.T) {
	for name, end := range map[string]func(c *client){
		"reset by the client": func(c *client) { c.WriteRSTStream(1, http2.ErrCodeCancel) },
		"client gone":         func(c *client) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			begun, errs := make(chan struct{}), make(chan error, 1)
			r, _ := handOut(t, Limits{}, func(s *Stream) {
				close(begun)
				<-s.Context().Done()
				_, err := s.Read(make([]byte, 1))
				if werr := s.WriteHead(200, nil, true); werr == nil {
					err = errors.New("a head could still be written")
				}
				errs <- err
			})
			c := dialRaw(t, r.addr)
			c.open(1, false, request("/")...)
			<-begun
			end(c)
			if err := <-errs; !errors.Is(err, ErrClient) && !errors.Is(err, ErrClosed) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestAStreamThatItsHandlerLeavesUnansweredIsReset(t *testing.T) {
	r, _ := handOut(t, Limits{}, func(*Stream) {})
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/")...)
	c.wantReset(1, http2.ErrCodeInternal)
}

func TestAStreamAnsweredBeforeItsBodyHasComeStopsTheClient(t *testing.T) {
	r, _ := handOut(t, Limits{}, func(s *Stream) { s.WriteHead(413, nil, true) })
	c := dialRaw(t, r.addr)
	c.open(1, false, request("/")...)
	c.want(1, "413")
	c.wantReset(1, http2.ErrCodeNo)
	c.must(0, c.WriteData(1, true, make([]byte, 1000)))
	c.open(3, false, request("/")...)
	c.want(3, "413")
}

func TestAStreamIsUsedInOrder(t *testing.T) {
	r, _ := handOut(t, Limits{}, func(s *Stream) {
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("body before the head")
		}
		if err := s.End(nil); err == nil {
			t.Error("end before the head")
		}
		if err := s.WriteHead(200, []Field{{[]byte("x a"), nil}}, false); err == nil {
			t.Error("a name with a space")
		}
		s.WriteHead(200, nil, false)
		if err := s.WriteHead(200, nil, false); err == nil {
			t.Error("two heads")
		}
		s.End(nil)
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("body after the end")
		}
	})
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/")...)
	c.want(1, "200")
	c.until(func(f http2.Frame) bool { d, ok := f.(*http2.DataFrame); return ok && d.StreamEnded() })
}
