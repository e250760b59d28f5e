package http1

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// writeRequest writes the head that the application is to see, of the fields that
// pass and what the handler wants changed. dst is the application's name for
// itself when the client has none (HTTP/1.0).
func (x *exchange) writeRequest(dst string) {
	r, h, a := &x.request, &x.request.head, &x.action
	b := append(x.out[:0], h.Method...)
	b = append(b, ' ')
	if h.Form == Absolute {
		b = append(b, h.Scheme...)
		b = append(b, "://"...)
		b = append(b, r.authority...)
	}
	switch {
	case h.Form == Authority:
		b = append(b, r.authority...)
	case a.Path != nil:
		b = append(b, a.Path...)
	default:
		b = append(b, h.Path...)
	}
	if h.HasQuery {
		b = append(b, '?')
		b = append(b, h.Query...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	if !r.hosted {
		b = append(b, "Host: "...)
		if len(h.Authority) > 0 {
			b = append(b, h.Authority...)
		} else {
			b = append(b, dst...)
		}
		b = append(b, "\r\n"...)
	}
	changed := len(a.Remove)+len(a.Set) > 0
	for i := range r.fields {
		if f := &r.fields[i]; !changed || r.kinds[i].frames() || !a.replaces(f.Name) {
			b = appendField(b, f)
		}
	}
	if r.body == Chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if r.trailers {
		b = append(b, "TE: trailers\r\n"...)
	}
	if r.upgrading {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, r.upgrade...)
		b = append(b, "\r\n"...)
	}
	b = appendHeaders(b, a.Set)
	b = appendHeaders(b, a.Append)
	x.out = append(b, "\r\n"...)
}

// replaces reports whether the handler wants fields of that name gone.
func (a *Action) replaces(name []byte) bool {
	for _, n := range a.Remove {
		if sameName(name, n) {
			return true
		}
	}
	for i := range a.Set {
		if sameName(name, a.Set[i].Name) {
			return true
		}
	}
	return false
}

// writeResponse writes the application's head for the client; last says that the
// connection ends with this answer.
func (x *exchange) writeResponse(last bool) {
	a := &x.response
	b := append(x.out[:0], "HTTP/1.1 "...)
	b = append(b, a.phrase...)
	b = append(b, "\r\n"...)
	for i := range a.fields {
		b = appendField(b, &a.fields[i])
	}
	if a.body == Chunked && !x.down.payload {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case a.status == http.StatusSwitchingProtocols:
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, a.upgrade...)
		b = append(b, "\r\n"...)
	case last:
		b = append(b, connectionClose...)
	}
	x.out = append(b, "\r\n"...)
}

const connectionClose = "Connection: close\r\n"

// writeAnswer writes an answer of the proxy's own (N-01).
func (x *exchange) writeAnswer(status int, fields []Header, last bool) {
	b := append(x.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\nContent-Length: 0\r\nDate: "...)
	b = append(b, date()...)
	b = append(b, "\r\n"...)
	b = appendHeaders(b, fields)
	if last {
		b = append(b, connectionClose...)
	}
	x.out = append(b, "\r\n"...)
}

func appendField(b []byte, f *Field) []byte {
	b = append(b, f.Name...)
	b = append(b, ": "...)
	b = append(b, f.Value...)
	return append(b, "\r\n"...)
}

// appendHeaders writes what the handler wants said; what frames the message is
// not its to say.
func appendHeaders(b []byte, headers []Header) []byte {
	for i := range headers {
		if k, _ := kindOf(headers[i].Name); !k.frames() && k != origProto {
			b = appendHeader(b, headers[i])
		}
	}
	return b
}

func appendHeader(b []byte, h Header) []byte {
	b = append(b, h.Name...)
	b = append(b, ": "...)
	b = append(b, h.Value...)
	return append(b, "\r\n"...)
}

// second is a date as it is written.
type second struct {
	unix int64
	text []byte
}

var lastDate atomic.Pointer[second]

// date is the time of day for the proxy's own answers, made once in a second.
func date() []byte {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.unix == now.Unix() {
		return d.text
	}
	d := &second{now.Unix(), now.UTC().AppendFormat(nil, http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
