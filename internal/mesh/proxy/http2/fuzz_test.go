package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tape is a connection of which one side is known from the start.
type tape struct {
	net.Conn // nil: what is not defined here is not used
	mu       sync.Mutex
	in       []byte
	out      bytes.Buffer
	// hold keeps Read from reporting the end; played is closed when in is used up.
	hold   func() <-chan struct{}
	played chan struct{}
	done   chan struct{}
	once   [2]sync.Once
}

func newTape(in []byte) *tape {
	return &tape{in: in, played: make(chan struct{}), done: make(chan struct{})}
}

func (t *tape) Read(p []byte) (int, error) {
	t.mu.Lock()
	n := copy(p, t.in)
	t.in = t.in[n:]
	t.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	t.once[0].Do(func() { close(t.played) })
	select {
	case <-t.hold():
	case <-t.done:
	}
	return 0, io.EOF
}

func (t *tape) Write(p []byte) (int, error) {
	select {
	case <-t.done:
		return 0, net.ErrClosed
	default:
	}
	return t.out.Write(p)
}

func (t *tape) Close() error {
	t.once[1].Do(func() { close(t.done) })
	t.once[0].Do(func() { close(t.played) })
	return nil
}

func (t *tape) SetReadDeadline(time.Time) error { return nil }

// FuzzFrames lets a client and an application send anything. Whatever they send:
// both are answered with frames and header blocks that can be read, the application
// gets nothing that was not permitted, and everything ends.
func FuzzFrames(f *testing.F) {
	for _, s := range frameSeeds() {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, fromClient, fromApp []byte) {
		settings := appendFrameHeader(nil, 0, http2.FrameSettings, 0, 0)
		client := newTape(slices.Concat(settings, fromClient))
		var apps []*tape
		forever := make(chan struct{})
		client.hold = func() <-chan struct{} {
			if len(apps) > 0 {
				return apps[0].played
			}
			ended := make(chan struct{})
			close(ended)
			return ended
		}
		var b bites
		cfg := &Config{Bite: b.bite, Limits: Limits{HeadBytes: 4000}, Dial: func(context.Context) (net.Conn, error) {
			app := newTape(nil)
			app.hold = func() <-chan struct{} { return forever }
			if len(apps) == 0 {
				app.in = slices.Concat(settings, fromApp)
			}
			if len(apps) == 3 {
				return nil, os.ErrDeadlineExceeded
			}
			apps = append(apps, app)
			return app, nil
		}}
		asked := 0
		h := &asked0{decide: func(head *Head, a *Action) {
			asked++
			switch a.Verdict = Forward; {
			case bytes.HasPrefix(head.Path, []byte("/deny")):
				deny(a)
				asked--
			case bytes.HasPrefix(head.Path, []byte("/hand")):
				a.Verdict = HandOut
			}
			a.Append = append(a.Append, Header{"l5d-client-id", "web"})
		}}
		c := New(client, []byte(http2.ClientPreface), h, cfg)
		c.Serve()
		if len(c.streams) != 0 {
			t.Errorf("%d streams are left", len(c.streams))
		}
		readable(t, "to the client", client.out.Bytes(), nil)
		for i, app := range apps {
			out, ok := bytes.CutPrefix(app.out.Bytes(), []byte(http2.ClientPreface))
			if !ok {
				if len(app.out.Bytes()) > 0 {
					t.Errorf("application %d is greeted with %q", i, app.out.Bytes()[:20])
				}
				continue
			}
			last := uint32(0)
			readable(t, "to the application", out, func(f *http2.MetaHeadersFrame) {
				if f.PseudoValue("method") == "" {
					return // trailers
				}
				if path := f.PseudoValue("path"); strings.HasPrefix(path, "/deny") || strings.HasPrefix(path, "/hand") {
					t.Errorf("the application gets %s", path)
				}
				if f.StreamID <= last {
					t.Errorf("stream %d follows %d", f.StreamID, last)
				}
				last = f.StreamID
				ids := 0
				for _, f := range f.RegularFields() {
					switch strings.ReplaceAll(f.Name, "_", "-") {
					case "l5d-client-id":
						if ids++; f.Value != "web" || ids > 1 {
							t.Errorf("the application gets %s: %s", f.Name, f.Value)
						}
					case "l5d-orig-proto", "connection", "transfer-encoding", "upgrade":
						t.Errorf("the application gets %s: %s", f.Name, f.Value)
					}
				}
			})
		}
	})
}

