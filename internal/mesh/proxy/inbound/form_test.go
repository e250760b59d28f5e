package inbound

import (
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

func TestAuthoritiesHaveOneReading(t *testing.T) {
	for authority, want := range map[string]bool{
		"app": true, "App.Example.": true, "app:80": true, "app:": true, "127.0.0.1:80": true, "[::1]": true, "[::1]:80": true, "[::ffff:1.2.3.4]:80": true, "my_app": true,
		"app:evil": false, "app:80:90": false, "evil@app": false, "app/evil": false, "app, evil": false, "app evil": false, "app?x": false, "app#x": false,
		":80": false, "[::1": false, "[]": false, "[::1]x": false, "::1": false, "app\x00": false, "app\\evil": false, "[::1%25eth0]": false, "app:+80": false,
	} {
		if got := authorityForm([]byte(authority)); got != want {
			t.Errorf("%q: %v, want %v", authority, got, want)
		}
	}
	if authorityForm(nil) {
		t.Error("none is one")
	}
}

// Over HTTP/2 any value makes an authority or a method; none that has two readings
// may go on.
func TestHeadsWithTwoReadingsAreRefused(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the application saw %s of %s", r.Method, r.Host)
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	for _, fields := range [][]string{
		{":method", "GET /admin", ":scheme", "http", ":authority", "app", ":path", "/"},
		{":method", "GET", ":scheme", "http", ":authority", "app:evil", ":path", "/"},
		{":method", "GET", ":scheme", "http", ":path", "/"},
	} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newFrameClient(t, conn)
		if got := c.refused(c.head(fields)); got != ":status: 400" && got != http2.ErrCodeProtocol.String() {
			t.Errorf("%q: %q, want 400 or PROTOCOL_ERROR", fields, got)
		}
	}
}

// refused reads up to the stream's answer, or its reset, and returns the status or
// the reason.
func (c *frameClient) refused(stream uint32) string {
	c.tb.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.tb.Fatalf("read the answer: %v", err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return ":status: " + f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			return f.ErrCode.String()
		}
	}
}
