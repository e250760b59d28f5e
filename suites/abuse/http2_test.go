package abuse

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/internal/proxytest"
)

func http2Cases() []Case {
	return []Case{
		{Number: 49, Title: "rapid resets end the connection with ENHANCE_YOUR_CALM", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			h := w.h2()
			h.sync()
			var flood bytes.Buffer
			f := http2.NewFramer(&flood, nil)
			for range floods {
				id := h.next
				h.next += 2
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.encode(head("/public")), EndStream: true, EndHeaders: true})
				f.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			w.calms(h, "resets", flood.Bytes())
			resetsAreCheap(t)
		}},
		{Number: 50, Title: "resets that the proxy is made to send are counted too, and work is bounded", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			var active, peak atomic.Int64
			w.app.handle = func(rw http.ResponseWriter, r *http.Request) {
				n := active.Add(1)
				defer active.Add(-1)
				for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
				}
				select {
				case <-r.Context().Done():
				case <-time.After(soon):
				}
			}
			// Ways to have a stream reset: some by frames that are counted for what they are, too, and one by data alone.
			for what, tt := range map[string]struct {
				fields [][2]string
				spoil  func(f *http2.Framer, id uint32)
			}{
				"a window by nothing":    {head("/public"), func(f *http2.Framer, id uint32) { f.WriteWindowUpdate(id, 0) }},
				"data beyond the length": {head("/public", ":method", "POST", "content-length", "1"), func(f *http2.Framer, id uint32) { f.WriteData(id, false, []byte("more than one")) }},
				"fields that are none":   {head("/public", "connection", "close"), func(*http2.Framer, uint32) {}},
			} {
				h := w.h2()
				h.sync()
				var flood bytes.Buffer
				f := http2.NewFramer(&flood, nil)
				f.AllowIllegalWrites = true
				for range floods {
					id := h.next
					h.next += 2
					f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.encode(tt.fields), EndStream: what != "data beyond the length", EndHeaders: true})
					tt.spoil(f, id)
				}
				w.calms(h, what, flood.Bytes())
				if most := int64(h.settings[http2.SettingMaxConcurrentStreams]); most > 0 && peak.Load() > 2*most { // it takes the application a moment to drop what was reset
					t.Errorf("%s: the application had %d requests at once, the limit of streams is %d", what, peak.Load(), most)
				}
			}
		}},
		{Number: 51, Title: "floods of CONTINUATION end the connection early", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			_, before := w.memory()
			for what, piece := range map[string][]byte{"empty": nil, "small": {0, 1, 'a', 1, 'b'}, "large": large(16 << 10)} {
				h := w.h2()
				h.sync()
				var flood bytes.Buffer
				f := http2.NewFramer(&flood, nil)
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.encode(head("/public")), EndStream: true})
				pieces := floods
				if len(piece) > 1<<10 {
					pieces = 1000
				}
				for range pieces {
					f.WriteContinuation(1, false, piece)
				}
				w.calms(h, what+" continuations", flood.Bytes())
			}
			const grown = 16 << 20
			if _, peak := w.memory(); peak-before > grown {
				t.Errorf("the proxy grew by %d bytes", peak-before)
			}
			w.unasked()
		}},
		{Number: 52, Title: "heads that are small to send and large to hold are refused", Run: bombs},
		{Number: 53, Title: "floods of control frames and of empty ones end the connection", Run: controlFloods},
		{Number: 54, Title: "windows that never open cost little; those that overflow or do not grow are errors", Run: windows},
		{Number: 55, Title: "malformed heads are refused before they become HTTP/1", Run: malformed},
		{Number: 56, Title: "a content-length that the data does not keep is reset", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for what, tt := range map[string]struct{ length, data string }{"less": {"5", "abc"}, "more": {"5", "abcdefgh"}, "none": {"5", ""}, "some for zero": {"0", "a"}} {
				h := w.h2()
				id := h.open(head("/public", ":method", "POST", "content-length", tt.length), tt.data == "")
				if tt.data != "" {
					h.framer.WriteData(id, true, []byte(tt.data))
				}
				if !h.refusedStream(id) {
					t.Errorf("%s: status %d", what, h.streams[id].status())
				}
				if s := h.get("/public"); h.ended == nil && s.status() != http.StatusOK {
					t.Errorf("%s: the next stream got %d", what, s.status())
				}
			}
		}},
		{Number: 57, Title: "denied and allowed streams mixed: header tables stay in step, the application sees exactly the allowed", Run: mixes},
		{Number: 58, Title: "the body of a denied stream is dropped and its window given back", Run: deniedStream},
		{Number: 59, Title: "frames out of place are the errors that they are, and never a crash", Run: outOfPlace},
		{Number: 60, Title: "denials of gRPC have gRPC's form for every spelling; paths that name no method match no route", Run: grpcForms},
		{Number: 61, Title: "after a revocation new streams are denied at once; an open one keeps its verdict to its end", Run: revoked},
		{Number: 62, Title: "the limit of streams is the proxy's own", Run: streamLimit},
	}
}