// asked0 counts nothing, so that it does not lock.
type asked0 struct{ decide func(*Head, *Action) }

func (h *asked0) Decide(head *Head, a *Action)     { h.decide(head, a) }
func (h *asked0) Failed(_ any, _ error, a *Action) { a.Status = 502 }
func (h *asked0) Responded(any, int, int, error)   {}
func (h *asked0) Serve(s *Stream) {
	s.WriteHead(200, nil, false)
	io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	s.End(s.Trailers())
}

// readable checks that out is made of frames, possibly cut off at its end.
func readable(t *testing.T, where string, out []byte, head func(*http2.MetaHeadersFrame)) {
	f := http2.NewFramer(io.Discard, bytes.NewReader(out))
	d := hpack.NewDecoder(tableSize, nil)
	f.ReadMetaHeaders = d
	f.MaxHeaderListSize = 1 << 20
	f.SetMaxReadFrameSize(maxFrame)
	for {
		fr, err := f.ReadFrame()
		var stream http2.StreamError
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return
		case errors.As(err, &stream):
			continue // fields that the other side sent; blocks were still decoded
		case err != nil:
			t.Fatalf("%s: %v", where, err)
		}
		if m, ok := fr.(*http2.MetaHeadersFrame); ok && head != nil {
			head(m)
		}
	}
}

// frameSeeds are conversations of some kinds.
func frameSeeds() (seeds [][2][]byte) {
	seed := func(client, app func(f *http2.Framer, e func(...string) []byte)) {
		var out [2]bytes.Buffer
		for i, write := range []func(*http2.Framer, func(...string) []byte){client, app} {
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			f := http2.NewFramer(&out[i], nil)
			f.AllowIllegalWrites = true
			write(f, func(fields ...string) []byte {
				block.Reset()
				for i := 0; i < len(fields); i += 2 {
					enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
				}
				return bytes.Clone(block.Bytes())
			})
		}
		seeds = append(seeds, [2][]byte{out[0].Bytes(), out[1].Bytes()})
	}
	heads := func(f *http2.Framer, id uint32, block []byte, end bool) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
	}
	answer := func(f *http2.Framer, e func(...string) []byte) {
		for id := uint32(1); id < 8; id += 2 {
			heads(f, id, e(":status", "200", "content-type", "application/grpc", "x-n", fmt.Sprint(id)), false)
			f.WriteData(id, false, payload)
			heads(f, id, e("grpc-status", "0"), true)
		}
	}
	seed(func(f *http2.Framer, e func(...string) []byte) {
		for i, path := range []string{"/a/b", "/deny/b", "/a/b", "/hand"} {
			id := uint32(2*i + 1)
			heads(f, id, e(request(path, "l5d-client-id", "evil", "te", "trailers", "x-n", path)...), false)
			f.WriteData(id, false, payload)
			f.WriteDataPadded(id, true, payload, make([]byte, 10))
		}
	}, answer)
	seed(func(f *http2.Framer, e func(...string) []byte) {
		heads(f, 1, e(request("/deny", "content-length", "5")...), false)
		f.WriteData(1, false, []byte("12345"))
		heads(f, 1, e("x-sum", "1", "l5d-client-id", "evil"), true)
		heads(f, 3, e(request("/open", "content-length", "5")...), false)
		f.WriteData(3, false, []byte("12345"))
		heads(f, 3, e("x-sum", "1", "l5d-client-id", "evil"), true)
		f.WriteRSTStream(5, http2.ErrCodeCancel)
	}, answer)
	seed(func(f *http2.Framer, e func(...string) []byte) {
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
		block := e(request("/", "x-long", strings.Repeat("v", 300))...)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:7], EndStream: true, Priority: http2.PriorityParam{StreamDep: 3, Weight: 1}})
		f.WriteContinuation(1, false, block[7:20])
		f.WriteContinuation(1, true, block[20:])
		f.WriteWindowUpdate(1, 5)
		f.WriteWindowUpdate(0, 5000)
		f.WritePing(false, [8]byte{1})
		f.WritePriority(7, http2.PriorityParam{StreamDep: 1})
		f.WriteRawFrame(0x33, 0, 0, []byte("unknown"))
		f.WriteGoAway(0, http2.ErrCodeNo, nil)
	}, func(f *http2.Framer, e func(...string) []byte) {
		f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		heads(f, 1, e(":status", "103", "link", "</a>"), false)
		answer(f, e)
		f.WriteGoAway(1, http2.ErrCodeNo, nil)
		f.WriteRSTStream(1, http2.ErrCodeNo)
	})
	seed(func(f *http2.Framer, e func(...string) []byte) {
		for i, fields := range [][]string{request("/", "connection", "close"), request("/", "x", "a\nb"), {":method", "CONNECT", ":authority", "a:1"}, request("/", "", "")} {
			heads(f, uint32(2*i+1), e(fields...), i%2 == 0)
		}
	}, func(f *http2.Framer, e func(...string) []byte) {
		heads(f, 5, e(":status", "20"), true)
		f.WriteData(7, true, nil)
		f.WritePushPromise(http2.PushPromiseParam{StreamID: 5, PromiseID: 2, BlockFragment: e(":method", "GET"), EndHeaders: true})
	})
	return seeds
}

