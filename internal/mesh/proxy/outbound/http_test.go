package outbound

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func init() {
	// deny answers as a proxy does that refuses (N-01, N-06).
	handlers["deny"] = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("L5d-Proxy-Error", "client 10.1.2.3:4: server: 10.1.2.4:80: unauthorized request on route")
		w.Header().Set("L5d-Proxy-Connection", "close")
		w.WriteHeader(http.StatusForbidden)
	}
	// trailers answers with trailers announced and not.
	handlers["trailers"] = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Announced")
		w.Header().Set("Content-Type", "text/plain")
		w.Write(body)
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"X-Sudden", strings.Join(r.Trailer["X-Sent"], ",")+fmt.Sprint(r.Trailer["L5d-Client-Id"]))
		w.Header().Set(http.TrailerPrefix+"L5d-Proxy-Error", "told")
	}
	// talk answers each line with a line before the request has ended.
	handlers["talk"] = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
	}
	// broken ends in the middle of its answer.
	handlers["broken"] = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	handlers["bare"] = func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusNotModified)
	}
	handlers["upgrade"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Refuse") != "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nwelcome\n")
		io.Copy(conn, buffered)
	}
}

func custom(w *world, handler, method, url string, body io.Reader) *http.Request {
	r := w.request(method, url, body)
	r.Header.Set("X-Handler", handler)
	return r
}

// eachWay runs f with HTTP/1 and HTTP/2 clients, to a meshed endpoint and one
// that is not.
func eachWay(t *testing.T, f func(t *testing.T, w *world, client *http.Client, version int, meshed bool)) {
	for _, version := range []int{1, 2} {
		for _, h := range []hint{meshedHTTP2, meshedPlain, unmeshed} {
			t.Run(fmt.Sprintf("HTTP/%d to %v", version, [...]string{"unmeshed", "meshed", "opaque", "meshed without hint"}[h]), func(t *testing.T) {
				w := newWorld(t, nil)
				w.destinations.service(w.newPod(2, votingID, nil).describe(h))
				f(t, w, w.http(serviceAddr, version), version, h != unmeshed)
			})
		}
	}
}

func TestAnApplicationSeesADenialWithoutWhatProxiesTellEachOther(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, version int, _ bool) {
		_, answer := w.get(client, custom(w, "deny", "GET", "http://voting-svc/", nil))
		if answer.StatusCode != http.StatusForbidden {
			t.Errorf("status %d", answer.StatusCode)
		}
		for name := range answer.Header {
			if strings.HasPrefix(name, "L5d-") {
				t.Errorf("the application sees %s", name)
			}
		}
		if version == 1 && !answer.Close {
			t.Error("the connection is not said to end")
		}
		if !strings.Contains(w.logs.String(), "unauthorized request on route") {
			t.Error("what the proxy said is not logged")
		}
	})
}

func TestAnApplicationCannotPoseAsAProxy(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, version int, meshed bool) {
		r := w.request("GET", "http://voting-svc/", nil)
		for _, name := range []string{"l5d-client-id", "L5D-CLIENT-ID", "L5d-Orig-Proto", "l5d-remote-ip", "l5d-proxy-error", "l5d-dst-override"} {
			r.Header.Set(name, "forged")
		}
		r.Header.Set("L5d-Ctx-Trace", "kept")
		r.Header.Add("Connection", "x-hop")
		r.Header.Set("X-Hop", "dropped")
		if version == 2 {
			r.Header.Del("Connection") // forbidden there
			r.Header.Del("X-Hop")
		}
		seen, _ := w.get(client, r)
		for name, values := range seen.Header {
			if slices.Contains(values, "forged") || name == "X-Hop" || name == "Connection" {
				t.Errorf("the endpoint sees %s: %v", name, values)
			}
		}
		if seen.Header.Get("L5d-Ctx-Trace") != "kept" {
			t.Error("a header that is the application's own was dropped")
		}
	})
}

func TestTrailersGoBothWays(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, version int, _ bool) {
		r := custom(w, "trailers", "POST", "http://voting-svc/", io.MultiReader(strings.NewReader("some "), strings.NewReader("body")))
		r.Trailer = http.Header{"X-Sent": {"yes"}, "L5d-Client-Id": {"forged"}}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "some body" {
			t.Errorf("body %q, %v", body, err)
		}
		if answer.Trailer.Get("X-Announced") != "1" || answer.Trailer.Get("X-Sudden") != "yes[]" || answer.Trailer.Get("L5d-Proxy-Error") != "" {
			t.Errorf("trailers %v", answer.Trailer)
		}
	})
}

func TestRequestAndAnswerStreamAtTheSameTime(t *testing.T) {
	for _, h := range []hint{meshedHTTP2, unmeshed} {
		w := newWorld(t, nil)
		w.destinations.service(w.newPod(2, votingID, nil).describe(h))
		body, feed := io.Pipe()
		answer, err := w.http(serviceAddr, 2).Do(custom(w, "talk", "POST", "http://voting-svc/", body))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(answer.Body)
		for _, word := range []string{"one", "two", "three"} {
			fmt.Fprintln(feed, word)
			if line, err := lines.ReadString('\n'); err != nil || line != "heard "+word+"\n" {
				t.Fatalf("after %q: %q, %v", word, line, err)
			}
		}
		feed.Close()
		if _, err := lines.ReadString('\n'); err != io.EOF {
			t.Errorf("the answer does not end with the request: %v", err)
		}
		answer.Body.Close()
	}
}

