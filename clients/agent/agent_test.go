package agent_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent"
	"github.com/meshproof/meshproof/clients/agent/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plenty is a wait that nothing here needs in full.
const plenty = 20 * time.Second

// start runs an agent and returns a client of its API.
func start(t *testing.T) *control.Client {
	caller := clients.New(clients.Options{})
	a := agent.New(caller)
	server := httptest.NewServer(a)
	client, closeIdle := control.NewDialer(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	t.Cleanup(func() {
		closeIdle()
		server.Close()
		a.Close()
		caller.Close()
	})
	return client
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestACallComesBackAsItsOutcome(t *testing.T) {
	client := start(t)
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	out, err := client.Call(t.Context(), clients.Request{ID: "id-1", Protocol: clients.HTTP1, Address: address})
	if err != nil || out.Kind != clients.Forbidden || out.RequestID != "id-1" {
		t.Errorf("got %+v, %v", out, err)
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if now, err := client.Time(t.Context()); err != nil || now.IsZero() {
		t.Errorf("time %v, %v", now, err)
	}
}

func TestManyCallsComeBackInTheirOrderAndNoMoreAtATimeThanAsked(t *testing.T) {
	var now, most atomic.Int64
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(code)
	})
	client := start(t)
	var requests []clients.Request
	var want []clients.Kind
	for range 30 {
		requests = append(requests, clients.Request{Protocol: clients.HTTP1, Address: address, Path: "/200"},
			clients.Request{Protocol: clients.HTTP1, Address: address, Path: "/403"})
		want = append(want, clients.Allowed, clients.Forbidden)
	}
	for _, parallel := range []int{3, 0} {
		most.Store(0)
		outcomes, err := client.Calls(t.Context(), requests, parallel)
		if err != nil {
			t.Fatal(err)
		}
		var got []clients.Kind
		for _, out := range outcomes {
			got = append(got, out.Kind)
		}
		if !slices.Equal(got, want) {
			t.Errorf("kinds %v, want %v", got, want)
		}
		if parallel > 0 && most.Load() > int64(parallel) {
			t.Errorf("%d calls at a time, want at most %d", most.Load(), parallel)
		}
	}
}

func TestAStreamMakesEachCallOnceWithAnIDOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	ids := map[string]int{}
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids[r.Header.Get(clients.HeaderID)]++
	})
	client := start(t)
	spec := control.StreamSpec{Name: "s", Rate: 500, Count: 100, Parallel: 1000,
		Request: clients.Request{Protocol: clients.HTTP1, Address: address, Connection: clients.Reused}}
	if err := client.StartStream(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	var answers []control.Numbered
	page := control.StreamPage{Running: true}
	for page.Running {
		var err error
		if page, err = client.Stream(t.Context(), "s", page.Last, plenty); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, page.Outcomes...)
	}
	if page.Sent+page.Missed != spec.Count || int64(len(answers)) != page.Sent || page.Sent == 0 || page.Dropped != 0 {
		t.Errorf("sent %d, missed %d, answers %d, want %d in all", page.Sent, page.Missed, len(answers), spec.Count)
	}
	for i, answer := range answers {
		if answer.Seq != int64(i+1) || answer.Outcome.Kind != clients.Allowed || answer.Outcome.RequestID != "s-"+strconv.FormatInt(answer.Call, 10) {
			t.Errorf("answer %d is %+v", i, answer)
		}
		if ids[answer.Outcome.RequestID] != 1 {
			t.Errorf("%s arrived %d times", answer.Outcome.RequestID, ids[answer.Outcome.RequestID])
		}
	}
}

