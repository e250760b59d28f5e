package http1

import (
	"bytes"
	"time"
)

// headEnd looks for the empty line that ends a head in b, of which from bytes
// have been looked at before; end is 0 when it is not there yet. Each line must
// end in CR LF.
func headEnd(b []byte, from int) (end int, err *refusal) {
	for i := from; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0, nil
		}
		i += n + 1
		if i < 2 || b[i-2] != '\r' {
			return 0, errBareLF
		}
		if i >= 4 && b[i-3] == '\n' {
			return i, nil
		}
	}
}

// message is what request and answer have in common. Its slices lie in the
// buffer of the connection that it came from.
type message struct {
	// fields are those that pass on, once stripped; kinds are theirs.
	fields []Field
	kinds  []kind
	minor  uint8
	body   Body
	length int64
	// close: the peer ends the connection after this message.
	close     bool
	keepAlive bool
	// upgrades: Connection says upgrade.
	upgrades bool
	// upgrade is the one Upgrade field's value.
	upgrade []byte
	// grpcStatus is the value of the field of that name.
	grpcStatus []byte
	// trailers: TE says trailers.
	trailers bool
}

func (m *message) reset() {
	*m = message{fields: m.fields[:0], kinds: m.kinds[:0]}
}

// request is a request head with what the relay makes of it.
type request struct {
	message
	head      Head
	connect   bool
	headOnly  bool // HEAD
	expects   bool // 100-continue
	authority []byte
	// hosted: there is a Host field.
	hosted bool
	// upgrading: the application is asked to switch to the protocols in upgrade.
	upgrading bool
}

// nextLine splits off the line up to CR LF, which headEnd has seen to be there.
func nextLine(b []byte) (line, rest []byte) {
	n := bytes.IndexByte(b, '\n')
	return b[:n-1], b[n+1:]
}

// parse reads a head that ends with its empty line.
func (r *request) parse(b []byte, l *Limits) *refusal {
	r.message.reset()
	*r = request{message: r.message}
	line, b := nextLine(b)
	if err := r.requestLine(line); err != nil {
		return err
	}
	if err := r.readFields(b, l, Client); err != nil {
		return err
	}
	if err := r.readHost(); err != nil {
		return err
	}
	if err := r.frame(); err != nil {
		return err
	}
	for i, k := range r.kinds {
		if k != expect {
			continue
		}
		if !sameFold(r.fields[i].Value, "100-continue") {
			return errExpect
		}
		if r.minor == 0 {
			r.kinds[i] = named // 1.0 knows no expectations
			continue
		}
		r.expects = true
	}
	if r.connect && r.body != NoBody {
		return errConnectBody
	}
	if err := r.readConnection(); err != nil {
		return err
	}
	if r.minor == 0 {
		r.close, r.upgrades = true, false
	}
	if !r.upgrades || r.body != NoBody || r.connect || !switchable(r.upgrade) {
		r.upgrade = nil
	}
	r.upgrading = r.upgrade != nil
	r.strip()
	h := &r.head
	h.Minor, h.Fields, h.Body, h.Length, h.Received = r.minor, r.fields, r.body, r.length, time.Now()
	if r.upgrading { // the application sees it, so it may be judged by
		h.Fields = append(h.Fields, Field{Name: upgradeName, Value: r.upgrade})
	}
	return nil
}

// requestLine reads METHOD SP target SP HTTP/1.x.
func (r *request) requestLine(line []byte) *refusal {
	h := &r.head
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return errLine
	}
	h.Method = line[:i]
	target := line[i+1:]
	if i = bytes.IndexByte(target, ' '); i < 0 {
		return errLine
	}
	version := target[i+1:]
	target = target[:i]
	if !all(h.Method, methodByte) || len(h.Method) > longestMethod || string(h.Method) == "PRI" {
		return errMethod
	}
	switch string(version) {
	case "HTTP/1.1":
		r.minor = 1
	case "HTTP/1.0":
	default:
		return errVersion
	}
	if !all(target, targetByte) {
		return errTarget
	}
	r.connect = string(h.Method) == "CONNECT"
	r.headOnly = string(h.Method) == "HEAD"
	return r.target(target)
}