func TestAnAnswerThatBreaksOffIsNotMadeWhole(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, _ int, _ bool) {
		for _, path := range []string{"/length", "/chunks"} {
			answer, err := client.Do(custom(w, "broken", "GET", "http://voting-svc"+path, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if body, err := io.ReadAll(answer.Body); err == nil || string(body) != "half" {
				t.Errorf("%s: read %q, %v", path, body, err)
			}
		}
	})
}

func TestNothingIsAddedToAnAnswer(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, _ int, _ bool) {
		_, answer := w.get(client, custom(w, "bare", "GET", "http://voting-svc/", nil))
		if answer.StatusCode != http.StatusNotModified || len(answer.Header) != 0 {
			t.Errorf("%d %v", answer.StatusCode, answer.Header)
		}
	})
}

func TestTargetsAreSentByteForByte(t *testing.T) {
	w := newWorld(t, nil)
	w.destinations.service(w.newPod(2, votingID, nil).describe(meshedHTTP2))
	for target, want := range map[string]string{
		"/":                           "/",
		"/a/./b/../c":                 "/a/./b/../c",
		"//admin//x":                  "//admin//x",
		"/%61dmin%2F%2e%2e?q=%zz":     "/%61dmin%2F%2e%2e?q=%zz",
		"/a|b{c}^":                    "/a|b{c}^",
		"/a?":                         "/a?",
		"*":                           "*",
		"http://other.example:81/p?q": "/p?q",
		"http://other.example?q":      "/?q",
	} {
		conn := w.dial(serviceAddr)
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: voting-svc\r\nConnection: close\r\n\r\n", method, target)
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(answer, []byte(`"URI":"`+want+`"`)) {
			t.Errorf("%s arrives otherwise: %s", target, answer)
		}
		if absolute := strings.HasPrefix(target, "http"); absolute && (!bytes.Contains(answer, []byte(`"OrigProto":"HTTP/1.1; absolute-form"`)) || !bytes.Contains(answer, []byte(`"Host":"other.example`))) {
			t.Errorf("%s: the absolute form is lost: %s", target, answer)
		}
	}
}

func TestHTTP10WithoutHostIsServed(t *testing.T) {
	w := newWorld(t, nil)
	w.destinations.service(w.newPod(2, votingID, nil).describe(meshedHTTP2))
	conn := w.dial(serviceAddr)
	io.WriteString(conn, "GET /old HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(answer, []byte(`"OrigProto":"HTTP/1.0"`)) || !bytes.Contains(answer, []byte(`"Host":"10.96.0.7:80"`)) {
		t.Errorf("%s %v", answer, err)
	}
}

func TestARequestIsGivenUpWithItsClient(t *testing.T) {
	gone := make(chan struct{}, 8)
	started := make(chan struct{}, 8)
	handlers["wait"] = func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}
	eachWay(t, func(t *testing.T, w *world, client *http.Client, _ int, _ bool) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-started; cancel() }()
		_, err := client.Do(custom(w, "wait", "GET", "http://voting-svc/", nil).WithContext(ctx))
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		select {
		case <-gone:
		case <-time.After(patience):
			t.Error("the endpoint still works on it")
		}
	})
}

func TestEndpointsThatCannotBeReachedArePassedOver(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, version int, _ bool) {
		up := w.newPod(3, votingID, nil)
		for n := byte(4); n < 6; n++ {
			dead := describe(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, n}), 9), meshedHTTP2, 9)
			w.destinations.update(add(dead))
		}
		w.destinations.update(add(up.describe(meshedHTTP2)))
		for range 20 {
			_, answer := w.get(client, w.request("POST", "http://voting-svc/", strings.NewReader("body")))
			if answer.StatusCode != 200 {
				t.Fatalf("status %d", answer.StatusCode)
			}
		}
	})
}

func TestRequestsSpreadOverEndpoints(t *testing.T) {
	for _, version := range []int{1, 2} {
		w := newWorld(t, nil)
		pods := []*pod{w.newPod(2, votingID, nil), w.newPod(3, votingID, nil), w.newPod(4, "", nil)}
		w.destinations.service(pods[0].describe(meshedHTTP2), pods[1].describe(meshedHTTP2), pods[2].describe(unmeshed))
		client := w.http(serviceAddr, version)
		served := map[string]int{}
		for range 60 {
			seen, _ := w.get(client, w.request("GET", "http://voting-svc/", nil))
			served[seen.Pod]++
		}
		if len(served) != 3 {
			t.Errorf("HTTP/%d on one connection: served by %v", version, served)
		}
	}
}

// refusing is an address where nobody listens.
func refusing() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.77:9") }