// FuzzHeaderBlocks decodes blocks, each with its length before it, here and with
// another decoder, and what came out once more after encoding it here.
func FuzzHeaderBlocks(f *testing.F) {
	var wire bytes.Buffer
	e := hpack.NewEncoder(&wire)
	var seed []byte
	for i := range 5 {
		wire.Reset()
		for n := 0; n < 10; n += 2 {
			e.WriteField(hpack.HeaderField{Name: fmt.Sprint("name-", n), Value: strings.Repeat("v", i*n), Sensitive: i == n})
		}
		seed = append(append(seed, byte(wire.Len())), wire.Bytes()...)
	}
	f.Add(seed)
	f.Add([]byte{2, 0x20, 0x82, 6, 0x3f, 0xe1, 0x1f, 0x40, 0x00, 0x00, 1, 0xbe})
	f.Add([]byte{5, 0x40, 1, 'a', 0x81, 0x1f, 2, 0xbe, 0xc0})
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := newDecoder(), hpack.NewDecoder(tableSize, nil)
		again, check := newEncoder(), hpack.NewDecoder(tableSize, nil)
		limits := Limits{HeadBytes: 1 << 30, HeadFields: 1 << 30}.withDefaults()
		var got fields
		for len(data) > 0 {
			n := min(int(data[0]), len(data)-1)
			block := data[1 : 1+n]
			data = data[1+n:]
			err := ours.decode(block, &got, &limits)
			want, theirErr := theirs.DecodeFull(block)
			switch {
			case errors.Is(err, errUpdate) || errors.Is(err, errInteger):
				return // here we are stricter
			case theirErr != nil && strings.Contains(theirErr.Error(), "table size update"):
				return // there they are
			case (err == nil) != (theirErr == nil):
				t.Fatalf("%x: here %v, there %v", block, err, theirErr)
			case err != nil:
				return
			}
			same(t, got.list, want)
			out := again.begin(nil)
			for i := range got.list {
				out = again.field(out, &got.list[i], got.meta[i])
			}
			once, err := check.DecodeFull(out)
			if err != nil {
				t.Fatalf("%x: encoded as %x: %v", block, out, err)
			}
			same(t, got.list, once)
		}
	})
}

func same(t *testing.T, got []Field, want []hpack.HeaderField) {
	t.Helper()
	var list []Field
	for _, f := range want {
		list = append(list, Field{[]byte(f.Name), []byte(f.Value)})
	}
	if !sameFields(got, list) {
		t.Fatalf("fields %q, not %q", got, list)
	}
}
