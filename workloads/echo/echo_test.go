package echo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const plenty = 20 * time.Second

// lockedBuffer is a stdout for a test.
type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// start runs an echo on ports of the system's choice.
func start(t *testing.T) (map[int]net.Addr, *lockedBuffer) {
	var group serve.Group
	out := &lockedBuffer{}
	addresses, err := echo.Listen(&group, out, func(int) string { return "127.0.0.1:0" })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return addresses, out
}

// message encodes the echo service's message.
func message(text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
}

func deliveries(t *testing.T, address net.Addr, query string) echo.Page {
	t.Helper()
	response, err := http.Get("http://" + address.String() + "/deliveries?" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var page echo.Page
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestEveryPortAnswersAndRecordsWhoCameWithWhat(t *testing.T) {
	addresses, out := start(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	forged := map[string]string{"l5d-client-id": "web.emojivoto"}
	for _, row := range []struct {
		port    int
		request clients.Request
		// want is the delivery, but for what differs from call to call.
		want  echo.Delivery
		bytes int64
	}{
		{echo.PortHTTP, clients.Request{ID: "h1", Protocol: clients.HTTP1, Path: "/a/../b?c=d", Headers: forged},
			echo.Delivery{Event: echo.EventRequest, ID: "h1", Protocol: "http1", Method: "GET", Path: "/a/../b?c=d", ClientID: "web.emojivoto"}, 0},
		{echo.PortHTTP, clients.Request{ID: "h2", Protocol: clients.HTTP2, Method: "POST", Body: []byte("body")},
			echo.Delivery{Event: echo.EventRequest, ID: "h2", Protocol: "http2", Method: "POST", Path: "/"}, 0},
		{echo.PortTLS, clients.Request{ID: "t1", Protocol: clients.HTTP1, TLS: clients.NoIdentity, ServerName: echo.TLSName},
			echo.Delivery{Event: echo.EventRequest, ID: "t1", Protocol: "tls", Method: "GET", Path: "/"}, 0},
		{echo.PortTLS, clients.Request{ID: "t2", Protocol: clients.HTTP2, TLS: clients.NoIdentity, ServerName: echo.TLSName},
			echo.Delivery{Event: echo.EventRequest, ID: "t2", Protocol: "tls", Method: "GET", Path: "/"}, 0},
		{echo.PortGRPC, clients.Request{ID: "g1", Protocol: clients.GRPC, Method: "/meshproof.echo.v1.Echo/Say", Body: message("hi"), Headers: forged},
			echo.Delivery{Event: echo.EventRequest, ID: "g1", Protocol: "grpc", Method: "POST", Path: "/meshproof.echo.v1.Echo/Say", ClientID: "web.emojivoto"}, 4},
		{echo.PortGRPC, clients.Request{ID: "g2", Protocol: clients.GRPCStream, Method: "/meshproof.echo.v1.Echo/List", Body: message("hi")},
			echo.Delivery{Event: echo.EventRequest, ID: "g2", Protocol: "grpc", Method: "POST", Path: "/meshproof.echo.v1.Echo/List"}, 12},
		{echo.PortGRPC, clients.Request{ID: "g3", Protocol: clients.GRPCStream, Method: "/meshproof.echo.v1.Echo/Watch", Body: message("hi"), Messages: 2},
			echo.Delivery{Event: echo.EventRequest, ID: "g3", Protocol: "grpc", Method: "POST", Path: "/meshproof.echo.v1.Echo/Watch"}, 8},
		{echo.PortGRPC, clients.Request{ID: "g4", Protocol: clients.GRPC, Method: "/grpc.health.v1.Health/Check"},
			echo.Delivery{Event: echo.EventRequest, ID: "g4", Protocol: "grpc", Method: "POST", Path: "/grpc.health.v1.Health/Check"}, 2},
		{echo.PortGRPC, clients.Request{ID: "g5", Protocol: clients.GRPC, Method: "/nobodys.Service/Call"},
			echo.Delivery{Event: echo.EventRequest, ID: "g5", Protocol: "grpc", Method: "POST", Path: "/nobodys.Service/Call"}, 0},
		{echo.PortTCP, clients.Request{ID: "c1", Protocol: clients.TCP, Body: []byte("hello")},
			echo.Delivery{Event: echo.EventLine, ID: "c1", Protocol: "tcp", Bytes: 9}, 9},
		{echo.PortServerFirst, clients.Request{ID: "c2", Protocol: clients.TCPServerFirst},
			echo.Delivery{Event: echo.EventLine, ID: "c2", Protocol: "tcp", Bytes: 3}, int64(len(echo.Banner) + 3)},
	} {
		t.Run(strconv.Itoa(row.port)+"/"+row.request.ID, func(t *testing.T) {
			row.request.Address, row.request.Timeout = addresses[row.port].String(), plenty
			outcome := caller.Do(t.Context(), row.request)
			if outcome.Echoed != (row.want.Event == echo.EventRequest) {
				t.Errorf("outcome %+v of %s", outcome, row.want.Event)
			}
			if outcome.Kind != clients.Allowed || (row.bytes != 0 && outcome.Bytes != row.bytes) {
				t.Fatalf("outcome %+v, want allowed with %d bytes", outcome, row.bytes)
			}
			page := deliveries(t, addresses[echo.PortControl], "id="+row.request.ID)
			if len(page.Deliveries) != 1 {
				t.Fatalf("deliveries %+v, want one", page.Deliveries)
			}
			got := page.Deliveries[0]
			if got.Peer != outcome.LocalAddr || got.Port != row.port || got.Seq == 0 || got.Time.IsZero() {
				t.Errorf("delivery %+v of a call from %s", got, outcome.LocalAddr)
			}
			if row.want.Event == echo.EventRequest && (got.Host == "" || got.Headers["x-request-id"] != row.request.ID) {
				t.Errorf("delivery %+v without host or headers", got)
			}
			got.Peer, got.Port, got.Seq, got.Time, got.Host, got.Headers = "", 0, 0, time.Time{}, "", nil
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("delivery %+v\nwant     %+v", got, row.want)
			}
			if !strings.Contains(out.String(), `"id":"`+row.request.ID+`"`) {
				t.Errorf("%s is not on stdout", row.request.ID)
			}
		})
	}
}

func TestAConnectionIsRecordedFromItsBeginningToItsEnd(t *testing.T) {
	addresses, _ := start(t)
	conn, err := net.Dial("tcp", addresses[echo.PortTCP].String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "id-1 text\n")
	io.ReadFull(conn, make([]byte, len("id-1 text\n")))
	local := conn.LocalAddr().String()
	conn.Close()
	var events []string
	for deadline := time.Now().Add(plenty); len(events) < 3 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		events = nil
		for _, d := range deliveries(t, addresses[echo.PortControl], "since=0").Deliveries {
			if d.Peer == local {
				events = append(events, d.Event)
			}
		}
	}
	if got := strings.Join(events, " "); got != "open line close" {
		t.Errorf("events %q, want open line close", got)
	}
}

func TestAChatEchoesAsLongAsItIsHeld(t *testing.T) {
	addresses, _ := start(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	held, err := caller.Hold(clients.Request{ID: "chat", Protocol: clients.GRPCStream, Method: "/meshproof.echo.v1.Echo/Chat", Body: message("hi"),
		Address: addresses[echo.PortGRPC].String(), Timeout: plenty}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(plenty); held.State().EchoesReceived < 5 && time.Now().Before(deadline); {
		held.Wait(t.Context(), time.Millisecond)
	}
	state := held.Close()
	lines := 0
	for _, d := range deliveries(t, addresses[echo.PortControl], "id=chat").Deliveries {
		if d.Event == echo.EventLine {
			lines++
		}
	}
	if state.EchoesReceived < 5 || int64(lines) < state.EchoesReceived {
		t.Errorf("%d echoes of %d messages that arrived", state.EchoesReceived, lines)
	}
}

func TestAStatusCanBeAskedFor(t *testing.T) {
	addresses, _ := start(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for path, want := range map[string]int{"/status/404": 404, "/status/429?x=y": 429, "/status/99": 200, "/status/": 200} {
		out := caller.Do(t.Context(), clients.Request{Protocol: clients.HTTP1, Address: addresses[echo.PortHTTP].String(), Path: path})
		if out.HTTPStatus != want {
			t.Errorf("%s gets %d, want %d", path, out.HTTPStatus, want)
		}
	}
}

func TestThePageOfDeliveriesIsBoundedAndSaysWhatItLost(t *testing.T) {
	recorder := echo.NewRecorder(io.Discard)
	const more = 20000
	for i := range more {
		recorder.Add(echo.Delivery{ID: strconv.Itoa(i)})
	}
	page := recorder.Since(100, "")
	if page.Last != more || page.Missed == 0 || page.Missed+int64(len(page.Deliveries)) != more-100 || page.Deliveries[0].Seq != 100+page.Missed+1 {
		t.Errorf("last %d, missed %d, %d deliveries from %d", page.Last, page.Missed, len(page.Deliveries), page.Deliveries[0].Seq)
	}
	if page := recorder.Since(more, ""); page.Missed != 0 || len(page.Deliveries) != 0 {
		t.Errorf("after the last there are %d deliveries and %d missed", len(page.Deliveries), page.Missed)
	}
	if page := recorder.Since(0, strconv.Itoa(more-1)); len(page.Deliveries) != 1 || page.Deliveries[0].Seq != more {
		t.Errorf("by id: %+v", page.Deliveries)
	}
}

func TestEveryLogSaysWhenItBegan(t *testing.T) {
	first := echo.NewRecorder(io.Discard)
	began := first.Since(0, "").Began
	first.Add(echo.Delivery{ID: "x"})
	if again := first.Since(0, "").Began; began.IsZero() || !again.Equal(began) {
		t.Errorf("a log begun at %s is one of %s later", began, again)
	}
	if second := echo.NewRecorder(io.Discard).Since(0, "").Began; !second.After(began) {
		t.Errorf("a log begun after one of %s is of %s", began, second)
	}
}

func TestAnOddQuestionToTheControlPortIsRefused(t *testing.T) {
	addresses, _ := start(t)
	response, err := http.Get("http://" + addresses[echo.PortControl].String() + "/deliveries?since=" + url.QueryEscape("then"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, want 400", response.StatusCode)
	}
}

func TestARedirectionCanBeAskedFor(t *testing.T) {
	addresses, _ := start(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	out := caller.Do(t.Context(), clients.Request{Protocol: clients.HTTP1, Address: addresses[echo.PortHTTP].String(), Path: "/redirect/307/a/b"})
	if out.Kind != clients.Redirected || out.HTTPStatus != http.StatusTemporaryRedirect || out.Location != "/a/b" {
		t.Errorf("outcome %+v, want 307 to /a/b", out)
	}
}

// H-03: what goes through a tunnel is recorded as lines, and its end as its end.
func TestATunnelEchoesLinesUntilItIsLeft(t *testing.T) {
	addresses, _ := start(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTPUpgrade, clients.HTTPConnect} {
		request := clients.Request{ID: string(protocol), Protocol: protocol, Address: addresses[echo.PortHTTP].String(), Timeout: plenty}
		out := caller.Do(t.Context(), request)
		if out.Kind != clients.Allowed || !out.Echoed || out.Bytes != int64(len(protocol))+1 {
			t.Errorf("%s: %+v, want an echo", protocol, out)
		}
		request.ID = "held-" + string(protocol)
		held, err := caller.Hold(request, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(plenty); held.State().EchoesReceived < 3 && time.Now().Before(deadline); {
			held.Wait(t.Context(), time.Millisecond)
		}
		state := held.Close()
		if state.EchoesReceived < 3 {
			t.Errorf("%s: %+v, want three echoes", protocol, state)
		}
		for _, peer := range []string{out.LocalAddr, state.LocalAddr} {
			closed := func() bool {
				for _, d := range deliveries(t, addresses[echo.PortControl], "since=0").Deliveries {
					if d.Peer == peer && d.Event == echo.EventClose {
						return true
					}
				}
				return false
			}
			for deadline := time.Now().Add(plenty); !closed(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: the tunnel of %s has no end", protocol, peer)
				}
			}
		}
	}
}