// resetsAreCheap compares what the proxy's processor does for requests that are reset
// at once with what it does for as many that are served, in turns: who resets must not
// have more of it than who asks and waits.
func resetsAreCheap(t *T) {
	w := newWorld(t, guarded(detect))
	const rounds, attackers, pairs, batches, atOnce = 3, 20, 1000, 100, 100
	const most = 1.0
	var flood bytes.Buffer
	f := http2.NewFramer(&flood, nil)
	fresh := &h2{}
	fresh.encoder = hpack.NewEncoder(&fresh.block)
	for i := range pairs {
		id := uint32(2*i + 1)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fresh.encode(head("/public")), EndStream: true, EndHeaders: true})
		f.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	decided := func() (n float64) {
		for _, v := range w.metrics("inbound_http_authz_allow_total") {
			n += v
		}
		return n
	}
	var spent [2]time.Duration
	var requests [2]float64
	for range rounds {
		for i, do := range []func(){
			func() {
				for range attackers {
					h := w.h2()
					w.flooded(h, flood.Bytes())
				}
			},
			func() {
				h := w.h2()
				for range batches {
					h.patient(soon)
					var ids []uint32
					for range atOnce {
						ids = append(ids, h.open(head("/public"), true))
					}
					for _, id := range ids {
						if s := h.wait(id); s.status() != http.StatusOK {
							t.Fatalf("a request that waits: status %d, %v", s.status(), h.ended)
						}
					}
				}
				h.Close()
			},
		} {
			before := decided()
			began := w.cpu()
			do()
			spent[i] += w.cpu() - began
			requests[i] += decided() - before
		}
	}
	if requests[0] < rounds*attackers || requests[1] < rounds*batches*atOnce {
		t.Fatalf("%v requests were reset, %v served", requests[0], requests[1])
	}
	reset, served := spent[0].Seconds()/requests[0], spent[1].Seconds()/requests[1]
	t.Logf("a request that is reset takes %.1f us of processor (%v of them), one that is served %.1f us: %.2f", 1e6*reset, requests[0], 1e6*served, reset/served)
	if reset > most*served {
		t.Errorf("a request that is reset takes %.2f times the processor of one that is served, want at most %v", reset/served, most)
	}
}

// floods is how many frames a flood has: far more than any limit a second.
const floods = 30_000

// large is a block of literals without indexing.
func large(size int) []byte {
	var b bytes.Buffer
	for b.Len()+70 < size {
		b.Write([]byte{0, 1, 'x', 64})
		b.WriteString(strings.Repeat("y", 64))
	}
	return b.Bytes()
}

// flooded writes bytes while it takes frames, and tells whether the connection ended.
func (w *world) flooded(h *h2, raw []byte) (ended bool, written int) {
	w.Helper()
	h.patient(2 * soon)
	var writing sync.WaitGroup
	writing.Go(func() {
		written, _ = h.Write(raw)
		if written == len(raw) {
			h.framer.WritePing(false, [8]byte{9})
		}
	})
	// Until the end, or until the ping behind the flood is answered: floods of
	// pings have answers of their own, so the last one is told by its data.
	for {
		h.last = [8]byte{}
		if !h.step() {
			ended = h.broke()
			break
		}
		if h.last == [8]byte{9} {
			break
		}
	}
	h.Close()
	writing.Wait()
	return ended || h.goAway != nil, written
}

