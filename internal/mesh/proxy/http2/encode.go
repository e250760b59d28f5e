package http2

import (
	"bytes"
	"unsafe"
)

// encoder is the sending half of a connection's header compression. Strings are
// never Huffman coded: what repeats is in the table, and the rest is cheaper to
// send than to code.
type encoder struct {
	table table
	// announce: the peer has changed its SETTINGS_HEADER_TABLE_SIZE, which the next
	// block must begin with; emptied: more than once, so that the table was emptied.
	announce, emptied bool
}

// limit follows the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) limit(size uint32) {
	max := int(min(size, tableSize))
	switch {
	case e.announce:
		// The smallest of several sizes must be announced as well. It may as well be 0:
		// Go's decoder takes a second update only while its table is empty.
		e.emptied = true
		e.table.setMax(0)
	case max == e.table.max:
		return
	}
	e.announce = true
	e.table.setMax(max)
}

// begin must be called before a block's first field.
func (e *encoder) begin(dst []byte) []byte {
	if !e.announce {
		return dst
	}
	if e.emptied {
		dst = append(dst, 0x20)
	}
	e.announce, e.emptied = false, false
	return appendInteger(dst, 5, 0x20, uint64(e.table.max))
}

func (e *encoder) field(dst []byte, f *Field, m meta) []byte {
	if m.whole {
		return appendInteger(dst, 7, 0x80, uint64(m.static))
	}
	switch m.form {
	case never:
		return e.literal(dst, 4, 0x10, uint64(m.static), f)
	case literal:
		return e.literal(dst, 4, 0, uint64(m.static), f)
	}
	nh := nameHash(f.Name)
	h := fieldHash(nh, f.Value)
	name := uint64(m.static)
	for i := range e.table.n {
		en := e.table.at(i)
		if en.nameHash != nh || !bytes.Equal(e.table.nameOf(en), f.Name) {
			continue
		}
		if en.hash == h && bytes.Equal(e.table.valueOf(en), f.Value) {
			return appendInteger(dst, 7, 0x80, uint64(i+len(staticTable)))
		}
		if name == 0 {
			name = uint64(i + len(staticTable))
		}
	}
	if len(f.Name)+len(f.Value)+entryOverhead > e.table.max {
		return e.literal(dst, 4, 0, name, f) // it would only empty the table
	}
	dst = e.literal(dst, 6, 0x40, name, f)
	e.table.add(f.Name, f.Value, m.static, nh, h)
	return dst
}

func (e *encoder) literal(dst []byte, bits int, kind byte, name uint64, f *Field) []byte {
	dst = appendInteger(dst, bits, kind, name)
	if name == 0 {
		dst = appendInteger(dst, 7, 0, uint64(len(f.Name)))
		dst = append(dst, f.Name...)
	}
	dst = appendInteger(dst, 7, 0, uint64(len(f.Value)))
	return append(dst, f.Value...)
}

func appendInteger(dst []byte, bits int, kind byte, n uint64) []byte {
	limit := uint64(1)<<bits - 1
	if n < limit {
		return append(dst, kind|byte(n))
	}
	dst = append(dst, kind|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// own encodes a field of the proxy's own.
func (e *encoder) own(dst []byte, h Header, as form) []byte {
	f := Field{octetsOf(h.Name), octetsOf(h.Value)}
	return e.field(dst, &f, metaOf(f.Name, as))
}

// octetsOf looks at s without a copy; nobody writes to what it returns.
func octetsOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// metaOf is for fields that came from no wire.
func metaOf(name []byte, f form) meta { return meta{static: staticNames[text(name)], form: f} }
