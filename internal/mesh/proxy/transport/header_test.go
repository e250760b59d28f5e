package transport

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var headers = []Header{
	{Port: 1},
	{Port: 8080},
	{Port: 65535, Protocol: HTTP2},
	{Port: 80, Protocol: HTTP1},
	{Port: 4143, Name: "web-svc.emojivoto.svc.cluster.local:80", Protocol: HTTP2},
}

func TestAHeaderIsReadAsWrittenAndNotAByteMore(t *testing.T) {
	for _, want := range headers {
		var wire bytes.Buffer
		if err := want.Write(&wire); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("GET / HTTP/1.1\r\n")
		got, err := Read(iotest.OneByteReader(&wire))
		if err != nil {
			t.Errorf("%+v: %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if rest := wire.String(); rest != "GET / HTTP/1.1\r\n" {
			t.Errorf("%+v: left %q", want, rest)
		}
	}
}

// The bytes are fixed by rule T-32; peers of another make read them.
func TestTheWireFormIsTheMeshes(t *testing.T) {
	for want, h := range map[string]Header{
		"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x03\x08\x90\x3f":                 {Port: 8080},
		"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x07\x08\x90\x3f\x1a\x02\x0a\x00": {Port: 8080, Protocol: HTTP1},
		"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x07\x08\x90\x3f\x1a\x02\x12\x00": {Port: 8080, Protocol: HTTP2},
		"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x06\x08\x90\x3f\x12\x01a":        {Port: 8080, Name: "a"},
	} {
		if got := string(h.Append(nil)); got != want {
			t.Errorf("%+v: wrote %q, want %q", h, got, want)
		}
	}
}

func wire(message string) string {
	return preface + string([]byte{0, 0, byte(len(message) >> 8), byte(len(message))}) + message
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for name, bytes := range map[string]string{
		"another preface":           strings.Replace(wire("\x08\x50"), "v1", "v2", 1),
		"HTTP":                      "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
		"length beyond bound":       preface + "\xff\xff\xff\xff",
		"length just beyond":        wire(strings.Repeat("\x00", longestMessage+1)),
		"no port":                   wire(""),
		"port zero":                 wire("\x08\x00"),
		"port 65536":                wire("\x08\x80\x80\x04"),
		"negative port":             wire("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		"port twice":                wire("\x08\x50\x08\x51"),
		"port as bytes":             wire("\x0a\x01\x50"),
		"name not UTF-8":            wire("\x08\x50\x12\x01\xff"),
		"name cut":                  wire("\x08\x50\x12\x05ab"),
		"unknown field":             wire("\x08\x50\x20\x01"),
		"unknown session protocol":  wire("\x08\x50\x1a\x02\x1a\x00"),
		"empty session protocol":    wire("\x08\x50\x1a\x00"),
		"two session protocols":     wire("\x08\x50\x1a\x04\x0a\x00\x12\x00"),
		"session protocol and more": wire("\x08\x50\x1a\x04\x0a\x02\x08\x01"),
		"tag cut":                   wire("\x08\x50\x80"),
		"field number zero":         wire("\x00\x00"),
	} {
		if h, err := Read(strings.NewReader(bytes)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: read %+v, %v", name, h, err)
		}
	}
}

func TestATruncatedHeaderIsTheReadersError(t *testing.T) {
	whole := string(headers[4].Append(nil))
	for i := range whole {
		want := io.ErrUnexpectedEOF
		if i == 0 {
			want = io.EOF
		}
		if _, err := Read(strings.NewReader(whole[:i])); !errors.Is(err, want) || errors.Is(err, ErrMalformed) {
			t.Fatalf("cut after %d bytes: %v, want %v", i, err, want)
		}
	}
}

func TestAnInvalidHeaderIsNotWritten(t *testing.T) {
	for _, h := range []Header{{}, {Port: 1, Protocol: 3}, {Port: 1, Name: strings.Repeat("a", longestMessage)}} {
		if err := h.Write(io.Discard); err == nil {
			t.Errorf("%+v was written", h)
		}
	}
}