func TestFailuresAreAnsweredByTheirKind(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.78:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, row := range map[string]struct {
		set  func(w *world)
		want int
	}{
		"refused":              {func(w *world) { w.destinations.service(describe(refusing(), unmeshed, 0)) }, 502},
		"refused by the proxy": {func(w *world) { w.destinations.service(describe(refusing(), meshedHTTP2, refusing().Port())) }, 502},
		"handshake not answered": {func(w *world) {
			w.destinations.service(describe(refusing(), meshedHTTP2, 0), describe(addrPort(silent.Addr()), meshedHTTP2, 0))
			w.destinations.update(remove(describe(refusing(), meshedHTTP2, 0)))
		}, 504},
		"another identity": {func(w *world) { w.destinations.service(w.newPod(2, webID, nil).describe(meshedHTTP2)) }, 502},
		"no endpoint":      {func(w *world) { w.destinations.service(); w.destinations.update(noEndpoints(true)) }, 504},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.DiscoveryTimeout, c.ConnectTimeout = soon, soon })
			row.set(w)
			for _, version := range []int{1, 2} {
				_, answer := w.get(w.http(serviceAddr, version), w.request("POST", "http://voting-svc/", strings.NewReader("x")))
				if answer.StatusCode != row.want || answer.ContentLength != 0 || version == 1 && !answer.Close {
					t.Errorf("HTTP/%d: %d, length %d, close %v, want %d", version, answer.StatusCode, answer.ContentLength, answer.Close, row.want)
				}
			}
			r := w.request("POST", "http://voting-svc/p.S/M", strings.NewReader("\x00\x00\x00\x00\x00"))
			r.Header.Set("Content-Type", "application/grpc")
			_, answer := w.get(w.http(serviceAddr, 2), r)
			if answer.StatusCode != 200 || answer.Header.Get("Grpc-Status") != "14" || answer.Header.Get("Content-Type") != "application/grpc" {
				t.Errorf("gRPC: %d %v", answer.StatusCode, answer.Header)
			}
		})
	}
}

func TestAnUpgradeBecomesATunnel(t *testing.T) {
	for _, h := range []hint{meshedHTTP2, meshedPlain, unmeshed} {
		w := newWorld(t, nil)
		p := w.newPod(2, votingID, nil)
		w.destinations.service(p.describe(h))
		conn := w.dial(serviceAddr)
		io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: voting-svc\r\nX-Handler: upgrade\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead\n")
		reader := bufio.NewReader(conn)
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != 101 || answer.Header.Get("Upgrade") != "websocket" || answer.Header.Get("Content-Length") != "" {
			t.Errorf("%d %v", answer.StatusCode, answer.Header)
		}
		closeWrite(conn)
		if rest, err := io.ReadAll(reader); err != nil || string(rest) != "welcome\nahead\n" {
			t.Errorf("through the tunnel: %q, %v", rest, err)
		}

		r := custom(w, "upgrade", "GET", "http://voting-svc/", nil)
		r.Header.Set("X-Refuse", "yes")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		if _, answer := w.get(w.http(serviceAddr, 1), r); answer.StatusCode != http.StatusTeapot {
			t.Errorf("a refused upgrade: %d", answer.StatusCode)
		}
	}
}

func TestAnUpgradeToHTTP2IsNotPassedOn(t *testing.T) {
	w := newWorld(t, nil)
	w.destinations.service(w.newPod(2, votingID, nil).describe(meshedHTTP2))
	r := w.request("GET", "http://voting-svc/", nil)
	r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
	r.Header.Set("Upgrade", "h2c")
	r.Header.Set("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	seen, answer := w.get(w.http(serviceAddr, 1), r)
	if answer.StatusCode != 200 || seen.Header.Get("Upgrade") != "" || seen.Header.Get("Http2-Settings") != "" {
		t.Errorf("%d %v", answer.StatusCode, seen.Header)
	}
}

func TestALargeBodyPassesUnchanged(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, client *http.Client, _ int, _ bool) {
		body := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
		seen, _ := w.get(client, w.request("POST", "http://voting-svc/", strings.NewReader(body)))
		if seen.Body != body {
			t.Errorf("%d bytes arrived, want %d", len(seen.Body), len(body))
		}
	})
}

func TestManyRequestsAtOnceAreAllAnswered(t *testing.T) {
	w := newWorld(t, nil)
	w.destinations.service(w.newPod(2, votingID, nil).describe(meshedHTTP2))
	client := w.http(serviceAddr, 2)
	var failed atomic.Int32
	done := make(chan struct{})
	const many = 300
	for i := range many {
		go func() {
			defer func() { done <- struct{}{} }()
			want := fmt.Sprint(i)
			r, _ := http.NewRequest("POST", "http://voting-svc/", strings.NewReader(want))
			answer, err := client.Do(r)
			if err != nil {
				failed.Add(1)
				return
			}
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if !bytes.Contains(body, []byte(`"Body":"`+want+`"`)) {
				failed.Add(1)
			}
		}()
	}
	for range many {
		<-done
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d failed", n, many)
	}
}