func TestManyStreamsAreReadAtOnce(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	client := start(t)
	const streams, count = 5, 20
	since, got := map[string]int64{}, map[string]int64{}
	for i := range streams {
		name := strconv.Itoa(i)
		since[name] = 0
		if err := client.StartStream(t.Context(), control.StreamSpec{Name: name, Rate: 500, Count: count,
			Request: clients.Request{Protocol: clients.HTTP1, Address: address, Connection: clients.Reused}}); err != nil {
			t.Fatal(err)
		}
	}
	for len(since) > 0 {
		pages, err := client.Streams(t.Context(), since, plenty)
		if err != nil || len(pages) != len(since) {
			t.Fatalf("%d pages of %d streams, %v", len(pages), len(since), err)
		}
		for _, page := range pages {
			if page.Running && len(page.Outcomes) == 0 {
				t.Errorf("stream %s was not waited for", page.Name)
			}
			for _, one := range page.Outcomes {
				if got[page.Name]++; one.Seq != got[page.Name] {
					t.Errorf("stream %s: answer %d where %d was next", page.Name, one.Seq, got[page.Name])
				}
			}
			since[page.Name] = page.Last
			if page.Running {
				continue
			}
			if delete(since, page.Name); page.Sent+page.Missed != count || got[page.Name] != page.Sent {
				t.Errorf("stream %s: %d sent, %d missed, %d answers read", page.Name, page.Sent, page.Missed, got[page.Name])
			}
		}
	}
	var status *control.Error
	if _, err := client.Streams(t.Context(), map[string]int64{"0": 0, "none": 0}, 0); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("a stream that is not there: %v", err)
	}
}

func TestAStreamDoesNotWaitForSlowAnswersNorCatchUp(t *testing.T) {
	release := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	client := start(t)
	const parallel = 2
	err := client.StartStream(t.Context(), control.StreamSpec{Name: "s", Rate: 1000, Count: 50, Parallel: parallel,
		Request: clients.Request{Protocol: clients.HTTP1, Address: address, Timeout: plenty}})
	if err != nil {
		t.Fatal(err)
	}
	// All 50 calls fall due while two are stuck; none of the others is made up
	// for when the two are answered.
	var page control.StreamPage
	for page.Sent+page.Missed < 50 {
		if page, err = client.Stream(t.Context(), "s", 0, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	last, err := client.StopStream(t.Context(), "s", 0)
	if err != nil {
		t.Fatal(err)
	}
	if last.Sent != parallel || last.Missed != 50-parallel || len(last.Outcomes) != parallel || last.Running {
		t.Errorf("sent %d, missed %d, %d answers, want %d, %d and %d", last.Sent, last.Missed, len(last.Outcomes), parallel, 50-parallel, parallel)
	}
	var status *control.Error
	if _, err := client.Stream(t.Context(), "s", 0, 0); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("a stopped stream is still there: %v", err)
	}
}

func TestAStreamThatNobodyAnswersKeepsItsRate(t *testing.T) {
	release := make(chan struct{})
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	client := start(t)
	err := client.StartStream(t.Context(), control.StreamSpec{Name: "s", Rate: 500,
		Request: clients.Request{Protocol: clients.HTTP1, Address: address, Timeout: plenty}})
	if err != nil {
		t.Fatal(err)
	}
	// A busy machine misses some, so that it takes longer until there are as many.
	var page control.StreamPage
	for until := time.Now().Add(plenty / 2); page.Sent <= control.MinParallel && time.Now().Before(until); {
		if page, err = client.Stream(t.Context(), "s", 0, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	last, err := client.StopStream(t.Context(), "s", 0)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(page.UnderWay)) != page.Sent || len(last.UnderWay) != 0 {
		t.Errorf("%d of %d calls were under way, and %d when all had an answer", len(page.UnderWay), page.Sent, len(last.UnderWay))
	}
	if page.Last != 0 || page.Sent <= control.MinParallel {
		t.Errorf("%d calls were made while %d were answered, and %d missed", page.Sent, page.Last, page.Missed)
	}
}

func TestAHeldConnectionIsSeenEndingFromOutside(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conns := make(chan net.Conn, 1)
	var echo sync.WaitGroup
	defer echo.Wait()
	echo.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conns <- conn
		buffer := make([]byte, 1024)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			conn.Write(buffer[:n])
		}
	})
	client := start(t)
	spec := control.ConnectionSpec{Name: "c", Interval: 5 * time.Millisecond,
		Request: clients.Request{Protocol: clients.TCP, Address: listener.Addr().String(), Timeout: plenty}}
	state, err := client.OpenConnection(t.Context(), spec)
	if err != nil || !state.Open || state.EchoesReceived == 0 {
		t.Fatalf("opened as %+v, %v", state, err)
	}
	var status *control.Error
	if _, err := client.OpenConnection(t.Context(), spec); !errors.As(err, &status) || status.Status != http.StatusConflict {
		t.Errorf("a second connection of the name: %v", err)
	}
	conn := <-conns
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	state, err = client.Connection(t.Context(), "c", plenty)
	if err != nil || state.Open || state.How != clients.Reset {
		t.Errorf("ended as %+v, %v, want a reset", state, err)
	}
	if _, err := client.CloseConnection(t.Context(), "c"); err != nil {
		t.Error(err)
	}
}

