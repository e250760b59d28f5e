package clients_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/clients/load/sink"
)

// recorded serves HTTP/1 by hand, and sends the bytes of each request without a body.
func recorded(t *testing.T) (address string, heads <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 16)
	var serving sync.WaitGroup
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(t.Context(), func() { conn.Close() })()
				text, reader := "", bufio.NewReader(conn)
				for {
					line, err := reader.ReadString('\n')
					if err != nil {
						return
					}
					if text += line; line != "\r\n" {
						continue
					}
					out <- text
					if text = ""; write(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") != nil {
						return
					}
				}
			})
		}
	})
	return listener.Addr().String(), out
}

func write(conn net.Conn, text string) error {
	_, err := conn.Write([]byte(text))
	return err
}

func TestACallOfASeriesIsByteForByteTheCallThatItWouldBeAlone(t *testing.T) {
	address, heads := recorded(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for name, edit := range map[string]func(*clients.Request){
		"a plain one":                 func(*clients.Request) {},
		"on a connection of its own":  func(r *clients.Request) { r.Connection = clients.Fresh },
		"a path of two slashes":       func(r *clients.Request) { r.Path = "//a/%2e%2e/b?c=//d" },
		"a path that is its number":   func(r *clients.Request) { r.Path = "/a-7" },
		"another method and host":     func(r *clients.Request) { r.Method, r.Host = http.MethodDelete, "app.example" },
		"headers":                     func(r *clients.Request) { r.Headers = map[string]string{"b": " x\ny ", "A": "1", "te": "trailers"} },
		"lines":                       func(r *clients.Request) { r.Lines = []clients.HeaderLine{{"a", "1"}, {"a", "2"}} },
		"an ID of its own":            func(r *clients.Request) { r.Headers = map[string]string{"X-Request-ID": "mine"} },
		"several IDs":                 func(r *clients.Request) { r.Lines = []clients.HeaderLine{{clients.HeaderID, "another"}} },
		"an ID that begins with tabs": func(r *clients.Request) { r.ID = "\tid" },
		"raw bytes":                   func(r *clients.Request) { r.Raw = []byte("GET  / HTTP/1.1\r\nHost: raw\r\n\r\n") },
	} {
		request := clients.Request{ID: "id", Protocol: clients.HTTP1, Address: address, Connection: clients.Reused, Timeout: plenty}
		edit(&request)
		series := caller.Series(request)
		for _, n := range []int64{7, 80, 7} {
			alone := request
			alone.ID += "-" + map[int64]string{7: "7", 80: "80"}[n]
			one := caller.Do(t.Context(), alone)
			other := series.Do(n)
			if one.Kind != clients.Allowed || other.Kind != clients.Allowed {
				t.Fatalf("%s: %+v and %+v", name, one, other)
			}
			if want, got := <-heads, <-heads; got != want {
				t.Errorf("%s: call %d of the series is\n%q, alone it is\n%q", name, n, got, want)
			}
			if other.RequestID != alone.ID || other.Bytes != 2 || other.End.Before(other.Start) || other.LocalAddr == "" {
				t.Errorf("%s: the outcome is %+v", name, other)
			}
		}
	}
}

func TestACallOfASeriesOnAnOldConnectionEndsWithItsOwnTimeout(t *testing.T) {
	silent := make(chan struct{})
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(clients.HeaderID) == "id-2" {
			<-silent
		}
	})
	defer close(silent)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	series := caller.Series(clients.Request{ID: "id", Protocol: clients.HTTP1, Address: address, Connection: clients.Reused, Timeout: 300 * time.Millisecond})
	first := series.Do(1)
	if first.Kind != clients.Allowed {
		t.Fatalf("the first call: %+v", first)
	}
	second := series.Do(2)
	if second.Kind != clients.Timeout || !second.Reused || second.LocalAddr != first.LocalAddr || second.Message == "" {
		t.Errorf("nobody answered, and the outcome is %+v", second)
	}
	if third := series.Do(3); third.Kind != clients.Allowed || third.Reused {
		t.Errorf("the call after one that was not answered: %+v", third)
	}
}

func TestASeriesThatMakesNoSenseSaysSoOfEachCall(t *testing.T) {
	caller := clients.New(clients.Options{})
	defer caller.Close()
	out := caller.Series(clients.Request{ID: "id", Protocol: clients.HTTP1}).Do(1)
	if out.Kind != clients.Other || out.Message == "" || out.RequestID != "id-1" {
		t.Errorf("%+v", out)
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What a call costs with its application in the same process, made alone and as one of
// a series. On a busy machine the time of the processor is what can be compared.
func BenchmarkCall(b *testing.B) {
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.GRPC} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		var serving sync.WaitGroup
		answers := map[clients.Protocol]load.Protocol{clients.HTTP1: load.HTTP1, clients.GRPC: load.Frames}[protocol]
		serving.Go(func() { _ = sink.Serve(ctx, listener, answers) })
		request := clients.Request{ID: "id", Protocol: protocol, Address: listener.Addr().String(), Path: load.Path, Connection: clients.Reused}
		if protocol == clients.GRPC {
			request.Path, request.Method = "", load.Method
		}
		caller := clients.New(clients.Options{})
		series := caller.Series(request)
		for name, do := range map[string]func(int64) clients.Outcome{
			"alone":  func(int64) clients.Outcome { return caller.Do(context.Background(), request) },
			"series": series.Do,
		} {
			b.Run(string(protocol)+"-"+name, func(b *testing.B) {
				b.ReportAllocs()
				before := used(b)
				for n := int64(1); b.Loop(); n++ {
					if out := do(n); out.Kind != clients.Allowed {
						b.Fatalf("%+v", out)
					}
				}
				b.ReportMetric(float64((used(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			})
		}
		caller.Close()
		stop()
		serving.Wait()
	}
}
