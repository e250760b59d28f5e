package http2

import (
	"errors"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// form is how a field stood on the wire; it is passed on in the same form, so that
// what a client would not have in a table is in none.
type form uint8

const (
	indexed form = iota // in a table, or put into one by this field
	literal
	never
)

// meta belongs to the field of the same index.
type meta struct {
	static uint8 // index of the name in the static table, 0 for none
	form   form
	whole  bool // static names the value too
}

// fields is one decoded header block. Its memory serves block after block.
type fields struct {
	list []Field
	meta []meta
	// size counts as Limits.HeadBytes does; over: fields are missing because a limit
	// has bitten.
	size int
	over bool
	// copied has the bytes of what came from a table or Huffman coded: entries may be
	// evicted by a later field of the same block.
	copied scratch
}

type scratch struct{ b []byte }

func (s *scratch) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func (f *fields) reset() {
	f.list, f.meta, f.size, f.over, f.copied.b = f.list[:0], f.meta[:0], 0, false, f.copied.b[:0]
}

// shrink gives memory back that an unusual head has taken.
func (f *fields) shrink() {
	if cap(f.copied.b) > keepCopied || cap(f.list) > keepFields {
		*f = fields{}
	}
}

const (
	keepCopied = 2 << 10
	keepFields = 64
)

// keep returns a copy of b that lasts as long as the block.
func (f *fields) keep(b []byte) []byte {
	from := len(f.copied.b)
	f.copied.b = append(f.copied.b, b...)
	return f.copied.b[from:len(f.copied.b):len(f.copied.b)]
}

func (f *fields) add(name, value []byte, m meta, limits *Limits) {
	f.size += len(name) + len(value) + entryOverhead
	if f.size > limits.HeadBytes || len(f.list) >= limits.HeadFields {
		f.over = true
		return
	}
	f.list = append(f.list, Field{name, value})
	f.meta = append(f.meta, m)
}

// decoder is the receiving half of a connection's header compression.
type decoder struct{ table table }

var (
	errTruncated = errors.New("header block is truncated")
	errInteger   = errors.New("integer is too large")
	errIndex     = errors.New("index names no entry")
	errUpdate    = errors.New("table size update out of place or too large")
)

// maxUpdates is what an encoder needs of size updates at the start of a block.
const maxUpdates = 2

// decode reads a whole block into f. After a limit has bitten it goes on, so that
// the table stays in step, but keeps no more fields.
func (d *decoder) decode(block []byte, f *fields, limits *Limits) error {
	f.reset()
	updates := 0
	for first := true; len(block) > 0; {
		var err error
		b := block[0]
		if b&0xe0 == 0x20 {
			var size uint64
			if size, block, err = integer(block, 5); err != nil {
				return err
			}
			if updates++; !first || updates > maxUpdates || size > tableSize {
				return errUpdate
			}
			d.table.setMax(int(size))
			continue
		}
		first = false
		mark := len(f.copied.b)
		if b&0x80 != 0 {
			block, err = d.indexed(block, f, limits)
		} else {
			block, err = d.literal(block, f, limits)
		}
		if err != nil {
			return err
		}
		if f.over {
			f.copied.b = f.copied.b[:mark]
		}
	}
	return nil
}

func (d *decoder) indexed(block []byte, f *fields, limits *Limits) ([]byte, error) {
	i, block, err := integer(block, 7)
	switch {
	case err != nil:
		return nil, err
	case i == 0:
		return nil, errIndex
	case i < uint64(len(staticTable)):
		s := &staticTable[i]
		f.add(s.Name, s.Value, meta{uint8(i), indexed, true}, limits)
		return block, nil
	}
	e, err := d.entry(i)
	if err != nil {
		return nil, err
	}
	if f.over {
		return block, nil // nothing is copied for a head that is refused
	}
	both := f.keep(d.table.buf[e.off : e.off+e.name+e.value])
	f.add(both[:e.name:e.name], both[e.name:], meta{e.static, indexed, false}, limits)
	return block, nil
}

func (d *decoder) entry(i uint64) (*entry, error) {
	i -= uint64(len(staticTable))
	if i >= uint64(d.table.n) {
		return nil, errIndex
	}
	return d.table.at(int(i)), nil
}

func (d *decoder) literal(block []byte, f *fields, limits *Limits) ([]byte, error) {
	m, bits := meta{form: literal}, 4
	switch b := block[0]; {
	case b&0x40 != 0:
		m.form, bits = indexed, 6
	case b&0x10 != 0:
		m.form = never
	}
	i, block, err := integer(block, bits)
	if err != nil {
		return nil, err
	}
	var name, value []byte
	switch {
	case i == 0:
		name, block, err = str(block, f)
	case i < uint64(len(staticTable)):
		name, m.static = staticTable[i].Name, uint8(i)
	default:
		var e *entry
		if e, err = d.entry(i); err == nil {
			name, m.static = f.keep(d.table.nameOf(e)), e.static
		}
	}
	if err != nil {
		return nil, err
	}
	if value, block, err = str(block, f); err != nil {
		return nil, err
	}
	if m.form == indexed {
		d.table.add(name, value, m.static, 0, 0)
	}
	f.add(name, value, m, limits)
	return block, nil
}

// str reads a string literal (RFC 7541 section 5.2).
func str(block []byte, f *fields) (s, rest []byte, err error) {
	if len(block) == 0 {
		return nil, nil, errTruncated
	}
	huffman := block[0]&0x80 != 0
	n, block, err := integer(block, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(block)) {
		return nil, nil, errTruncated
	}
	s, rest = block[:n:n], block[n:]
	if huffman {
		from := len(f.copied.b)
		if _, err = hpack.HuffmanDecode(&f.copied, s); err != nil {
			return nil, nil, err
		}
		s = f.copied.b[from:len(f.copied.b):len(f.copied.b)]
	}
	return s, rest, nil
}

// integer reads a number with a prefix of that many bits (RFC 7541 section 5.1).
func integer(block []byte, bits int) (n uint64, rest []byte, err error) {
	if len(block) == 0 {
		return 0, nil, errTruncated
	}
	limit := uint64(1)<<bits - 1
	if n = uint64(block[0]) & limit; n < limit {
		return n, block[1:], nil
	}
	for i, shift := 1, 0; ; i, shift = i+1, shift+7 {
		if i >= len(block) {
			return 0, nil, errTruncated
		}
		if shift > 21 { // more than any length or index that we could accept
			return 0, nil, errInteger
		}
		n += uint64(block[i]&0x7f) << shift
		if block[i]&0x80 == 0 {
			return n, block[i+1:], nil
		}
	}
}

// text looks at b as a string without a copy; b must not change meanwhile.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
