package inbound

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
)

// ways are the ways that a request may come by: by its version, and HTTP/1 that
// HTTP/2 carries.
var ways = []struct {
	name    string
	version int
	carried string
}{{"HTTP/1", 1, ""}, {"HTTP/2", 2, ""}, {"carried", 2, "HTTP/1.1"}}

// transports makes a client of the standard library's that speaks one version.
func (w *world) transport(tb testing.TB, address string, c client, version int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	t := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dialTo(address, c) }}
	tb.Cleanup(t.CloseIdleConnections)
	return t
}

// show answers with the application's view of a request: its line, the fields that a
// test is about and the trailers.
func show(names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		fmt.Fprintf(w, "%s %s %s %q %v", r.Method, r.RequestURI, r.Proto, body, err)
		for _, name := range names {
			fmt.Fprintf(w, " %s=%q", name, r.Header.Values(name))
		}
		for _, name := range slices.Sorted(maps.Keys(r.Trailer)) {
			fmt.Fprintf(w, " trailer %s=%q", name, r.Trailer[name])
		}
		w.Header().Set("Sum", "42")
	})
}

// H-01, I-07: whatever way a request comes by, the application gets its body and
// trailers in the version that the client's application spoke, and no identity but the
// verified one.
func TestARequestIsTheSameByEveryWay(t *testing.T) {
	w := newWorld(t, application(t, show("L5d-Client-Id", "L5d-Orig-Proto", "X-Own")), nil)
	w.apply(server(detect(), anyone(t, "all")))
	for _, way := range ways {
		for _, c := range []client{{from: neighbourIP}, {from: neighbourIP, tls: true, identity: webName}} {
			r, _ := http.NewRequestWithContext(within(t), http.MethodPost, "http://app/a?b", struct{ io.Reader }{strings.NewReader("hello")})
			r.Header = http.Header{"L5d-Client-Id": {"evil"}, "X-Own": {"1", "2"}}
			if way.carried != "" {
				r.Header.Set("L5d-Orig-Proto", way.carried)
			}
			r.Trailer = http.Header{"Asker": {"me"}, "L5d-Client-Id": {"evil"}}
			res, err := w.transport(t, w.inbound, c, way.version).RoundTrip(r)
			if err != nil {
				t.Errorf("%s, %s: %v", way.name, c, err)
				continue
			}
			body, err := io.ReadAll(res.Body)
			proto, id := "HTTP/1.1", "[]"
			if way.version == 2 && way.carried == "" {
				proto = "HTTP/2.0"
			}
			if c.identity != "" {
				id = fmt.Sprintf("[%q]", c.identity)
			}
			want := fmt.Sprintf(`POST /a?b %s "hello" <nil> L5d-Client-Id=%s L5d-Orig-Proto=[] X-Own=["1" "2"] trailer Asker=["me"]`, proto, id)
			// What the client announced the application may see announced, without a value.
			got := strings.TrimSuffix(string(body), ` trailer L5d-Client-Id=[]`)
			if err != nil || got != want || res.Trailer.Get("Sum") != "42" || res.ProtoMajor != way.version {
				t.Errorf("%s, %s: %q, trailers %v, %v\nwant %q", way.name, c, body, res.Trailer, err, want)
			}
		}
	}
}

func TestACarriedTargetKeepsItsForm(t *testing.T) {
	w := newWorld(t, application(t, show()), nil)
	w.apply(server(detect(httpRoute("a", []string{"/a"})), anyone(t, "all")))
	for proto, want := range map[string]string{"HTTP/1.1": "GET /a?b HTTP/1.1", "HTTP/1.1; absolute-form": "GET http://app/a?b HTTP/1.1"} {
		r, _ := http.NewRequestWithContext(within(t), http.MethodGet, "http://app/x/../%61?b", nil)
		r.Header.Set("L5d-Orig-Proto", proto)
		res, err := w.transport(t, w.inbound, client{from: neighbourIP}, 2).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(body), want+" ") {
			t.Errorf("%s: the application saw %q, want %q", proto, body, want)
		}
	}
}

// What cannot be said in HTTP/1 is refused, and what has no tunnel gets none.
func TestWhatHTTP2CannotCarryIsRefused(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the application saw %s %s", r.Method, r.RequestURI)
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	for name, row := range map[string]struct {
		fields []string
		want   string
	}{
		"CONNECT":             {[]string{":method", "CONNECT", ":authority", "app:80"}, "405"},
		"a method's case":     {[]string{":method", "get", ":scheme", "http", ":authority", "app", ":path", "/", "l5d-orig-proto", "HTTP/1.1"}, "400"},
		"a path's fragment":   {[]string{":method", "GET", ":scheme", "http", ":authority", "app", ":path", "/a#b", "l5d-orig-proto", "HTTP/1.1"}, "400"},
		"another length":      {[]string{":method", "GET", ":scheme", "http", ":authority", "app", ":path", "/", "content_length", "5", "l5d-orig-proto", "HTTP/1.1"}, "400"},
		"an authority's user": {[]string{":method", "GET", ":scheme", "http", ":authority", "me@app", ":path", "/"}, "400"},
	} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newFrameClient(t, conn)
		if got := c.refused(c.head(row.fields)); got != ":status: "+row.want {
			t.Errorf("%s: %q, want %s", name, got, row.want)
		}
	}
	if got := w.counter("response_total", nil); got != 0 {
		t.Errorf("%v answers of the application are counted", got)
	}
}

