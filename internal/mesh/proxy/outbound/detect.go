package outbound

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// protocol is what detection made of a client's first bytes.
type protocol uint8

const (
	undecided protocol = iota
	notHTTP
	http1Protocol
	http2Protocol
)

const (
	// http2Preface opens every HTTP/2 connection.
	http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// longestLine bounds the bytes gathered for a request line; what is longer
	// and still looks like one is HTTP/1, whose server limits it.
	longestLine = 8 << 10
)

// detect reads until the protocol is decided, bytes gathered included in what is
// read afterwards. A client silent for the detect time-out, or one that stops in
// the middle of what could become HTTP, has an opaque connection: it may be
// waiting for the server to speak. The error is the client's connection's.
func (s *session) detect() (protocol, error) {
	deadline := time.Now().Add(s.proxy.config.DetectTimeout)
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return undecided, fmt.Errorf("set the detect time-out: %w", err)
	}
	buffer := make([]byte, 0, 1<<10)
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := s.conn.Conn.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		s.conn.peeked = buffer
		found := classify(buffer)
		if found == undecided && err == nil {
			continue
		}
		var timeout net.Error
		switch {
		case found != undecided:
		case errors.As(err, &timeout) && timeout.Timeout():
			s.log.Info("protocol not detected in time, treated as opaque", "bytes", len(buffer))
			found = notHTTP
		case err == io.EOF && len(buffer) > 0:
			found = notHTTP
		default:
			return undecided, fmt.Errorf("read the client's first bytes: %w", err)
		}
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return undecided, fmt.Errorf("lift the detect time-out: %w", err)
		}
		return found, nil
	}
}

// classify decides from a connection's first bytes. A method in lower case is
// known only by its whole line, so that text protocols are not held up.
func classify(b []byte) protocol {
	if len(b) == 0 {
		return undecided
	}
	if len(b) >= len(http2Preface) && string(b[:len(http2Preface)]) == http2Preface {
		return http2Protocol
	}
	if len(b) < len(http2Preface) && http2Preface[:len(b)] == string(b) {
		return undecided
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	method, rest, spaced := bytes.Cut(line, []byte(" "))
	for _, c := range method {
		if !isToken(c) {
			return notHTTP
		}
	}
	if len(method) == 0 {
		return notHTTP
	}
	if !whole {
		upper := b[0] >= 'A' && b[0] <= 'Z'
		switch {
		case !upper:
			return notHTTP
		case len(b) < longestLine:
			return undecided
		case spaced:
			return http1Protocol
		}
		return notHTTP
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if i := bytes.LastIndexByte(rest, ' '); !spaced || i <= 0 {
		return notHTTP
	} else if version := bytes.TrimSuffix(rest[i+1:], []byte("\r")); !isVersion(version) {
		return notHTTP
	}
	return http1Protocol
}

func isVersion(b []byte) bool {
	return len(b) == len("HTTP/1.1") && bytes.HasPrefix(b, []byte("HTTP/1.")) && (b[7] == '0' || b[7] == '1')
}

func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