func TestWhatMakesNoSenseIsRefusedWithAReason(t *testing.T) {
	good := clients.Request{Protocol: clients.HTTP1, Address: "127.0.0.1:1"}
	client := start(t)
	for name, ask := range map[string]func() error{
		"a call without a protocol": func() error { _, err := client.Call(t.Context(), clients.Request{}); return err },
		"a stream without a name": func() error {
			return client.StartStream(t.Context(), control.StreamSpec{Request: good, Rate: 1})
		},
		"a stream without a rate": func() error {
			return client.StartStream(t.Context(), control.StreamSpec{Name: "s", Request: good})
		},
		"an endless stream": func() error {
			return client.StartStream(t.Context(), control.StreamSpec{Name: "s", Request: good, Rate: 1, Count: control.MaxCount + 1})
		},
		"a held connection that is closed by itself": func() error {
			dial := good
			dial.Protocol = clients.Dial
			_, err := client.OpenConnection(t.Context(), control.ConnectionSpec{Name: "c", Request: dial})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var status *control.Error
			if err := ask(); !errors.As(err, &status) || status.Status != http.StatusBadRequest || status.Text == "" {
				t.Errorf("error %v, want 400 with a reason", err)
			}
		})
	}
}

func TestClosingAnAgentEndsWhatItStarted(t *testing.T) {
	client := start(t) // its clean-up closes the agent; goleak finds what is left
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	for i := range 3 {
		err := client.StartStream(t.Context(), control.StreamSpec{Name: strconv.Itoa(i), Rate: 100,
			Request: clients.Request{Protocol: clients.HTTP1, Address: address}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.OpenConnection(t.Context(), control.ConnectionSpec{Name: "c",
		Request: clients.Request{Protocol: clients.TCPSilent, Address: address, Timeout: 10 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
}

// The agent is there because thousands of calls a second from one pod are
// wanted; this says how many it makes.
func BenchmarkCalls(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, connection := range []clients.Connection{clients.Fresh, clients.Reused} {
		b.Run(string(connection), func(b *testing.B) {
			caller := clients.New(clients.Options{})
			defer caller.Close()
			request := clients.Request{Protocol: clients.HTTP1, Address: server.Listener.Addr().String(), Connection: connection}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if out := caller.Do(b.Context(), request); out.Kind != clients.Allowed {
						b.Errorf("%+v", out)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

func TestTheControlPortIsFoundInTheLogOnceItsLineIsWhole(t *testing.T) {
	for log, want := range map[string]int{
		"":                                 0,
		control.Announcement(40123):        0, // more digits may follow
		control.Announcement(40123) + "\n": 40123,
		"noise\n" + control.Announcement(7) + "\n": 7,
		"control API on port none\n":               0,
	} {
		if port, ok := control.Announced(log); port != want || ok != (want > 0) {
			t.Errorf("%q: port %d, %v, want %d", log, port, ok, want)
		}
	}
}

func TestManyStreamsAreEndedAtOnceWithTheirLastAnswers(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	client := start(t)
	since := map[string]int64{"a": 0, "b": 0}
	for name := range since {
		if err := client.StartStream(t.Context(), control.StreamSpec{Name: name, Rate: 200, Request: clients.Request{Protocol: clients.HTTP1, Address: address}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Streams(t.Context(), since, plenty); err != nil {
		t.Fatal(err)
	}
	since["none"] = 0
	pages, err := client.StopStreams(t.Context(), since)
	if err != nil || len(pages) != 2 || pages[0].Name != "a" || pages[1].Name != "b" {
		t.Fatalf("%+v, %v", pages, err)
	}
	for _, page := range pages {
		if page.Running || page.Sent == 0 || page.Sent != int64(len(page.Outcomes)) || len(page.UnderWay) > 0 {
			t.Errorf("stream %s has ended so: %+v", page.Name, page)
		}
	}
	if pages, err := client.StopStreams(t.Context(), since); err != nil || len(pages) > 0 {
		t.Errorf("they have ended, and there are still %+v, %v", pages, err)
	}
}