// H-09's filters by every way.
func TestHeaderFiltersAreCarriedOutByEveryWay(t *testing.T) {
	w := newWorld(t, application(t, show("X-Add", "X-Set", "X-Remove", "L5d-Client-Id")), nil)
	r := httpRoute("r", []string{"/"}, anyone(t, "all"))
	header := func(name, value string) *http_types.Headers {
		return &http_types.Headers{Headers: []*http_types.Headers_Header{{Name: name, Value: []byte(value)}}}
	}
	r.Rules[0].Filters = []*pb.HttpRoute_Filter{
		{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &http_route.RequestHeaderModifier{Add: header("X-Add", "new"), Set: header("X-Set", "new"), Remove: []string{"X-Remove"}}}},
		{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &http_route.RequestHeaderModifier{Set: header("l5d-client-id", "evil")}}},
	}
	w.apply(server(detect(r)))
	for _, way := range ways {
		r, _ := http.NewRequestWithContext(within(t), http.MethodGet, "http://app/", nil)
		r.Header = http.Header{"X-Add": {"old"}, "X-Set": {"old", "older"}, "X-Remove": {"old"}}
		if way.carried != "" {
			r.Header.Set("L5d-Orig-Proto", way.carried)
		}
		res, err := w.transport(t, w.inbound, client{from: neighbourIP, tls: true, identity: webName}, way.version).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`X-Add=["old" "new"] X-Set=["new"] X-Remove=[] L5d-Client-Id=[%q]`, webName)
		if body, _ := io.ReadAll(res.Body); !strings.HasSuffix(string(body), want) {
			t.Errorf("%s: the application saw %q, want %q", way.name, body, want)
		}
	}
}

// B-04, B-06: the admin port by every way, told the client's own address.
func TestTheAdminPortIsServedByEveryWay(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) {
		c.Admin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s of %s: %s", r.Method, r.URL.Path, host, body)
		})
	})
	w.applyTo(w.server.cfg.AdminPort, server(detect(httpRoute("open", []string{"/open"}, anyone(t, "all")), httpRoute("closed", []string{"/closed"}))))
	for _, way := range ways {
		transport := w.transport(t, w.admin, client{from: neighbourIP}, way.version)
		for path, want := range map[string]string{"/open": "200 PUT /open of " + neighbourIP + ": level", "/closed": "403 "} {
			for range 2 { // over one connection
				r, _ := http.NewRequestWithContext(within(t), http.MethodPut, "http://proxy"+path, strings.NewReader("level"))
				if way.carried != "" {
					r.Header.Set("L5d-Orig-Proto", way.carried)
				}
				res, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s: %v", way.name, err)
				}
				body, _ := io.ReadAll(res.Body)
				if got := fmt.Sprint(res.StatusCode, " ", string(body)); got != want {
					t.Errorf("%s: %q, want %q", way.name, got, want)
				}
			}
		}
	}
	eventually(t, "all answers are counted, each after it was sent", func() bool {
		return w.counter("response_total", map[string]string{"status_code": "200"}) == float64(2*len(ways))
	})
}

// At the end idle connections are closed, and what is in progress gets its answer and
// is told that no other will follow.
func TestTheEndTellsHTTPClients(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, application(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	dial := func() net.Conn {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(soon))
		return conn
	}
	ask := func(conn net.Conn, path string) *bufio.Reader {
		io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: app\r\n\r\n")
		return bufio.NewReader(conn)
	}
	idle := dial()
	idleRead := ask(idle, "/")
	if res, err := http.ReadResponse(idleRead, nil); err != nil || res.Close {
		t.Fatalf("before the end: %v, %v", res, err)
	}
	idle2 := newFrameClient(t, dial())
	idle2.answer(idle2.request("GET", "/"))
	busy := dial()
	busyRead := ask(busy, "/slow")
	<-arrived
	busy2 := newFrameClient(t, dial())
	stream := busy2.request("GET", "/slow")
	<-arrived
	w.stop()
	if b, err := io.ReadAll(idleRead); len(b) > 0 || err != nil {
		t.Errorf("an idle connection of HTTP/1: %q, %v", b, err)
	}
	if !idle2.ends() || !busy2.ends() {
		t.Error("connections of HTTP/2 are not told")
	}
	close(release)
	if res, err := http.ReadResponse(busyRead, nil); err != nil || !res.Close || res.StatusCode != 200 {
		t.Errorf("in progress over HTTP/1: %v, %v", res, err)
	}
	if got, _ := busy2.answer(stream); !slices.Contains(got, ":status: 200") {
		t.Errorf("in progress over HTTP/2: %q", got)
	}
	busy2.conn.Close()
	idle2.conn.Close()
	select {
	case <-w.served:
	case <-time.After(soon):
		t.Error("it does not end")
	}
}

