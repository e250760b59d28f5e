package http2

import (
	"bytes"
	"strconv"
)

// Names that the relay knows. Those of the mesh's own never pass from a client.
const (
	nameClientID  = "l5d-client-id"
	nameOrigProto = "l5d-orig-proto"
	meshPrefix    = "l5d"
)

// Octets of names and values (RFC 9113 section 8.2.1, RFC 9110 section 5.1).
const (
	inName = 1 << iota
	inValue
	inPseudo
	// inTarget is what may stand in a path and its query, as in HTTP/1's target:
	// applications end a path, or a query, at other bytes (abuse case 10).
	inTarget
)

var octets = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0:
			t[c] = inName
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= inValue
		}
		if c > ' ' && c != 0x7f {
			t[c] |= inPseudo
		}
		if c > ' ' && c < 0x7f && c != '#' && c != '\\' {
			t[c] |= inTarget
		}
	}
	return t
}()

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if octets[c]&class == 0 {
			return false
		}
	}
	return true
}

func wellFormed(f *Field) bool {
	v := f.Value
	if len(v) > 0 && (v[0] == ' ' || v[0] == '\t' || v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		return false
	}
	return len(f.Name) > 0 && all(f.Name, inName) && all(v, inValue)
}

// hopByHop: fields that concern one HTTP/1 connection; HTTP/2 has none of them.
func hopByHop(name []byte) bool {
	switch text(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// isClientID also knows the spellings with underscores, which applications that hand
// fields on as variables (CGI, WSGI) cannot tell from it.
func isClientID(name []byte) bool {
	if len(name) != len(nameClientID) || name[0] != 'l' {
		return false
	}
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		if c != nameClientID[i] {
			return false
		}
	}
	return true
}

// pseudo are a request's pseudo-headers as they arrived.
type pseudo struct {
	method, scheme, authority, path field
}

// field is a decoded field with what is needed to send it again; a nil Name: absent.
type field struct {
	Field
	meta
}

// parse checks a decoded request and fills head; false when it is malformed. f keeps
// the regular fields, without those of the mesh's own.
func (ps *pseudo) parse(f *fields, head *Head) bool {
	*ps = pseudo{}
	*head = Head{ContentLength: -1, Fields: f.list[:0]}
	kept, regular := 0, false
	var host []byte
	hosts := 0
	for i := range f.list {
		fl, m := &f.list[i], f.meta[i]
		if len(fl.Name) > 0 && fl.Name[0] == ':' {
			var to *field
			switch text(fl.Name) {
			case ":method":
				to = &ps.method
			case ":scheme":
				to = &ps.scheme
			case ":authority":
				to = &ps.authority
			case ":path":
				to = &ps.path
			}
			if to == nil || to.Name != nil || regular || !all(fl.Value, inPseudo) {
				return false
			}
			*to = field{*fl, m}
			continue
		}
		regular = true
		if !wellFormed(fl) || hopByHop(fl.Name) {
			return false
		}
		switch text(fl.Name) {
		case "te":
			if text(fl.Value) != "trailers" {
				return false
			}
		case "host":
			if hosts++; hosts > 1 || !all(fl.Value, inPseudo) {
				return false
			}
			host = fl.Value
		case "content-length":
			n, err := strconv.ParseUint(text(fl.Value), 10, 63)
			if err != nil || head.ContentLength >= 0 || fl.Value[0] == '+' {
				return false
			}
			head.ContentLength = int64(n)
		case "content-type":
			if !head.GRPC && bytes.HasPrefix(fl.Value, []byte("application/grpc")) {
				head.GRPC = true
			}
		case nameOrigProto:
			if head.OrigProto == nil {
				head.OrigProto = fl.Value
			}
			continue
		}
		if isClientID(fl.Name) {
			continue
		}
		f.list[kept], f.meta[kept] = *fl, m
		kept++
	}
	f.list, f.meta = f.list[:kept], f.meta[:kept]
	head.Fields = f.list
	head.Method, head.Scheme, head.Authority = ps.method.Value, ps.scheme.Value, ps.authority.Value
	if len(head.Method) == 0 || !token(head.Method) {
		return false
	}
	if ps.authority.Name == nil {
		head.Authority = host
	} else if hosts > 0 && !bytes.Equal(host, head.Authority) {
		return false
	}
	if text(head.Method) == "CONNECT" {
		return ps.scheme.Name == nil && ps.path.Name == nil && len(ps.authority.Value) > 0
	}
	path := ps.path.Value
	if len(head.Authority) == 0 || len(head.Scheme) == 0 || len(path) == 0 || path[0] != '/' && !(text(path) == "*" && text(head.Method) == "OPTIONS") {
		return false
	}
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		head.Query, head.HasQuery = path[i+1:], true
		path = path[:i]
	}
	head.Path = path
	return true
}

// token: method names may have upper case letters, which field names may not.
func token(b []byte) bool {
	for _, c := range b {
		if octets[c]&inName == 0 && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// parseTrailers checks a request's trailers and leaves out what none may carry:
// what the application decides by, and whatever is the mesh's (I-07).
func parseTrailers(f *fields) bool {
	kept := 0
	for i := range f.list {
		fl := &f.list[i]
		if !wellFormed(fl) || hopByHop(fl.Name) {
			return false
		}
		if notInTrailers(fl.Name) {
			continue
		}
		f.list[kept], f.meta[kept] = *fl, f.meta[i]
		kept++
	}
	f.list, f.meta = f.list[:kept], f.meta[:kept]
	return true
}

func notInTrailers(name []byte) bool {
	switch text(name) {
	case "host", "authorization", "cookie", "content-length", "content-type", "te", "forwarded", "x-forwarded-for":
		return true
	}
	return bytes.HasPrefix(name, []byte(meshPrefix))
}

// parseAnswer checks what the application sent: status is 0 for trailers, which
// head says are expected or not. grpc is -1 unless grpc-status was there. false:
// it is no answer. What concerns connections, and l5d-orig-proto, is left out.
func parseAnswer(f *fields, head bool) (status, grpc int, ok bool) {
	grpc = -1
	kept := 0
	for i := range f.list {
		fl := &f.list[i]
		if len(fl.Name) > 0 && fl.Name[0] == ':' {
			n, err := strconv.Atoi(text(fl.Value))
			if text(fl.Name) != ":status" || i > 0 || !head || err != nil || len(fl.Value) != 3 || n < 100 {
				return 0, -1, false
			}
			status = n
		} else {
			switch {
			case !wellFormed(fl):
				return 0, -1, false
			case hopByHop(fl.Name) || text(fl.Name) == nameOrigProto:
				continue
			case text(fl.Name) == "grpc-status":
				if n, err := strconv.ParseUint(text(fl.Value), 10, 16); err == nil {
					grpc = int(n)
				}
			}
		}
		f.list[kept], f.meta[kept] = *fl, f.meta[i]
		kept++
	}
	f.list, f.meta = f.list[:kept], f.meta[:kept]
	return status, grpc, !head || status != 0 && status != 101
}

// clone copies what must outlive the next block.
func (f *fields) clone() *fields {
	c := &fields{meta: append([]meta(nil), f.meta...)}
	for _, fl := range f.list {
		c.list = append(c.list, Field{bytes.Clone(fl.Name), bytes.Clone(fl.Value)})
	}
	return c
}