// target tells the forms apart (RFC 9112, section 3.2).
func (r *request) target(t []byte) *refusal {
	h := &r.head
	switch {
	case r.connect:
		h.Form = Authority
		if !validHost(t) || !hasPort(t) {
			return errForm
		}
		r.authority = t
		return nil
	case t[0] == '/':
		h.Form = Origin
	case len(t) == 1 && t[0] == '*':
		if string(h.Method) != "OPTIONS" {
			return errForm
		}
		h.Form, h.Path = Asterisk, t
		return nil
	default:
		h.Form = Absolute
		i := bytes.Index(t, []byte("://"))
		if i < 0 {
			return errForm
		}
		h.Scheme = t[:i]
		if !sameFold(h.Scheme, "http") && !sameFold(h.Scheme, "https") {
			return errForm
		}
		t = t[i+len("://"):]
		end := bytes.IndexAny(t, "/?")
		if end < 0 {
			end = len(t)
		}
		r.authority, t = t[:end], t[end:]
		if !validHost(r.authority) {
			return errForm
		}
	}
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		h.Query, h.HasQuery = t[i+1:], true
		t = t[:i]
	}
	if len(t) == 0 {
		t = rootPath
	}
	h.Path = t
	return nil
}

var (
	rootPath    = []byte("/")
	upgradeName = []byte("upgrade")
)