// calms wants that a flood ends the connection with ENHANCE_YOUR_CALM, not for
// what comes behind it, which is an error of its own in the middle of a head. A server that closes with
// bytes unread resets the connection, and what it said may be lost by that.
func (w *world) calms(h *h2, what string, raw []byte) {
	w.Helper()
	if ended, written := w.flooded(h, raw); !ended {
		w.Errorf("%s: %d bytes were taken and the connection goes on", what, written)
	}
	w.alive()
	if h.goAway == nil && !errors.Is(h.ended, syscall.ECONNRESET) {
		w.Errorf("%s: the connection ended without GOAWAY: %v", what, h.ended)
	} else if h.goAway != nil && *h.goAway != http2.ErrCodeEnhanceYourCalm {
		w.Errorf("%s: GOAWAY %v, want ENHANCE_YOUR_CALM", what, *h.goAway)
	}
}

func bombs(t *T) {
	w := newWorld(t, guarded(detect))
	_, before := w.memory()
	refuse := func(what string, block []byte) {
		t.Helper()
		h := w.h2()
		h.sync()
		id := uint32(1)
		h.streams[id] = &stream{fields: map[string]string{}}
		h.pieces(id, block)
		if s := h.wait(id); s.status() == http.StatusOK || s.status() == 0 && s.reset == nil && h.goAway == nil && !h.broke() {
			t.Errorf("%s: status %d", what, s.status())
		}
		h.Close()
	}
	fresh := func() []byte { return (&h2{}).fresh(head("/public")) }
	// A field as large as the table, then named again and again by its number.
	bomb := append(fresh(), 0x40, 1, 'x', 0x7f)
	bomb = append(bomb, varint(4000-127)...)
	bomb = append(bomb, strings.Repeat("y", 4000)...)
	bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, 5000)...)
	refuse("a table entry 5,000 times", bomb)
	refuse("updates of the table's size", append(bytes.Repeat([]byte{0x20, 0x3f, 0xe1, 0x1f}, 4000), fresh()...))
	refuse("an update in the middle", append(append(fresh(), 0x40, 1, 'x', 1, 'y'), 0x20))
	refuse("a table larger than agreed", append([]byte{0x3f, 0xe1, 0xff, 0x7f}, fresh()...))
	refuse("an index that is not there", append(fresh(), 0xff, 0xff, 0x7f))
	refuse("a number without an end", append(fresh(), bytes.Repeat([]byte{0xff}, 100)...))
	refuse("a Huffman code of an end", append(fresh(), 0x00, 0x81, 0xff, 0x81, 0xff))
	huge := append(fresh(), 0x00, 1, 'x', 0xff)
	huge = append(huge, varint(200_000-127)...)
	refuse("200 kB of Huffman code", append(huge, bytes.Repeat([]byte{0x18, 0xc6, 0x31, 0x8c, 0x63}, 40_000)...))
	refuse("70 kB of fields", append(fresh(), large(70<<10)...))
	const grown = 16 << 20
	if _, peak := w.memory(); peak-before > grown {
		t.Errorf("the proxy grew by %d bytes", peak-before)
	}
	w.unasked()
	w.alive()
}

// pieces sends a block as one HEADERS that ends the stream and what CONTINUATION it takes.
func (h *h2) pieces(id uint32, block []byte) {
	const piece = 16 << 10
	for i := 0; i < len(block); i += piece {
		part, end := block[i:min(i+piece, len(block))], i+piece >= len(block)
		if i == 0 {
			h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndStream: true, EndHeaders: end})
		} else {
			h.framer.WriteContinuation(id, end, part)
		}
	}
}

// fresh is a block for a table that holds nothing yet, which it does not change.
func (*h2) fresh(fields [][2]string) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, 0x10, byte(len(f[0])))
		b = append(b, f[0]...)
		b = append(b, byte(len(f[1])))
		b = append(b, f[1]...)
	}
	return b
}

