package load_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/clients/load/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a sink until the test ends.
func serve(t *testing.T, protocol load.Protocol) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- sink.Serve(ctx, l, protocol) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

const short = 100 * time.Millisecond

func TestEveryProtocolIsAnswered(t *testing.T) {
	for _, protocol := range []load.Protocol{load.HTTP1, load.Frames, load.GRPC, load.Bulk, load.Connect} {
		t.Run(string(protocol), func(t *testing.T) {
			result, err := load.Run(t.Context(), load.Plan{Protocol: protocol, Address: serve(t, protocol), Connections: 3, Streams: 5, Payload: 20, Warm: short, For: short})
			if err != nil || result.Errors > 0 {
				t.Fatalf("%+v %v", result, err)
			}
			if result.P50 <= 0 || result.P99 < result.P50 || result.Elapsed < short {
				t.Errorf("%+v", result)
			}
			if protocol == load.Bulk && result.Bytes < result.Requests*20 {
				t.Errorf("%d bytes in %d writes of 20", result.Bytes, result.Requests)
			}
			t.Logf("%.0f/s p50 %v", result.PerSecond(), result.P50)
		})
	}
}

func TestCallsAreRepeatedAndAFailureEndsThem(t *testing.T) {
	for _, protocol := range []load.Protocol{load.HTTP1, load.Frames} {
		plan := load.Plan{Protocol: protocol, Address: serve(t, protocol), Payload: 20}
		if err := load.Repeat(t.Context(), plan, 100); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		plan.Address = serve(t, load.Bulk) // answers nothing
		ctx, cancel := context.WithTimeout(t.Context(), short)
		if err := load.Repeat(ctx, plan, 1); err == nil {
			t.Errorf("%s: no answer is no failure", protocol)
		}
		cancel()
	}
}

func TestARateIsKeptAndNotExceeded(t *testing.T) {
	for _, protocol := range []load.Protocol{load.HTTP1, load.Frames, load.GRPC} {
		t.Run(string(protocol), func(t *testing.T) {
			const rate = 500
			result, err := load.Run(t.Context(), load.Plan{Protocol: protocol, Address: serve(t, protocol), Connections: 4, Streams: 4, Rate: rate, Payload: 20, For: 4 * short})
			if err != nil {
				t.Fatal(err)
			}
			due := int64(rate * result.Elapsed.Seconds())
			if result.Requests > due+due/4+4 || result.Requests == 0 {
				t.Errorf("%d calls in %v, want about %d", result.Requests, result.Elapsed, due)
			}
		})
	}
}

// A target that denies answers quickly: its answers must not count.
func TestADenialIsAnErrorAndNotARequest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 1024)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			conn.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx"))
		}
	}()
	result, err := load.Run(t.Context(), load.Plan{Protocol: load.HTTP1, Address: l.Addr().String(), For: short})
	if err == nil || result.Requests > 0 {
		t.Errorf("%+v %v", result, err)
	}
	<-done
}

func TestAPlanWithoutSenseIsRefused(t *testing.T) {
	for name, plan := range map[string]load.Plan{
		"no address":       {Protocol: load.HTTP1, For: short},
		"no time":          {Protocol: load.HTTP1, Address: "127.0.0.1:1"},
		"no protocol":      {Address: "127.0.0.1:1", For: short},
		"a rate of writes": {Protocol: load.Bulk, Address: "127.0.0.1:1", For: short, Rate: 1},
	} {
		if err := plan.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
