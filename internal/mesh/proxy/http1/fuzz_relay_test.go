package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// FuzzRelay: whatever a client sends in whatever pieces, an application that
// reads as net/http does and one that takes almost anything see only requests
// that were judged and allowed, in that order, and never an identity.
func FuzzRelay(f *testing.F) {
	// patience ends what waits for more. Should it end something early, that much
	// less is seen.
	const patience = 5 * time.Millisecond
	const next = "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, row := range abusedHeads() {
		if len(row.request) < 1<<10 {
			f.Add([]byte(row.request+next), uint8(5), false)
			f.Add([]byte(strings.Replace(row.request, " /", " /open", 1)+next), uint8(0), true)
		}
	}
	for _, row := range letThrough() {
		f.Add([]byte(strings.Replace(row.request, " /", " /open/", 1)+next), uint8(11), true)
	}
	for _, body := range abusedChunks {
		if len(body) < 1<<10 {
			f.Add([]byte("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body+next), uint8(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte, step uint8, lenient bool) {
		if len(sent) > 8<<10 {
			return
		}
		gate := &gate{}
		read := readStrictly
		if lenient {
			read = readLeniently
		}
		var (
			mu   sync.Mutex
			seen []string
		)
		var apps sync.WaitGroup
		relay := &Relay{Limits: Limits{Linger: patience, HeadTime: patience, Idle: patience, Stall: patience}}
		client, ours := net.Pipe()
		conn := relay.Conn(Config{Client: ours, Handler: gate, Dial: func() (net.Conn, error) {
			near, far := net.Pipe()
			apps.Go(func() {
				defer near.Close()
				// It reads on while it answers, as a kernel's buffer would.
				answers := make(chan struct{}, 64)
				apps.Go(func() {
					for range answers {
						io.WriteString(near, ok)
					}
				})
				defer close(answers)
				in := bufio.NewReader(near)
				for {
					target, bad := read(in)
					if bad {
						io.Copy(io.Discard, near)
						return
					}
					mu.Lock()
					seen = append(seen, target)
					mu.Unlock()
					select {
					case answers <- struct{}{}:
					default:
						return
					}
				}
			})
			return far, nil
		}})
		var ends sync.WaitGroup
		ends.Go(func() {
			for rest := sent; len(rest) > 0; {
				n := len(rest)
				if step > 0 {
					n = min(n, int(step))
				}
				if _, err := client.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		})
		ends.Go(func() { io.Copy(io.Discard, client) })
		conn.Serve()
		client.Close()
		ends.Wait()
		apps.Wait()
		if gate.asked != gate.told {
			t.Fatalf("asked %d times, told %d", gate.asked, gate.told)
		}
		allowed := gate.allowed
		for _, target := range seen {
			for len(allowed) > 0 && allowed[0] != target {
				allowed = allowed[1:]
			}
			if len(allowed) == 0 {
				t.Fatalf("the application saw %q; allowed were %q; sent was %q", seen, gate.allowed, sent)
			}
			allowed = allowed[1:]
		}
	})
}

// gate allows what is below /open.
type gate struct {
	asked, told int
	allowed     []string
}

func (g *gate) Decide(h *Head, a *Action) {
	g.asked++
	a.Verdict, a.Status = Answer, 403
	if string(h.Path) == "/open" || strings.HasPrefix(string(h.Path), "/open/") {
		a.Verdict = Forward
		g.allowed = append(g.allowed, string(h.Method)+" "+string(h.Path))
	}
}

func (g *gate) Failed(any, error, *Action)     {}
func (g *gate) Responded(any, int, int, error) { g.told++ }

// readStrictly reads a request as net/http does.
func readStrictly(in *bufio.Reader) (target string, bad bool) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return "", true
	}
	target, _, _ = strings.Cut(r.RequestURI, "?")
	if _, after, found := strings.Cut(target, "://"); found {
		target = strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:[]%")
	}
	target = r.Method + " " + target
	if r.Header.Get("L5d-Client-Id") != "" {
		target += " with an identity"
	}
	io.Copy(io.Discard, r.Body)
	if r.Trailer.Get("L5d-Client-Id") != "" {
		target += " with an identity"
	}
	return target, false
}

// readLeniently reads a request as a careless server might: lines may end in LF,
// names may have space around them or underscores in them, the last length
// counts, any coding with "chunked" in it is that, sizes end where digits do.
func readLeniently(in *bufio.Reader) (target string, bad bool) {
	line, err := in.ReadString('\n')
	for err == nil && strings.TrimSpace(line) == "" {
		line, err = in.ReadString('\n')
	}
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		return "", true
	}
	path := words[1]
	if _, after, found := strings.Cut(path, "://"); found {
		if i := strings.IndexAny(after, "/?"); i >= 0 {
			path = after[i:]
		} else {
			path = "/"
		}
	}
	path, _, _ = strings.Cut(path, "?")
	target = strings.ToUpper(words[0]) + " " + path
	length, chunked := 0, false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", true
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "_", "-") {
		case "l5d-client-id":
			target += " with an identity"
		case "content-length":
			length, _ = strconv.Atoi(value)
		case "transfer-encoding":
			chunked = chunked || strings.Contains(strings.ToLower(value), "chunked")
		}
	}
	if !chunked {
		_, err := io.CopyN(io.Discard, in, int64(length))
		return target, err != nil
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return target, true
		}
		digits := strings.TrimLeft(line, " \t")
		if i := strings.IndexFunc(digits, func(r rune) bool { _, hex := hexDigit(byte(r)); return r > 0x7f || !hex }); i >= 0 {
			digits = digits[:i]
		}
		size, _ := strconv.ParseInt(digits, 16, 32)
		if size == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, in, size); err != nil {
			return target, true
		}
		in.ReadString('\n')
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return target, true
		}
		if len(bytes.TrimSpace([]byte(line))) == 0 {
			return target, false
		}
		name, _, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(name), "l5d-client-id") {
			target += " with an identity"
		}
	}
}