// varint is what follows a full prefix.
func varint(n int) []byte {
	var b []byte
	for ; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func controlFloods(t *T) {
	w := newWorld(t, guarded(detect))
	for what, write := range map[string]func(f *http2.Framer, open uint32){
		"SETTINGS":      func(f *http2.Framer, _ uint32) { f.WriteSettings() },
		"PING":          func(f *http2.Framer, _ uint32) { f.WritePing(false, [8]byte{1}) },
		"PRIORITY":      func(f *http2.Framer, id uint32) { f.WritePriority(id, http2.PriorityParam{Weight: 3}) },
		"empty DATA":    func(f *http2.Framer, id uint32) { f.WriteData(id, false, nil) },
		"WINDOW_UPDATE": func(f *http2.Framer, id uint32) { f.WriteWindowUpdate(id, 1) },
		"unknown":       func(f *http2.Framer, id uint32) { f.WriteRawFrame(0x42, 0, id, nil) },
	} {
		h := w.h2()
		id := h.open(head("/public", ":method", "POST"), false)
		h.sync()
		var flood bytes.Buffer
		f := http2.NewFramer(&flood, nil)
		f.AllowIllegalWrites = true
		for range floods {
			write(f, id)
		}
		w.calms(h, what, flood.Bytes())
	}
	h := w.h2()
	h.sync()
	block := append(h.fresh(head("/public")), bytes.Repeat([]byte{0x10, 0, 0}, 1000)...)
	h.streams[1] = &stream{fields: map[string]string{}}
	h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true})
	if !h.refusedStream(1) {
		t.Errorf("fields without names: status %d", h.streams[1].status())
	}
}

func windows(t *T) {
	w := newWorld(t, guarded(detect))
	const streams, answer = 100, 1 << 20
	w.app.handle = func(rw http.ResponseWriter, r *http.Request) { rw.Write(make([]byte, answer)) }
	before, _ := w.memory()
	slow := w.h2()
	slow.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range streams {
		slow.open(head("/public"), true)
	}
	slow.sync()
	w.eventually("the application has all requests", func() bool { return len(w.app.seen()) >= streams })
	slow.sync()
	const perStream = 512 << 10
	if _, peak := w.memory(); (peak-before)/streams > perStream {
		t.Errorf("a stream that does not read costs %d bytes", (peak-before)/streams)
	}
	w.app.handle = nil
	slow.Close()

	for what, write := range map[string]func(*h2, uint32){
		"a stream's window over 2^31":     func(h *h2, id uint32) { h.framer.WriteWindowUpdate(id, 1<<31-1) },
		"the connection's window over it": func(h *h2, id uint32) { h.framer.WriteWindowUpdate(0, 1<<31-1) },
		"a stream's window by nothing":    func(h *h2, id uint32) { h.framer.WriteWindowUpdate(id, 0) },
		"the connection's by nothing":     func(h *h2, id uint32) { h.framer.WriteWindowUpdate(0, 0) },
		"an initial window over 2^31": func(h *h2, id uint32) {
			h.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		},
	} {
		h := w.h2()
		id := h.open(head("/public", ":method", "POST"), false)
		h.sync()
		write(h, id)
		if s := h.wait(id); s.reset == nil && h.goAway == nil {
			t.Errorf("%s: status %d, connection %v", what, s.status(), h.ended)
		}
	}
	w.alive()
}

