package inbound

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzParseHello: what is said of a first flight is what the library's server sees
// of it, and is the same wherever reads have split it.
func FuzzParseHello(f *testing.F) {
	raw := helloBytes(f, &tls.Config{ServerName: "AZ.Example.com", NextProtos: []string{"h2", "transport.l5d.io/v1"}, InsecureSkipVerify: true})
	small := helloBytes(f, &tls.Config{ServerName: "a.b", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, InsecureSkipVerify: true})
	f.Add(raw)
	f.Add(small)
	f.Add(bytes.Replace(small, []byte("a.b"), []byte("\xe2\x84\xaa"), 1)) // a letter whose lower case is k
	f.Add(helloBytes(f, &tls.Config{InsecureSkipVerify: true}))
	body := small[recordHeader:]
	f.Add(slices.Concat(handshakeRecord(body[:1]), handshakeRecord(body[1:50]), handshakeRecord(body[50:])))
	f.Add([]byte("\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" + strings.Repeat("r", 32) + "\x00\x00\x02\x00\x2f\x01\x00")) // without extensions
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxClientHello/2 {
			return // no one reads on beyond the limit
		}
		ours := parseHello(b)
		if ours.tls && !ours.decided || !ours.tls && (ours.serverName != "" || ours.protocols != nil) {
			t.Fatalf("%+v contradicts itself", ours)
		}
		for i := 0; i < len(b); i += 1 + len(b)/128 {
			if part := parseHello(b[:i]); part.decided && !sameHello(part, ours) {
				t.Fatalf("after %d bytes: %+v; after all %d: %+v", i, part, len(b), ours)
			}
		}
		theirs := libraryHello(b)
		if theirs == nil || !ofHandshakeRecords(b) {
			return // it, or T-11, takes less than the other for TLS
		}
		want := hello{decided: true, tls: true, serverName: lowerASCII(theirs.ServerName), protocols: theirs.SupportedProtos}
		if !sameHello(ours, want) {
			t.Fatalf("the library sees %q, %q; we %+v", theirs.ServerName, theirs.SupportedProtos, ours)
		}
	})
}

// libraryHello is what crypto/tls tells of a first flight, nil when it refuses it.
func libraryHello(b []byte) (info *tls.ClientHelloInfo) {
	tls.Server(&flight{in: bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(seen *tls.ClientHelloInfo) (*tls.Config, error) {
		info = seen
		return nil, errors.New("seen")
	}}).Handshake()
	return info
}

// ofHandshakeRecords tells whether b is records of a handshake in a version of TLS,
// as far as it goes. The library also takes some records of other kinds and versions.
func ofHandshakeRecords(b []byte) bool {
	for len(b) >= recordHeader {
		if b[0] != recordHandshake || b[1] != 3 {
			return false
		}
		b = b[min(len(b), recordHeader+int(b[3])<<8+int(b[4])):]
	}
	return true
}

func handshakeRecord(b []byte) []byte {
	return append([]byte{recordHandshake, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
}

func sameHello(a, b hello) bool {
	return a.decided == b.decided && a.tls == b.tls && a.serverName == b.serverName && slices.Equal(a.protocols, b.protocols)
}

// lowerASCII is what DNS takes for the same name.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// flight is a connection of a client that has said what it says.
type flight struct {
	net.Conn // nil: what is not defined here is not used
	in       *bytes.Reader
}

func (c *flight) Read(p []byte) (int, error)         { return c.in.Read(p) }
func (c *flight) Write(p []byte) (int, error)        { return len(p), nil }
func (c *flight) Close() error                       { return nil }
func (c *flight) SetDeadline(time.Time) error        { return nil }
func (c *flight) SetReadDeadline(time.Time) error    { return nil }
func (c *flight) SetWriteDeadline(t time.Time) error { return nil }
func (c *flight) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *flight) LocalAddr() net.Addr                { return &net.TCPAddr{} }
