package clients_test

import (
	"bytes"
	"net"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// segments returns the address of a listener that hands over what it reads from
// its first connection, one read at a time, and then closes it.
func segments(t *testing.T, enough int) (string, <-chan []byte) {
	read := make(chan []byte, 64)
	address := listen(t, func(conn net.Conn) {
		defer close(read)
		for total := 0; total < enough; {
			buffer := make([]byte, 4<<10)
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			total += n
			read <- buffer[:n]
		}
	})
	return address, read
}

// T-21: fewer bytes than a protocol is told by come alone, and nothing is lost.
func TestADribbledRequestBeginsWithASegmentTooShortToTellItsProtocol(t *testing.T) {
	const tellTale = 14
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2, clients.TCP} {
		t.Run(string(protocol), func(t *testing.T) {
			address, read := segments(t, 36)
			caller.Do(t.Context(), clients.Request{ID: "0123456789-0123456789-0123456789-012", Protocol: protocol, Address: address, Timeout: plenty, Dribbled: true})
			first := <-read
			if len(first) >= tellTale {
				t.Errorf("the first segment has %d bytes: %q", len(first), first)
			}
			var all []byte
			for part := range read {
				all = append(all, part...)
			}
			if len(all) < 30 {
				t.Errorf("after %q only %q came", first, all)
			}
		})
	}
}

func TestAHeaderMayComeTwice(t *testing.T) {
	got := make(chan []string, 2)
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { got <- r.Header["X-Color"] })
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2} {
		caller.Do(t.Context(), clients.Request{Protocol: protocol, Address: address, Timeout: plenty,
			Headers: map[string]string{"x-color": "red"}, Lines: []clients.HeaderLine{{Name: "x-color", Value: "blue"}}})
		if colors := <-got; !slices.Equal(colors, []string{"red", "blue"}) {
			t.Errorf("%s: x-color is %q", protocol, colors)
		}
	}
}

func TestRawBytesGoOutAsTheyAre(t *testing.T) {
	raw := []byte("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.TCP} {
		address, read := segments(t, len(raw))
		caller.Do(t.Context(), clients.Request{Protocol: protocol, Address: address, Timeout: plenty, Raw: raw})
		var all []byte
		for part := range read {
			all = append(all, part...)
		}
		if !bytes.Equal(all, raw) {
			t.Errorf("%s sent %q, want %q", protocol, all, raw)
		}
	}
}

// N-01, N-05, N-07, N-10: what claims about answers need of their heads.
func TestAnOutcomeHoldsWhatTheHeadOfTheAnswerSays(t *testing.T) {
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Location", "http://b/c")
		w.Header().Set("L5d-Proxy-Error", "why")
		w.Header().Set("L5d-Proxy-Connection", "close")
		w.Header().Set(clients.HeaderID, r.Header.Get(clients.HeaderID))
		w.WriteHeader(http.StatusFound)
	})
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2} {
		got := caller.Do(t.Context(), clients.Request{ID: "id-1", Protocol: protocol, Address: address, Timeout: plenty})
		got.LocalAddr, got.Start, got.End = "", time.Time{}, time.Time{}
		want := clients.Outcome{Kind: clients.Redirected, Protocol: string(protocol), HTTPStatus: 302, GRPCStatus: -1, ProxyError: "why",
			ProxyConnection: "close", Location: "http://b/c", ContentType: "text/plain", ContentLength: "0", Echoed: true, RequestID: "id-1"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("outcome %+v\nwant    %+v", got, want)
		}
	}
}