func malformed(t *T) {
	w := newWorld(t, guarded(detect))
	plain := head("/public")
	for what, fields := range map[string][][2]string{
		":method twice":        append(slices.Clone(plain), [2]string{":method", "GET"}),
		":path twice":          append(slices.Clone(plain), [2]string{":path", "/admin"}),
		":scheme twice":        append(slices.Clone(plain), [2]string{":scheme", "http"}),
		"pseudo after regular": append([][2]string{{"x", "y"}}, plain...),
		"unknown pseudo":       append(slices.Clone(plain), [2]string{":evil", "x"}),
		":status":              append(slices.Clone(plain), [2]string{":status", "200"}),
		"no :path":             without(plain, ":path"),
		"no :method":           without(plain, ":method"),
		"no :scheme":           without(plain, ":scheme"),
		"empty :path":          head(""),
		"path without slash":   head("admin"),
		"absolute path":        head("http://app/admin"),
		"space in path":        head("/public HTTP/1.1\r\nX: y"),
		"space in query":       head("/public?a b"),
		"space before a proto": head("/public?a HTTP/1.1"),
		"tab in query":         head("/public?a\tb"),
		"LF in path":           head("/public\nX: y"),
		"NUL in path":          head("/public\x00"),
		"fragment":             head("/public#x"),
		"CRLF in method":       head("/public", ":method", "GET /admin HTTP/1.1\r\nX: "),
		"space in method":      head("/public", ":method", "GET /admin"),
		"empty method":         head("/public", ":method", ""),
		"CRLF in authority":    head("/public", ":authority", "app\r\nX: y"),
		"space in authority":   head("/public", ":authority", "app evil"),
		"userinfo":             head("/public", ":authority", "evil@app"),
		"upper case":           head("/public", "X-Upper", "y"),
		"connection":           head("/public", "connection", "close"),
		"keep-alive":           head("/public", "keep-alive", "x"),
		"proxy-connection":     head("/public", "proxy-connection", "x"),
		"transfer-encoding":    head("/public", "transfer-encoding", "chunked"),
		"upgrade":              head("/public", "upgrade", "websocket"),
		"te":                   head("/public", "te", "gzip"),
		"te, more":             head("/public", "te", "trailers, gzip"),
		"CR in value":          head("/public", "x", "a\rb"),
		"LF in value":          head("/public", "x", "a\nb"),
		"CRLF in value":        head("/public", "x", "a\r\nl5d-client-id: "+adminID),
		"NUL in value":         head("/public", "x", "a\x00b"),
		"space in name":        head("/public", "x y", "a"),
		"colon in name":        head("/public", "x:y", "a"),
		"CRLF in name":         head("/public", "x\r\ny", "a"),
		"empty name":           head("/public", "", "a"),
		"leading space":        head("/public", "x", " a"),
		"two lengths":          head("/public", ":method", "POST", "content-length", "0", "content-length", "5"),
		"a length of letters":  head("/public", "content-length", "x"),
		"a signed length":      head("/public", "content-length", "+0"),
	} {
		h := w.h2()
		before := len(w.app.seen())
		id := h.open(fields, true)
		refused := h.refusedStream(id)
		s := h.streams[id]
		// White space around a value may be cut instead of refused.
		if what == "leading space" {
			continue
		}
		if !refused || s.status() == http.StatusForbidden {
			t.Errorf("%s: status %d", what, s.status())
		}
		if seen := w.app.seen(); len(seen) > before {
			t.Errorf("%s: the application saw %s %q %q %v", what, seen[before].method, seen[before].target, seen[before].host, seen[before].header)
		}
		h.Close()
	}
	// The same as HTTP/1 that HTTP/2 carries (H-01).
	for _, fields := range [][][2]string{
		head("/public?a b", "l5d-orig-proto", "HTTP/1.1"), head("/public?a HTTP/1.1", "l5d-orig-proto", "HTTP/1.1"), head("/public HTTP/1.1\r\nX: y", "l5d-orig-proto", "HTTP/1.1"), head("/public", "l5d-orig-proto", "HTTP/1.1", "transfer-encoding", "chunked"), head("/public", "l5d-orig-proto", "HTTP/1.1", "x", "a\r\nb: c"),
	} {
		h := w.h2()
		if !h.refusedStream(h.open(fields, true)) {
			t.Errorf("carried: %q was let through", fields)
		}
		h.Close()
	}
	w.unasked()
	w.alive()
}

// mixesOf is how many streams; together they are as many as the case asks for.
const mixesOf = 100_000

func mixes(t *T) {
	w := newWorld(t, guarded(detect))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := w.h2()
	h.patient(9 * soon)
	h.sync()
	var wanted []string
	type asked struct {
		id      uint32
		path    string
		allowed bool
	}
	const batch = 50
	for n := 0; n < mixesOf; n += batch {
		var streams []asked
		for i := range batch {
			one := asked{path: fmt.Sprintf("/public/%d", n+i), allowed: random.IntN(2) == 0}
			if !one.allowed {
				one.path = fmt.Sprintf("/admin/%d", n+i)
			}
			fields := head(one.path)
			for range random.IntN(4) { // fields that enter the table, and such that push others out
				fields = append(fields, [2]string{fmt.Sprintf("x-%d", random.IntN(30)), strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(300))})
			}
			if random.IntN(3) == 0 {
				fields = append(fields, [2]string{"content-type", "application/grpc"}, [2]string{"te", "trailers"})
			}
			body := random.IntN(4) == 0
			one.id = h.open(fields, !body)
			if body {
				h.framer.WriteData(one.id, true, []byte(strings.Repeat("b", random.IntN(2000))))
			}
			streams = append(streams, one)
			if one.allowed {
				wanted = append(wanted, one.path)
			}
		}
		for _, one := range streams {
			s := h.wait(one.id)
			denied := s.status() == http.StatusForbidden || s.fields["grpc-status"] == "7"
			if s.status() == 0 || denied == one.allowed || s.fields["content-type"] == "" && one.allowed && len(s.body) == 0 {
				t.Fatalf("stream %d, %s: status %d, %v, reset %v, connection %v %v", one.id, one.path, s.status(), s.fields, s.reset, h.goAway, h.ended)
			}
			delete(h.streams, one.id)
		}
	}
	var seen []string
	for _, r := range w.app.seen() {
		seen = append(seen, r.target)
	}
	slices.Sort(seen)
	slices.Sort(wanted)
	if !slices.Equal(seen, wanted) {
		t.Errorf("the application saw %d requests, %d were allowed", len(seen), len(wanted))
	}
}

