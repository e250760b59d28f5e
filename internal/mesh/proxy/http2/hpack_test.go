package http2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2/hpack"
)

var testLimits = Limits{}.withDefaults()

func newDecoder() *decoder { return &decoder{table{max: tableSize}} }
func newEncoder() *encoder { return &encoder{table: table{max: tableSize}} }

// randomFields are heads with many repeated names and values, some of them large.
func randomFields(r *rand.Rand) (list []Field, forms []form) {
	for range r.IntN(20) {
		f := staticTable[1+r.IntN(61)]
		switch r.IntN(4) {
		case 0:
			f.Value = fmt.Appendf(nil, "value-%d", r.IntN(50))
		case 1:
			f.Name = fmt.Appendf(nil, "x-name-%d", r.IntN(30))
			f.Value = bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(600))
		case 2:
			f.Name = []byte("x-always")
		}
		list, forms = append(list, f), append(forms, form(r.IntN(3)))
	}
	return list, forms
}

func TestBlocksEncodedElsewhereDecodeTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var wire bytes.Buffer
	theirs, ours := hpack.NewEncoder(&wire), newDecoder()
	var got fields
	for block := range 3000 {
		wire.Reset()
		if r.IntN(50) == 0 {
			theirs.SetMaxDynamicTableSize(uint32(r.IntN(tableSize + 1)))
		}
		list, forms := randomFields(r)
		for i, f := range list {
			theirs.WriteField(hpack.HeaderField{Name: string(f.Name), Value: string(f.Value), Sensitive: forms[i] == never})
		}
		if err := ours.decode(wire.Bytes(), &got, &testLimits); err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		if !sameFields(got.list, list) {
			t.Fatalf("block %d: decoded %q, want %q", block, got.list, list)
		}
	}
}

func TestBlocksEncodedHereDecodeTheSameElsewhere(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ours, theirs := newEncoder(), hpack.NewDecoder(tableSize, nil)
	for block := range 3000 {
		if r.IntN(50) == 0 {
			for range r.IntN(3) {
				ours.limit(uint32(r.IntN(2 * tableSize)))
			}
		}
		list, forms := randomFields(r)
		wire := ours.begin(nil)
		for i := range list {
			wire = ours.field(wire, &list[i], metaOf(list[i].Name, forms[i]))
		}
		decoded, err := theirs.DecodeFull(wire)
		if err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		var got []Field
		for i, f := range decoded {
			got = append(got, Field{[]byte(f.Name), []byte(f.Value)})
			if f.Sensitive != (forms[i] == never) {
				t.Fatalf("block %d: field %d sensitive %t", block, i, f.Sensitive)
			}
		}
		if !sameFields(got, list) {
			t.Fatalf("block %d: decoded %q, want %q", block, got, list)
		}
	}
}

func sameFields(a, b []Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Name, b[i].Name) || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

func TestAHeadBeyondTheLimitKeepsTheTableInStep(t *testing.T) {
	var wire bytes.Buffer
	theirs, ours := hpack.NewEncoder(&wire), newDecoder()
	limits := Limits{HeadBytes: 200}.withDefaults()
	var got fields
	for i := range 20 {
		theirs.WriteField(hpack.HeaderField{Name: fmt.Sprintf("name-%d", i), Value: "some value"})
	}
	if err := ours.decode(wire.Bytes(), &got, &limits); err != nil || !got.over {
		t.Fatalf("20 fields within 200 bytes: over %t, %v", got.over, err)
	}
	wire.Reset()
	theirs.WriteField(hpack.HeaderField{Name: "name-19", Value: "some value"})
	if wire.Len() != 1 {
		t.Fatalf("the field is not indexed but %d bytes", wire.Len())
	}
	if err := ours.decode(wire.Bytes(), &got, &limits); err != nil {
		t.Fatal(err)
	}
	if want := []Field{{[]byte("name-19"), []byte("some value")}}; !sameFields(got.list, want) {
		t.Errorf("decoded %q, want %q", got.list, want)
	}
}

func TestAHeadBeyondTheLimitTakesNoMemory(t *testing.T) { // case 52
	ours := newDecoder()
	limits := Limits{HeadBytes: 1000}.withDefaults()
	name := bytes.Repeat([]byte{'n'}, 3000)
	block := append(appendInteger([]byte{0x40}, 7, 0, uint64(len(name))), name...)
	block = append(block, 0)
	for range 5000 {
		block = append(block, 0x0f, 62-15, 0) // that name again, without a value
	}
	var got fields
	if err := ours.decode(block, &got, &limits); err != nil || !got.over {
		t.Fatalf("over %t, %v", got.over, err)
	}
	if held := cap(got.copied.b); held > 64<<10 {
		t.Errorf("%d bytes are held for a head of at most %d", held, limits.HeadBytes)
	}
}

func TestBlocksThatBreakTheRulesAreRefused(t *testing.T) {
	for name, block := range map[string][]byte{
		"index zero":                    {0x80},
		"index beyond the table":        {0x80 | 62},
		"name index beyond the table":   {0x40 | 62, 1, 'a'},
		"truncated integer":             {0xff},
		"truncated name":                {0x40, 5, 'a'},
		"missing value":                 {0x40, 1, 'a'},
		"integer of six bytes":          {0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
		"size update above the maximum": {0x3f, 0xe2, 0x1f},
		"size update after a field":     {0x82, 0x20},
		"three size updates":            {0x20, 0x20, 0x20, 0x82},
		"huffman padding of eight bits": {0x40, 1, 'a', 0x82, 0x1f, 0xff},
		"huffman end of string inside":  {0x40, 1, 'a', 0x84, 0xff, 0xff, 0xff, 0xff},
		"huffman padding not all ones":  {0x40, 1, 'a', 0x81, 0x18},
	} {
		t.Run(name, func(t *testing.T) {
			var f fields
			if err := newDecoder().decode(block, &f, &testLimits); err == nil {
				t.Errorf("%x decoded to %q", block, f.list)
			}
		})
	}
}

func TestSteadyHeadsCostNoAllocation(t *testing.T) {
	var wire bytes.Buffer
	theirs, ours, on := hpack.NewEncoder(&wire), newDecoder(), newEncoder()
	head := func(i int) []byte {
		wire.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/a.B/C"}, {":authority", "web"},
			{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", fmt.Sprintf("%dm", i)}, {"user-agent", "grpc-go/1"}} {
			theirs.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return bytes.Clone(wire.Bytes())
	}
	var got fields
	var out []byte
	pass := func(block []byte) {
		if err := ours.decode(block, &got, &testLimits); err != nil {
			t.Fatal(err)
		}
		out = on.begin(out[:0])
		for i := range got.list {
			out = on.field(out, &got.list[i], got.meta[i])
		}
	}
	const warm, runs = 500, 500
	var heads [][]byte
	for i := range warm + runs + 1 {
		heads = append(heads, head(i))
	}
	for _, h := range heads[:warm] {
		pass(h)
	}
	next := warm
	if len(out) > 6+len("grpc-timeout")+len("499m")+2 {
		t.Errorf("a head with one new value takes %d bytes", len(out))
	}
	if n := testing.AllocsPerRun(runs, func() { pass(heads[next]); next++ }); n != 0 {
		t.Errorf("%v allocations for a head with one new value", n)
	}
}