// readFields reads field lines up to the empty one.
func (m *message) readFields(b []byte, l *Limits, from Side) *refusal {
	for {
		var line []byte
		if line, b = nextLine(b); len(line) == 0 {
			return nil
		}
		if len(m.fields) == l.Fields {
			return errFieldsLimit
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		k, hidden := kindOf(f.Name)
		if hidden {
			if k.frames() {
				return errHidden
			}
			if k != clientID && k != origProto {
				k = plain
			}
		}
		if from == Client && (k == contentLength || k == transferEncoding) && padded(line[len(f.Name)+len(":"):]) {
			return errPadded
		}
		m.fields, m.kinds = append(m.fields, f), append(m.kinds, k)
	}
}

// padded tells of more white space before a value than the one space that clients
// write. There are readers that take the rest for a part of the value.
func padded(v []byte) bool {
	return len(v) > 0 && v[0] == '\t' || len(v) > 1 && v[0] == ' ' && (v[1] == ' ' || v[1] == '\t')
}

// parseField reads name, colon and value.
func parseField(line []byte) (f Field, err *refusal) {
	i := 0
	for i < len(line) && class[line[i]]&tokenByte != 0 {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return f, errName
	}
	f.Name = line[:i]
	v := line[i+1:]
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	for _, c := range v {
		if class[c]&valueByte == 0 {
			return f, errValue
		}
	}
	f.Value = v
	return f, nil
}

// readHost takes the authority from the target or the Host field. They must say
// the same: an application may believe either.
func (r *request) readHost() *refusal {
	seen := false
	for i, k := range r.kinds {
		if k != host {
			continue
		}
		if seen {
			return errHosts
		}
		seen = true
		v := r.fields[i].Value
		if !validHost(v) {
			return errHost
		}
		if r.authority != nil && !sameFold(r.authority, v) {
			return errHostDiffers
		}
		r.head.Authority = v
	}
	if r.hosted = seen; !seen {
		if r.minor == 1 {
			return errNoHost
		}
		r.head.Authority = r.authority
	}
	return nil
}

// frame finds out where the body ends.
func (m *message) frame() *refusal {
	lengths, codings := 0, 0
	for i, k := range m.kinds {
		switch k {
		case contentLength:
			n, ok := parseLength(m.fields[i].Value)
			if !ok {
				return errLength
			}
			if lengths++; lengths > 1 {
				return errLengths
			}
			m.length = n
		case transferEncoding:
			if codings++; codings > 1 {
				return errCodings
			}
			if !sameFold(m.fields[i].Value, "chunked") {
				return errCoding
			}
		}
	}
	switch {
	case codings > 0 && lengths > 0:
		return errLengthCoding
	case codings > 0 && m.minor == 0:
		return errCodingOld
	case codings > 0:
		m.body = Chunked
	case lengths > 0 && m.length > 0:
		m.body = Length
	}
	return nil
}

// parseLength reads plain decimal digits without a leading zero. There are at
// most 18, so that no number is too large.
func parseLength(v []byte) (n int64, ok bool) {
	if !all(v, digitByte) || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	for _, c := range v {
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// readConnection takes in what concerns this connection only.
func (m *message) readConnection() *refusal {
	options, upgrades := 0, 0
	for i, k := range m.kinds {
		switch k {
		case connection:
			rest := m.fields[i].Value
			for len(rest) > 0 {
				var option []byte
				if option, rest = nextOption(rest); len(option) == 0 {
					continue
				}
				if options++; options > mostOptions {
					return errFieldsLimit
				}
				m.option(option)
			}
		case upgrade:
			upgrades++
			m.upgrade = m.fields[i].Value
		case te:
			rest := m.fields[i].Value
			for len(rest) > 0 {
				var coding []byte
				coding, rest = nextOption(rest)
				m.trailers = m.trailers || sameFold(coding, "trailers")
			}
		case grpcStatus:
			m.grpcStatus = m.fields[i].Value
		}
	}
	if upgrades > 1 {
		m.upgrade = nil
	}
	return nil
}

func (m *message) option(o []byte) {
	switch {
	case sameFold(o, "close"):
		m.close = true
	case sameFold(o, "keep-alive"):
		m.keepAlive = true
	case sameFold(o, "upgrade"):
		m.upgrades = true
	default:
		for i := range m.fields {
			if (m.kinds[i] == plain || m.kinds[i] == expect || m.kinds[i] == grpcStatus) && sameName(m.fields[i].Name, o) {
				m.kinds[i] = named
			}
		}
	}
}

// nextOption splits a comma list.
func nextOption(list []byte) (option, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		option, rest = list[:i], list[i+1:]
	} else {
		option = list
	}
	return bytes.Trim(option, " \t"), rest
}

// switchable protocols may follow an upgrade: not those that would carry
// requests nobody judges.
func switchable(protocols []byte) bool {
	if len(protocols) == 0 {
		return false
	}
	for rest := protocols; len(rest) > 0; {
		var p []byte
		p, rest = nextOption(rest)
		name, _, _ := bytes.Cut(p, []byte("/"))
		if len(name) == 0 || sameFold(name, "h2c") || sameFold(name, "h2") || sameFold(name, "http") || sameFold(name, "tls") {
			return false
		}
	}
	return true
}

// strip leaves the fields that pass.
func (m *message) strip() {
	n := 0
	for i, k := range m.kinds {
		if !k.passes() {
			continue
		}
		m.fields[n], m.kinds[n] = m.fields[i], k
		n++
	}
	m.fields, m.kinds = m.fields[:n], m.kinds[:n]
}

// validHost accepts a name or address with or without port, and no user.
func validHost(h []byte) bool {
	if !all(h, hostByte) || h[0] == ':' {
		return false
	}
	if h[0] == '[' {
		end := bytes.IndexByte(h, ']')
		return end > 1 && bytes.LastIndexByte(h, '[') == 0 && bytes.LastIndexByte(h, ']') == end && validPort(h[end+1:])
	}
	if bytes.ContainsAny(h, "[]") {
		return false
	}
	i := bytes.IndexByte(h, ':')
	return i < 0 || validPort(h[i:])
}

// validPort accepts nothing, or a colon and digits.
func validPort(p []byte) bool {
	return len(p) == 0 || p[0] == ':' && len(p) <= len(":65535") && (len(p) == 1 || all(p[1:], digitByte))
}

func hasPort(h []byte) bool {
	i := bytes.LastIndexByte(h, ':')
	return i >= 0 && i < len(h)-1 && bytes.IndexByte(h[i:], ']') < 0
}