func deniedStream(t *T) {
	w := newWorld(t, guarded(detect))
	const body, piece = 1 << 30, 16 << 10
	before, _ := w.memory()
	h := w.h2()
	h.patient(3 * soon)
	h.sync()
	id := h.open(head("/admin", ":method", "POST"), false)
	h.streamWindow = int64(h.initialWindow())
	data := make([]byte, piece)
	for sent := 0; sent < body; sent += piece {
		for (h.window < piece || h.streamWindow < piece) && h.streams[id].reset == nil {
			if !h.step() {
				t.Fatalf("the connection ended after %d bytes: %v %v", sent, h.goAway, h.ended)
			}
			if h.credited.stream == id {
				h.streamWindow += int64(h.credited.by)
				h.credited.stream = 0
			}
		}
		if h.streams[id].reset != nil {
			break // it has said that it reads no more
		}
		h.window -= piece
		h.streamWindow -= piece
		h.framer.WriteData(id, sent+piece >= body, data)
	}
	if s := h.streams[id]; s.status() != http.StatusForbidden {
		for s.status() == 0 && h.step() {
		}
		if s.status() != http.StatusForbidden {
			t.Errorf("status %d, reset %v", s.status(), s.reset)
		}
	}
	// What was sent to denied streams must not be missing from the connection's
	// window: many more of them, then one that is allowed.
	for range 200 {
		id := h.open(head("/admin", ":method", "POST"), false)
		for h.window < piece && h.step() {
		}
		h.window -= piece
		h.framer.WriteData(id, true, data)
		if s := h.wait(id); s.status() != http.StatusForbidden {
			t.Fatalf("status %d after more bodies; reset %v, connection %v %v", s.status(), s.reset, h.goAway, h.ended)
		}
	}
	id = h.open(head("/public", ":method", "POST"), false)
	h.framer.WriteData(id, true, []byte("hello"))
	if s := h.wait(id); s.status() != http.StatusOK {
		t.Errorf("an allowed stream after it: status %d, reset %v, connection %v", s.status(), s.reset, h.ended)
	}
	const grown = 24 << 20
	if _, peak := w.memory(); peak-before > grown {
		t.Errorf("the proxy grew by %d bytes", peak-before)
	}
	if n := len(w.app.bytes()); n > 4<<10 {
		t.Errorf("%d bytes reached the application", n)
	}
}

