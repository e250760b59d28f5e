package http1

// Classes of bytes, as bits of class.
const (
	tokenByte  uint8 = 1 << iota // of field names and the like
	methodByte                   // of methods: tokens that have no other case
	targetByte                   // of request targets: what RFC 3986 knows, and what clients send raw nevertheless
	hostByte                     // of an authority
	valueByte                    // of field values and reason phrases
	digitByte
)

var class = func() (t [256]uint8) {
	for c := range t {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80
		upper := 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if letter || digit || among("!#$%&'*+-.^_`|~", c) {
			t[c] |= tokenByte
		}
		if upper || digit || c == '-' || c == '_' {
			t[c] |= methodByte
		}
		if c > ' ' && c < 0x7f && c != '#' && c != '\\' {
			t[c] |= targetByte
		}
		if letter || digit || among("-._~:[]%", c) {
			t[c] |= hostByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
		if digit {
			t[c] |= digitByte
		}
	}
	return t
}()

func among(set string, c int) bool {
	for i := range len(set) {
		if int(set[i]) == c {
			return true
		}
	}
	return false
}

// all reports whether b is not empty and of the class.
func all(b []byte, of uint8) bool {
	for _, c := range b {
		if class[c]&of == 0 {
			return false
		}
	}
	return len(b) > 0
}

// folded makes letters lower-case and an underscore a hyphen: applications that
// take fields from an environment (CGI and its heirs) cannot tell those two.
var folded = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
		if 'A' <= c && c <= 'Z' {
			t[c] = byte(c) | 0x20
		}
	}
	t['_'] = '-'
	return t
}()

// alike compares a name with one in lower case, as folded.
func alike[N []byte | string](name N, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		if folded[name[i]] != lower[i] {
			return false
		}
	}
	return true
}

// sameName compares two names as folded.
func sameName[A, B []byte | string](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if folded[a[i]] != folded[b[i]] {
			return false
		}
	}
	return true
}

// sameFold compares two values but for the case of letters.
func sameFold[A, B []byte | string](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && (folded[a[i]] != folded[b[i]] || a[i] == '_' || b[i] == '_') {
			return false
		}
	}
	return true
}

// kind is what a field name means to a relay.
type kind uint8

const (
	plain kind = iota
	// guarded fields survive being named in Connection, and are never trailers: a
	// client must not take away what an application decides by.
	guarded
	host
	contentLength
	expect
	grpcStatus
	// What follows concerns one connection only, and does not pass.
	transferEncoding
	connection
	upgrade
	te
	hop
	// own fields are the mesh's, which no client may say.
	clientID
	origProto
	// named fields are those that Connection has named.
	named
)

// passes reports whether fields of this kind go on to the other side.
func (k kind) passes() bool { return k < transferEncoding }

// framing kinds decide where a message ends or who it is for.
func (k kind) frames() bool {
	return k == host || k == contentLength || k >= transferEncoding && k <= hop
}

// kindOf classifies a name. One that is only alike, by an underscore, is hidden.
func kindOf[N []byte | string](name N) (k kind, hidden bool) {
	k = foldedKind(name)
	if k == plain {
		return plain, false
	}
	for i := range len(name) {
		if name[i] == '_' {
			return k, true
		}
	}
	return k, false
}

func foldedKind[N []byte | string](name N) kind {
	switch len(name) {
	case 2:
		if alike(name, "te") {
			return te
		}
	case 4:
		if alike(name, "host") {
			return host
		}
	case 6:
		if alike(name, "cookie") {
			return guarded
		}
		if alike(name, "expect") {
			return expect
		}
	case 7:
		if alike(name, "upgrade") {
			return upgrade
		}
	case 9:
		if alike(name, "forwarded") {
			return guarded
		}
	case 10:
		if alike(name, "connection") {
			return connection
		}
		if alike(name, "keep-alive") {
			return hop
		}
	case 11:
		if alike(name, "grpc-status") {
			return grpcStatus
		}
	case 12:
		if alike(name, "content-type") {
			return guarded
		}
	case 13:
		if alike(name, "authorization") {
			return guarded
		}
		if alike(name, "l5d-client-id") {
			return clientID
		}
	case 14:
		if alike(name, "content-length") {
			return contentLength
		}
		if alike(name, "l5d-orig-proto") {
			return origProto
		}
		if alike(name, "http2-settings") {
			return hop
		}
	case 15:
		if alike(name, "x-forwarded-for") {
			return guarded
		}
	case 16:
		if alike(name, "proxy-connection") {
			return hop
		}
	case 17:
		if alike(name, "transfer-encoding") {
			return transferEncoding
		}
	}
	if len(name) > 4 && alike(name[:4], "l5d-") {
		return guarded
	}
	return plain
}
