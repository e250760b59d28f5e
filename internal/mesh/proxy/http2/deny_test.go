package http2

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// denyPaths denies what begins with /deny.
func denyPaths(h *Head, a *Action) {
	if bytes.HasPrefix(h.Path, []byte("/deny")) {
		a.Verdict, a.Status = Answer, 403
		a.Fields = append(a.Fields, Header{"content-length", "0"})
	}
}

func TestMixedVerdictsKeepAllTablesInStepAndTheApplicationSeesThePermittedOnly(t *testing.T) { // invariants 1, 2, 3
	const workers, each = 40, 100
	var mu sync.Mutex
	seen := map[string]int{}
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		mu.Lock()
		seen[r.URL.Path]++
		mu.Unlock()
		w.Header().Set("X-Path", r.URL.Path)
		w.Header().Set("X-Same", "always this")
		fmt.Fprintf(w, "%s %d %s", r.URL.Path, n, r.Header.Get("X-Note"))
	})
	r := startRelay(t, app, &asked{decide: denyPaths}, Limits{Resets: 1 << 20}, nil)
	transport := &http2.Transport{AllowHTTP: true, DialTLSContext: dialPlain(r.addr)}
	defer transport.CloseIdleConnections()
	want := map[string]int{}
	var g errgroup.Group
	for worker := range workers {
		for i := range each {
			if path := fmt.Sprintf("/%d/%d", worker, i); (worker+i)%2 == 0 {
				want[path] = 1
			}
		}
		g.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(worker), 5))
			for i := range each {
				path, denied := fmt.Sprintf("/%d/%d", worker, i), (worker+i)%2 != 0
				if denied {
					path = "/deny" + path
				}
				size, note := random.IntN(40<<10), strings.Repeat("n", random.IntN(300))
				req, _ := http.NewRequest(http.MethodPost, "http://web"+path, bytes.NewReader(make([]byte, size)))
				req.Header.Set("X-Note", note)
				req.Header.Set("X-Worker", fmt.Sprint(worker))
				res, err := transport.RoundTrip(req)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case denied && (res.StatusCode != 403 || len(body) != 0):
					return fmt.Errorf("%s: %d %q", path, res.StatusCode, body)
				case denied:
				case err != nil || res.Header.Get("X-Path") != path || string(body) != fmt.Sprintf("%s %d %s", path, size, note):
					return fmt.Errorf("%s: %d %q: %w", path, res.StatusCode, body, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != len(want) {
		t.Errorf("the application saw %d paths, not %d", len(seen), len(want))
	}
	for path, n := range seen {
		if n != want[path] {
			t.Errorf("the application saw %s %d times", path, n)
		}
	}
}

func TestBodiesOfDeniedStreamsAreDroppedAndCredited(t *testing.T) { // invariant 4
	var dropped int
	h := &asked{decide: denyPaths}
	r := startRelay(t, "127.0.0.1:1", h, Limits{}, nil)
	c := dialRaw(t, r.addr)
	// A client that goes on sending what its windows allow, though each stream is reset.
	window := defaultWindow
	for id := uint32(1); dropped < 5*connWindow; id += 2 {
		c.open(id, false, request("/deny")...)
		for left := streamWindow; left > 0; {
			for window < maxFrame {
				f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameWindowUpdate })
				if f.Header().StreamID == 0 {
					window += int(f.(*http2.WindowUpdateFrame).Increment)
				}
			}
			c.must(0, c.WriteData(id, false, make([]byte, maxFrame)))
			left, window, dropped = left-maxFrame, window-maxFrame, dropped+maxFrame
		}
	}
}

func TestADeniedClientThatIsStillSendingIsToldToStop(t *testing.T) {
	r := startRelay(t, "127.0.0.1:1", &asked{decide: denyPaths}, Limits{}, nil)
	c := dialRaw(t, r.addr)
	c.open(1, false, request("/deny")...)
	if got := c.answer(1)[":status"]; got != "403" {
		t.Fatalf("status %s", got)
	}
	c.wantReset(1, http2.ErrCodeNo)
	// Whatever is on its way is no error; trailers are decoded.
	c.must(0, c.WriteData(1, false, []byte("late")))
	c.open(1, true, "x-checksum", "1")
	c.open(3, true, request("/deny", "x-checksum", "1")...)
	if got := c.answer(3)[":status"]; got != "403" {
		t.Fatalf("status %s", got)
	}
}

func TestADeniedClientThatHasSentAllIsNotReset(t *testing.T) {
	r := startRelay(t, "127.0.0.1:1", &asked{decide: denyPaths}, Limits{}, nil)
	c := dialRaw(t, r.addr)
	var both bytes.Buffer
	f := http2.NewFramer(&both, nil)
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("/deny")...), EndHeaders: true})
	f.WriteData(1, true, []byte("all of it"))
	c.must(c.Write(both.Bytes()))
	c.want(1, "403")
	c.must(0, c.WritePing(false, [8]byte{}))
	for {
		switch f := c.next().(type) {
		case *http2.RSTStreamFrame:
			t.Fatalf("reset with %v", f.ErrCode)
		case *http2.PingFrame:
			return
		}
	}
}

func TestDeniedAnswersUseNoTable(t *testing.T) { // invariant 1, and the design's own words
	r := startRelay(t, "127.0.0.1:1", &asked{decide: denyPaths}, Limits{}, nil)
	c := dialRaw(t, r.addr)
	for id := uint32(1); id < 9; id += 2 {
		c.open(id, true, request("/deny")...)
		f := c.until(func(f http2.Frame) bool { return f.Header().StreamID == id })
		// Without a table of its own nothing but literals and static entries decode.
		block := f.(*http2.HeadersFrame).HeaderBlockFragment()
		d := hpack.NewDecoder(0, nil)
		if fields, err := d.DecodeFull(block); err != nil || fields[0].Value != "403" {
			t.Errorf("stream %d: %v, %v", id, fields, err)
		}
		if block[0]&0x40 != 0 {
			t.Errorf("stream %d: the status is put into the table: %x", id, block)
		}
	}
}