// What a relay refuses before any policy is asked is counted by its kind.
func TestWhatRelaysRefuseIsCounted(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(http1Protocol(), anyone(t, "all")))
	for kind, request := range map[string]string{
		errMalformed:        "GET / HTTP/1.1\r\nHost: app\r\nHost: other\r\n\r\n",
		errLimit + "fields": "GET / HTTP/1.1\r\nHost: app\r\n" + strings.Repeat("x: y\r\n", 200) + "\r\n",
	} {
		if res, _ := get1(t, w, client{from: neighbourIP}, request); res.StatusCode/100 != 4 || !res.Close {
			t.Errorf("%s: %d", kind, res.StatusCode)
		}
		if got := w.counter("inbound_http_errors_total", map[string]string{"error": kind}); got != 1 {
			t.Errorf("%s: %v", kind, got)
		}
	}
	w.apply(server(http2Protocol(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := newFrameClient(t, conn)
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprint("x-", i), "y")
	}
	if got := c.refused(c.request("GET", "/", many...)); got != ":status: 431" {
		t.Errorf("too many fields: %q", got)
	}
	if got := w.counter("inbound_http_errors_total", map[string]string{"error": errLimit + "head fields"}); got != 1 {
		t.Errorf("over HTTP/2: %v", got)
	}
	if got := w.counter("inbound_http_authz_allow_total", nil); got != 0 {
		t.Errorf("judged: %v", got)
	}
}

// T-05: nothing that a request says of where it comes from counts.
func TestAnAddressInAHeaderLetsNobodyIn(t *testing.T) {
	w := newWorld(t, application(t, show()), nil)
	home := anyone(t, "home")
	home.Networks = []*pb.Network{network(t, "10.0.0.0/8")}
	w.apply(server(detect(), home))
	for _, way := range ways {
		r, _ := http.NewRequestWithContext(within(t), http.MethodGet, "http://app/", nil)
		r.Header = http.Header{"X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"}, "L5d-Remote-Ip": {"10.0.0.1"}}
		if way.carried != "" {
			r.Header.Set("L5d-Orig-Proto", way.carried)
		}
		res, err := w.transport(t, w.inbound, client{from: neighbourIP}, way.version).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", way.name, res.StatusCode)
		}
	}
}

// HTTP/2 may split cookies: a match sees them whole, and so does HTTP/1.
func TestCookiesAreWholeWhereTheyAreRead(t *testing.T) {
	const whole = "a=1; b=2; c=3"
	w := newWorld(t, application(t, show("Cookie")), nil)
	r := httpRoute("r", nil, anyone(t, "all"))
	r.Rules[0].Matches = []*http_route.HttpRouteMatch{{Headers: []*http_route.HeaderMatch{{Name: "cookie", Value: &http_route.HeaderMatch_Exact{Exact: []byte(whole)}}}}}
	w.apply(server(detect(r)))
	for _, carried := range []string{"", "HTTP/1.1"} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := newFrameClient(t, conn)
		fields := []string{"cookie", "a=1", "x-between", "1", "cookie", "b=2", "cookie", "c=3"}
		want := `Cookie=["a=1; b=2; c=3"]`
		if carried != "" {
			fields = append(fields, "l5d-orig-proto", carried)
		}
		stream := c.request("GET", "/", fields...)
		if got, _ := c.answer(stream); got[0] != ":status: 200" {
			t.Errorf("%q: %q", carried, got)
			continue
		}
		if got := c.body(stream); !strings.HasSuffix(got, want) {
			t.Errorf("%q: the application saw %q, want %q", carried, got, want)
		}
		if got, _ := c.answer(c.request("GET", "/", "cookie", "a=1", "cookie", "b=2")); got[0] != ":status: 404" {
			t.Errorf("%q: other cookies: %q", carried, got)
		}
	}
}

// body reads the first bytes of a stream's body.
func (c *frameClient) body(stream uint32) string {
	c.tb.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.tb.Fatalf("read the body: %v", err)
		}
		if f, ok := frame.(*http2.DataFrame); ok && f.StreamID == stream {
			return string(f.Data())
		}
	}
}
