package frame_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/clients/load/frame"
)

// written is what the standard framer makes of a few frames.
func written(t *testing.T) []byte {
	t.Helper()
	var wire bytes.Buffer
	f := http2.NewFramer(&wire, nil)
	for _, err := range []error{
		f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 7}),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("block"), EndHeaders: true, PadLength: 3, Priority: http2.PriorityParam{Weight: 9}}),
		f.WriteDataPadded(1, true, []byte("body"), make([]byte, 200)),
		f.WriteWindowUpdate(0, 5),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return wire.Bytes()
}

type seen struct {
	Type    http2.FrameType
	Stream  uint32
	Content string
}

func TestFramesAreTheSameHoweverTheirBytesArrive(t *testing.T) {
	want := []seen{{http2.FrameSettings, 0, "\x00\x01\x00\x00\x00\x07"}, {http2.FrameHeaders, 1, "block"}, {http2.FrameData, 1, "body"}, {http2.FrameWindowUpdate, 0, "\x00\x00\x00\x05"}}
	for size := 1; size < 50; size++ {
		var r frame.Reader
		var got []seen
		for rest := written(t); len(rest) > 0; {
			n := min(size, len(rest))
			err := r.Feed(rest[:n], func(f frame.Frame) error {
				content := f.Payload
				if f.Type == http2.FrameHeaders || f.Type == http2.FrameData {
					var err error
					if content, err = f.Content(); err != nil {
						return err
					}
				}
				got = append(got, seen{f.Type, f.Stream, string(content)})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%d bytes at a time: -want +got\n%s", size, diff)
		}
	}
}

func TestAFrameLongerThanAgreedIsAnError(t *testing.T) {
	var r frame.Reader
	if err := r.Feed(frame.Append(nil, http2.FrameData, 0, 1, make([]byte, 16<<10+1)), func(frame.Frame) error { return nil }); err == nil {
		t.Error("taken")
	}
}

// A decoder that has seen the first block reads every later one the same way.
func TestABlockSaysTheSameEachTime(t *testing.T) {
	one, two := hpack.HeaderField{Name: "a", Value: "first"}, hpack.HeaderField{Name: "b", Value: "second"}
	for _, table := range []uint32{0, 4096} {
		encoder := frame.NewEncoder(table)
		head, trailer := encoder.Encode(one, two), encoder.Encode(two)
		decoder := hpack.NewDecoder(table, nil)
		for n := range 3 {
			for _, b := range []struct {
				block *frame.Block
				want  []hpack.HeaderField
			}{{head, []hpack.HeaderField{one, two}}, {trailer, []hpack.HeaderField{two}}} {
				got, err := decoder.DecodeFull(b.block.Next())
				if err != nil || !cmp.Equal(got, b.want) {
					t.Errorf("table of %d, time %d: %v, %v", table, n, got, err)
				}
			}
		}
	}
}

func TestWhatIsSwallowedIsCreditedInTime(t *testing.T) {
	var c frame.Credit
	swallowed, credited := 0, uint32(0)
	const most = 1 << 30 // the window that was greeted with
	for swallowed < 3*most {
		out := c.Swallow(nil, 16<<10)
		swallowed += 16 << 10
		var r frame.Reader
		if err := r.Feed(out, func(f frame.Frame) error {
			credited += uint32(f.Payload[0])<<24 | uint32(f.Payload[1])<<16 | uint32(f.Payload[2])<<8 | uint32(f.Payload[3])
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if swallowed-int(credited) >= most {
			t.Fatalf("%d bytes swallowed, %d credited", swallowed, credited)
		}
	}
}