func outOfPlace(t *T) {
	w := newWorld(t, guarded(detect))
	block := func(h *h2) []byte { return h.fresh(head("/public")) }
	for what, write := range map[string]func(*h2){
		"HEADERS on stream 0":      func(h *h2) { h.framer.WriteRawFrame(1, 5, 0, block(h)) },
		"DATA on stream 0":         func(h *h2) { h.framer.WriteRawFrame(0, 1, 0, []byte("x")) },
		"RST_STREAM on stream 0":   func(h *h2) { h.framer.WriteRawFrame(3, 0, 0, make([]byte, 4)) },
		"an even stream":           func(h *h2) { h.framer.WriteRawFrame(1, 5, 2, block(h)) },
		"a smaller stream":         func(h *h2) { h.framer.WriteRawFrame(1, 5, 9, block(h)); h.framer.WriteRawFrame(1, 5, 7, block(h)) },
		"DATA on an idle stream":   func(h *h2) { h.framer.WriteRawFrame(0, 1, 5, []byte("x")) },
		"RST of an idle stream":    func(h *h2) { h.framer.WriteRawFrame(3, 0, 5, make([]byte, 4)) },
		"window of an idle stream": func(h *h2) { h.framer.WriteRawFrame(8, 0, 5, []byte{0, 0, 0, 1}) },
		"padding over the frame":   func(h *h2) { h.framer.WriteRawFrame(1, 5|8, 1, []byte{200, 0x82}) },
		"padded DATA over it":      func(h *h2) { h.open(head("/public"), false); h.framer.WriteRawFrame(0, 8, 1, []byte{9, 1}) },
		"PRIORITY too short":       func(h *h2) { h.framer.WriteRawFrame(2, 0, 1, []byte{1}) },
		"SETTINGS of 5 bytes":      func(h *h2) { h.framer.WriteRawFrame(4, 0, 0, make([]byte, 5)) },
		"SETTINGS on a stream":     func(h *h2) { h.framer.WriteRawFrame(4, 0, 1, make([]byte, 6)) },
		"an ACK with settings":     func(h *h2) { h.framer.WriteRawFrame(4, 1, 0, make([]byte, 6)) },
		"PING of 7 bytes":          func(h *h2) { h.framer.WriteRawFrame(6, 0, 0, make([]byte, 7)) },
		"PING on a stream":         func(h *h2) { h.framer.WriteRawFrame(6, 0, 1, make([]byte, 8)) },
		"GOAWAY on a stream":       func(h *h2) { h.framer.WriteRawFrame(7, 0, 1, make([]byte, 8)) },
		"PUSH_PROMISE":             func(h *h2) { h.framer.WriteRawFrame(5, 4, 1, []byte{0, 0, 0, 2, 0x82}) },
		"CONTINUATION alone":       func(h *h2) { h.framer.WriteRawFrame(9, 4, 1, block(h)) },
		"CONTINUATION of another":  func(h *h2) { h.framer.WriteRawFrame(1, 1, 1, block(h)); h.framer.WriteRawFrame(9, 4, 3, nil) },
		"DATA between":             func(h *h2) { h.framer.WriteRawFrame(1, 1, 1, block(h)); h.framer.WriteRawFrame(0, 0, 1, nil) },
		"a frame too large":        func(h *h2) { h.framer.WriteRawFrame(0, 0, 1, make([]byte, 1<<20)) },
		"HEADERS upon itself":      func(h *h2) { h.framer.WriteRawFrame(1, 5|32, 1, append([]byte{0, 0, 0, 1, 3}, block(h)...)) },
	} {
		h := w.h2()
		h.sync()
		h.streams[1] = &stream{fields: map[string]string{}}
		write(h)
		h.framer.WritePing(false, [8]byte{7})
		for h.last != [8]byte{7} && h.step() && h.streams[1].reset == nil && h.goAway == nil {
		}
		if h.goAway == nil && h.streams[1].reset == nil && !h.broke() {
			t.Errorf("%s: the connection goes on", what)
		}
		h.Close()
	}
	// A stream that has ended takes no other request.
	h := w.h2()
	h.get("/public")
	n := len(w.app.seen())
	h.framer.WriteRawFrame(1, 5, 1, h.fresh(head("/public/again")))
	if code, told := h.drain(); !told || code == http2.ErrCodeNo {
		t.Errorf("a stream used again: GOAWAY %v %v", told, code)
	}
	if len(w.app.seen()) != n {
		t.Errorf("a stream used again: the application saw it")
	}
	w.alive()
}

