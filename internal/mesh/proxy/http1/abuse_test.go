package http1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// abused is a request whose head is refused with the status. Numbers are those of
// the abuse cases.
type abused struct {
	name, request string
	status        int
}

func abusedHeads() []abused {
	field := func(f string) string { return "POST / HTTP/1.1\r\nHost: a\r\n" + f + "\r\n\r\n" }
	line := func(l string) string { return l + "\r\nHost: a\r\n\r\n" }
	many := strings.Repeat("X: y\r\n", 1000)
	return []abused{
		{"4: backslash", line(`GET /x\y HTTP/1.1`), 400},
		{"6: control byte in the target", line("GET /a\x01 HTTP/1.1"), 400},
		{"6: raw byte past ASCII", line("GET /\xc0\xae HTTP/1.1"), 400},
		{"9: absolute form and another Host", line("GET http://b/ HTTP/1.1"), 400},
		{"9: absolute form with a user", line("GET http://a@a/ HTTP/1.1"), 400},
		{"9: absolute form of another scheme", line("GET ftp://a/ HTTP/1.1"), 400},
		{"9: absolute form without authority", line("GET http:///x HTTP/1.1"), 400},
		{"9: asterisk without OPTIONS", line("GET * HTTP/1.1"), 400},
		{"9: authority form without CONNECT", line("GET a:80 HTTP/1.1"), 400},
		{"9: CONNECT with a path", line("CONNECT /x HTTP/1.1"), 400},
		{"9: CONNECT and another Host", line("CONNECT b:80 HTTP/1.1"), 400},
		{"9: empty target", line("GET  HTTP/1.1"), 400},
		{"10: fragment", line("GET /a#b HTTP/1.1"), 400},
		{"13: lower-case method", line("get / HTTP/1.1"), 400},
		{"13: NUL in the method", line("GET\x00 / HTTP/1.1"), 400},
		{"13: the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 400},
		{"17: malformed port", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400},
		{"17: malformed address", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		{"18: two hosts", field("Host: a"), 400},
		{"18: no host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"18: empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"39: length and coding", field("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400},
		{"39: two codings", field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400},
		{"39: space before the colon", field("Transfer-Encoding : chunked"), 400},
		{"39: xchunked", field("Transfer-Encoding: xchunked"), 400},
		{"39: chunked, identity", field("Transfer-Encoding: chunked, identity"), 400},
		{"39: gzip, chunked", field("Transfer-Encoding: gzip, chunked"), 400},
		{"39: quoted", field("Transfer-Encoding: \"chunked\""), 400},
		{"39: vertical tab", field("Transfer-Encoding:\vchunked"), 400},
		{"39: coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"39: an underscore that an environment hides", field("Transfer_Encoding: chunked"), 400},
		{"40: two unequal lengths", field("Content-Length: 3\r\nContent-Length: 4"), 400},
		{"40: two equal lengths", field("Content-Length: 3\r\nContent-Length: 3"), 400},
		{"40: +5", field("Content-Length: +5"), 400},
		{"40: -5", field("Content-Length: -5"), 400},
		{"40: two spaces", field("Content-Length:  5"), 400},
		{"40: a tab", field("Content-Length:\t5"), 400},
		{"40: a space and a tab", field("Content-Length: \t5"), 400},
		{"39: two spaces", field("Transfer-Encoding:  chunked"), 400},
		{"40: 5,5", field("Content-Length: 5,5"), 400},
		{"40: 5 5", field("Content-Length: 5 5"), 400},
		{"40: 0x5", field("Content-Length: 0x5"), 400},
		{"40: leading zero", field("Content-Length: 05"), 400},
		{"40: empty", field("Content-Length:"), 400},
		{"40: 20 digits", field("Content-Length: 00000000000000000005"), 400},
		{"40: beyond 63 bits", field("Content-Length: 18446744073709551617"), 400},
		{"40: an underscore", field("Content_Length: 5"), 400},
		{"41: bare LF in the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		{"41: bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
		{"41: bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
		{"41: bare CR in a value", field("X: a\rb"), 400},
		{"41: bare CR for a line's end", field("X: a\rContent-Length: 5"), 400},
		{"41: CR CR LF", field("X: a\r"), 400},
		{"41: folded line", field("X: a\r\n b"), 400},
		{"41: folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
		{"41: empty name", field(": a"), 400},
		{"41: no colon", field("abc"), 400},
		{"41: space in a name", field("a b: c"), 400},
		{"41: NUL in a value", field("X: a\x00b"), 400},
		{"41: control in a value", field("X: a\x1bb"), 400},
		{"41: DEL in a value", field("X: a\x7fb"), 400},
		{"41: byte past ASCII in a name", field("\xc3\xa9: b"), 400},
		{"41: two spaces in the request line", line("GET /  HTTP/1.1"), 400},
		{"41: tab in the request line", line("GET\t/ HTTP/1.1"), 400},
		{"41: leading space", line(" GET / HTTP/1.1"), 400},
		{"41: two empty lines before", "\r\n\r\n" + line("GET / HTTP/1.1"), 400},
		{"41: no version", line("GET /"), 400},
		{"41: 0.9", "GET /\r\n\r\n", 400},
		{"41: 1.2", line("GET / HTTP/1.2"), 400},
		{"41: 2.0", line("GET / HTTP/2.0"), 400},
		{"41: 1.10", line("GET / HTTP/1.10"), 400},
		{"41: http/1.1", line("GET / http/1.1"), 400},
		{"42: body with CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\n", 400},
		{"44: unknown expectation", field("Expect: magic"), 417},
		{"65: 64 KiB head", field("X: " + strings.Repeat("y", DefaultHead)), 431},
		{"65: 64 KiB target", line("GET /" + strings.Repeat("y", DefaultHead) + " HTTP/1.1"), 431},
		{"65: 1,000 fields", field(many + "A: b"), 431},
		{"65: 1,000 options", field("Connection: " + strings.Repeat("a,", 1000) + "b"), 431},
	}
}

// Each row is refused, the application sees nothing of it, and what follows it on
// the connection is not looked at.
func TestAbusedFramingIsRefusedAndEndsTheConnection(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, row := range abusedHeads() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			saw := make(chan string, 4)
			w := newWorld(t, scripted(saw, ok))
			got := w.say(row.request + next)
			if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", row.status)) || strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "\r\nConnection: close\r\n") {
				t.Errorf("answer %q", got)
			}
			if n := len(saw); n != 0 {
				t.Errorf("the application saw %q", <-saw)
			}
			if n := w.judge.asked.Load(); n != 0 {
				t.Errorf("judged %d requests", n)
			}
			limited := w.bitten[HeadLimit].Load() + w.bitten[FieldsLimit].Load()
			if malformed := w.bad[Client].Load(); malformed+limited != 1 || (limited == 1) != (row.status == 431) {
				t.Errorf("told of %d malformed, %d beyond a limit", malformed, limited)
			}
		})
	}
}

// abusedChunks are bodies in chunks that are refused.
var abusedChunks = map[string]string{
	"bare LF after the size":       "5\nhello\r\n0\r\n\r\n",
	"bare LF after the data":       "5\r\nhello\n0\r\n\r\n",
	"bare LF in an extension":      "5;a\nhello\r\n0\r\n\r\n",
	"bare CR in an extension":      "5;a\rb\r\nhello\r\n0\r\n\r\n",
	"missing end of the data":      "5\r\nhello0\r\n\r\n",
	"more data than the size":      "5\r\nhello!\r\n0\r\n\r\n",
	"+5":                           "+5\r\nhello\r\n0\r\n\r\n",
	"-5":                           "-5\r\nhello\r\n0\r\n\r\n",
	"0x5":                          "0x5\r\nhello\r\n0\r\n\r\n",
	"leading space":                " 5\r\nhello\r\n0\r\n\r\n",
	"space without extension":      "5 \r\nhello\r\n0\r\n\r\n",
	"open quote":                   "5;a=\"\r\nhello\r\n0\r\n\r\n",
	"escaped quote":                "5;a=\"\\\"\r\nhello\r\n0\r\n\r\n",
	"empty size":                   "\r\nhello\r\n0\r\n\r\n",
	"extension without size":       ";a=b\r\nhello\r\n0\r\n\r\n",
	"63 bits":                      "8000000000000000\r\nhello",
	"2^64":                         "10000000000000005\r\nhello",
	"leading zeros":                strings.Repeat("0", 1<<20) + "5\r\nhello\r\n0\r\n\r\n",
	"endless extension":            "5;" + strings.Repeat("a", 1<<20) + "\r\nhello\r\n0\r\n\r\n",
	"many extensions":              strings.Repeat("1;abcdefgh\r\nx\r\n", 1<<10) + "0\r\n\r\n",
	"endless trailer":              "0\r\nA: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
	"many trailers":                "0\r\n" + strings.Repeat("A: b\r\n", 1000) + "\r\n",
	"folded trailer":               "0\r\nA: b\r\n c\r\n\r\n",
	"space before a trailer's end": "0\r\nA : b\r\n\r\n",
	"bare LF in the trailers":      "0\r\nA: b\n\r\n",
	"bare LF at the end":           "0\r\n\n",
	"negative as unsigned":         "ffffffffffffffff\r\nhello",
}

// Case 42: the body's framing is checked while it passes. The request is judged
// by its head, and nothing of what follows the fault reaches the application.
func TestAbusedChunksEndTheConnection(t *testing.T) {
	for name, body := range abusedChunks {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprint(name, split), func(t *testing.T) {
				t.Parallel()
				var seen bytes.Buffer
				over := make(chan struct{})
				w := newWorld(t, func(c net.Conn) {
					io.Copy(&seen, c)
					close(over)
				})
				conn := w.dial()
				head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
				if split { // the fault is not there with the head
					io.WriteString(conn, head+"1\r\nx\r\n")
					eventually(t, "the application has the head", func() bool { return w.dials.Load() == 1 })
				} else {
					io.WriteString(conn, head)
				}
				go io.WriteString(conn, body+"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
				got, _ := io.ReadAll(conn)
				if !bytes.HasPrefix(got, []byte("HTTP/1.1 400 ")) || bytes.Count(got, []byte("HTTP/1.1")) != 1 {
					t.Errorf("answer %q", got)
				}
				if w.dials.Load() == 1 {
					<-over
				}
				if bytes.Contains(seen.Bytes(), []byte("/next")) || bytes.HasSuffix(seen.Bytes(), []byte("0\r\n\r\n")) {
					t.Errorf("the application saw %q", seen.Bytes())
				}
				if told := fmt.Sprint(w.judge.responses()); told != "[1 400 -1 client]" {
					t.Errorf("told %s", told)
				}
			})
		}
	}
}
