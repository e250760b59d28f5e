package http2

import (
	"hash/maphash"

	"golang.org/x/net/http2/hpack"
)

// staticTable is RFC 7541 appendix A; index 0 is unused.
var staticTable = func() (t [62]Field) {
	d := hpack.NewDecoder(0, nil)
	for i := 1; i < len(t); i++ {
		f, err := d.DecodeFull([]byte{0x80 | byte(i)})
		if err != nil {
			panic(err)
		}
		t[i] = Field{[]byte(f[0].Name), []byte(f[0].Value)}
	}
	return t
}()

// staticNames are the lowest index of each name.
var staticNames = func() map[string]uint8 {
	m := map[string]uint8{}
	for i := len(staticTable) - 1; i > 0; i-- {
		m[string(staticTable[i].Name)] = uint8(i)
	}
	return m
}()

// table is one dynamic table (RFC 7541 section 2.3.2). Entries lie one behind the
// other in buf, oldest first, so that no entry is a piece of memory of its own.
type table struct {
	ring []entry // len is a power of two
	head int     // the oldest entry's place in ring
	n    int
	buf  []byte
	// size and max are in the unit of RFC 7541 section 4.1.
	size, max int
}

type entry struct {
	off         int32
	name, value int32 // lengths
	static      uint8 // index of the name in the static table, 0 for none
	nameHash    uint64
	hash        uint64
}

// entryOverhead is what an entry counts beyond its strings.
const entryOverhead = 32

var seed = maphash.MakeSeed()

// nameHash and fieldHash are seeded: no client can choose values that collide.
func nameHash(name []byte) uint64                    { return maphash.Bytes(seed, name) }
func fieldHash(nameHash uint64, value []byte) uint64 { return nameHash ^ maphash.Bytes(seed, value)*31 }

// at returns the i-th newest entry, from 0.
func (t *table) at(i int) *entry { return &t.ring[(t.head+t.n-1-i)&(len(t.ring)-1)] }

func (t *table) nameOf(e *entry) []byte { return t.buf[e.off : e.off+e.name] }
func (t *table) valueOf(e *entry) []byte {
	return t.buf[e.off+e.name : e.off+e.name+e.value]
}

func (t *table) setMax(max int) {
	t.max = max
	t.evict(0)
}

// evict makes room for an entry of that size.
func (t *table) evict(room int) {
	for t.n > 0 && t.size+room > t.max {
		e := &t.ring[t.head]
		t.size -= int(e.name+e.value) + entryOverhead
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.n--
	}
	if t.n == 0 {
		t.buf = t.buf[:0]
	}
}

// add copies an entry in. One that does not fit at all empties the table.
func (t *table) add(name, value []byte, static uint8, nameHash, hash uint64) {
	length := len(name) + len(value)
	t.evict(length + entryOverhead)
	if length+entryOverhead > t.max {
		return
	}
	if t.n == len(t.ring) {
		t.grow()
	}
	if t.n > 0 && len(t.buf)+length > cap(t.buf) && cap(t.buf) >= 2*t.size {
		// Move what is alive to the front.
		from := t.ring[t.head].off
		t.buf = t.buf[:copy(t.buf, t.buf[from:])]
		for i := range t.n {
			t.at(i).off -= from
		}
	}
	e := entry{int32(len(t.buf)), int32(len(name)), int32(len(value)), static, nameHash, hash}
	t.buf = append(append(t.buf, name...), value...)
	t.size += length + entryOverhead
	t.n++
	*t.at(0) = e
}

func (t *table) grow() {
	ring := make([]entry, max(8, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = t.ring[(t.head+i)&(len(t.ring)-1)]
	}
	t.ring, t.head = ring, 0
}