func grpcForms(t *T) {
	w := newWorld(t, guarded(detect))
	for contentType, grpc := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc+json": true, "application/grpc;charset=utf-8": true,
		"application/json": false, "text/application/grpc": false,
	} {
		h := w.h2()
		s := h.get("/admin/m", ":method", "POST", "content-type", contentType, "te", "trailers")
		if grpc != (s.status() == http.StatusOK && s.fields["grpc-status"] == "7") || !grpc && s.status() != http.StatusForbidden || len(s.body) > 0 {
			t.Errorf("%s: %v, body %q", contentType, s.fields, s.body)
		}
		h.Close()
	}
	for _, contentType := range []string{"application/grpc-web", "application/grpc-web+proto", "APPLICATION/GRPC", "Application/gRPC+Proto"} {
		h := w.h2()
		// Either form, but whole.
		if s := h.get("/admin/m", ":method", "POST", "content-type", contentType, "te", "trailers"); s.status() != http.StatusForbidden && s.fields["grpc-status"] != "7" {
			t.Errorf("%s: %v", contentType, s.fields)
		}
		h.Close()
	}
	w.unasked()
	route := &pb.GrpcRoute{Authorizations: []*pb.Authz{proxytest.Anyone("everybody")}, Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{Rpc: &grpc_route.GrpcRpcMatch{Service: "pkg.Service"}}}}}}
	w.apply(proxytest.Server(proxytest.GRPC(route)))
	ask := func(path, method string) *stream {
		h := w.h2()
		defer h.Close()
		return h.get(path, ":method", method, "content-type", "application/grpc", "te", "trailers")
	}
	for _, path := range []string{"/pkg.Service", "/pkg.Service/", "//m", "/pkg.Service/a/b", "/", "/pkg.service/m", "/Pkg.Service/m", "/other.Service/m", "/pkg.Service%2fm", "*"} {
		if s := ask(path, "POST"); s.fields["grpc-status"] == "0" || s.fields["grpc-status"] == "" && s.reset == nil && s.status() == http.StatusOK {
			t.Errorf("%s: %v", path, s.fields)
		}
	}
	if s := ask("/pkg.Service/m", "GET"); s.fields["grpc-status"] == "0" {
		t.Errorf("GET: %v", s.fields)
	}
	w.unasked()
	if s := ask("/pkg.Service/m", "POST"); s.fields["grpc-status"] != "0" {
		t.Errorf("a call: %v %v", s.fields, s.reset)
	}
}

func revoked(t *T) {
	w := newWorld(t, guarded(detect))
	w.app.handle = func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusOK)
		rw.(http.Flusher).Flush()
		b := make([]byte, 64)
		for {
			n, err := r.Body.Read(b)
			rw.Write(b[:n])
			rw.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}
	h := w.h2()
	id := h.open(head("/public/stream", ":method", "POST"), false)
	s := h.streams[id]
	for s.status() == 0 && h.step() {
	}
	w.apply(proxytest.Server(detect(), proxytest.Identities("web", webID)))
	if after := h.get("/public"); after.status() != http.StatusForbidden {
		t.Errorf("a new stream after the revocation: status %d", after.status())
	}
	h.framer.WriteData(id, false, []byte("still"))
	for !bytes.Contains(s.body, []byte("still")) && !s.ended && h.step() {
	}
	h.framer.WriteData(id, true, []byte(" here"))
	if h.wait(id); string(s.body) != "still here" || s.reset != nil {
		t.Errorf("the open stream gave %q, reset %v", s.body, s.reset)
	}
	// The bound: a port that becomes opaque ends it with the policy (L-09).
	w.apply(guarded(detect))
	id = h.open(head("/public/stream", ":method", "POST"), false)
	for h.streams[id].status() == 0 && h.step() {
	}
	w.apply(proxytest.Server(proxytest.Opaque(), proxytest.Identities("web", webID)))
	for h.step() {
	}
	if !h.broke() {
		t.Errorf("the open stream outlived a port that became opaque: %v", h.ended)
	}
	if n := len(w.app.seen()); n != 2 {
		t.Errorf("the application saw %d requests, want 2", n)
	}
}

func streamLimit(t *T) {
	w := newWorld(t, guarded(detect))
	var active, peak atomic.Int64
	release := make(chan struct{})
	w.app.handle = func(rw http.ResponseWriter, r *http.Request) {
		n := active.Add(1)
		defer active.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	h := w.h2()
	h.sync()
	most := int(h.settings[http2.SettingMaxConcurrentStreams])
	if most == 0 || most > 1000 {
		t.Fatalf("the proxy allows %d streams at once", most)
	}
	refused := 0
	var ids []uint32
	for range 2 * most {
		ids = append(ids, h.open(head("/public"), true))
	}
	h.sync()
	for _, id := range ids {
		if r := h.streams[id].reset; r != nil {
			if *r != http2.ErrCodeRefusedStream && *r != http2.ErrCodeProtocol {
				t.Errorf("a stream too many: %v", *r)
			}
			refused++
		}
	}
	if refused < most && h.goAway == nil && !h.broke() {
		t.Errorf("of %d streams beyond the limit %d were refused", most, refused)
	}
	if n := peak.Load(); n > int64(most) {
		t.Errorf("the application had %d at once, want at most %d", n, most)
	}
	close(release)
	h.Close()
	w.app.handle = nil
	w.alive()
}
