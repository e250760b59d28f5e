package policy

import "time"

// Field is a header field. It is an alias of a type without a name, as the
// relays' fields are, so that theirs are handed over without being copied.
type Field = struct{ Name, Value []byte }

// Header is a field that the proxy itself writes; the relays' are the same type.
type Header = struct{ Name, Value string }

// Head is what a decision looks at in a request. Nothing of it is kept. One Head
// serves the requests of a connection one after another, and its Scratch with it.
type Head struct {
	Method []byte
	// Path as sent, escapes included, without the query. Query without the question mark.
	Path, Query []byte
	// Host is the request's authority: of an absolute-form target, else :authority or Host, else the original destination (H-12).
	Host []byte
	// Fields in their order; names in any case of letters.
	Fields []Field
	// Now is the time rate limits are measured with; any monotonic origin.
	Now time.Time
	// Scratch is where paths and parameters are written that have to be decoded. It
	// is grown when need be and kept, so that in the long run nothing is allocated.
	Scratch []byte
}

// Field returns the value of the first field of a name, given in lower case; nil for none.
func (h *Head) Field(name string) []byte {
	for i := range h.Fields {
		if equalFold(h.Fields[i].Name, name) {
			return h.Fields[i].Value
		}
	}
	return nil
}

// equalFold compares with a text in lower case, whatever the case of b's ASCII letters.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
