package inbound_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// bare serves an empty index on a listener, without a client.
func bare(t *testing.T) (connect func() net.Conn, stop func()) {
	t.Helper()
	x := index.New(index.Config{Dialect: api.Documented()})
	ctx, cancel := context.WithCancel(context.Background())
	listener, ended := bufconn.Listen(1<<16), make(chan struct{})
	go func() {
		defer close(ended)
		if err := inbound.Serve(ctx, listener, nil, &inbound.Service{Index: x, Stopping: ctx.Done()}); err != nil {
			t.Error(err)
		}
	}()
	connect = func() net.Conn {
		conn, err := listener.DialContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return connect, func() { cancel(); <-ended; listener.Close() }
}

// What is told to clients before they ask: as many streams as a pod has ports, so
// that a proxy never waits for one, and not more.
func TestAConnectionHasAsManyStreamsAsAPodHasPorts(t *testing.T) {
	connect, stop := bare(t)
	defer stop()
	conn := connect()
	defer conn.Close()
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings()
	frame, err := framer.ReadFrame()
	settings, is := frame.(*http2.SettingsFrame)
	if err != nil || !is {
		t.Fatalf("%v, %v", frame, err)
	}
	if streams, _ := settings.Value(http2.SettingMaxConcurrentStreams); streams != 65535 {
		t.Errorf("%d streams", streams)
	}
}

func TestRequestsThatNoProxySendsAreRefused(t *testing.T) {
	s := serve(t, nil)
	const long = 64 << 10
	ask := func(ctx context.Context, workload string) error {
		_, err := s.client.GetPort(ctx, &inboundpb.PortSpec{Workload: workload, Port: 8080})
		return err
	}
	if err := ask(within(t), ns+":"+strings.Repeat("x", long)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a workload of %d bytes: %v", long, err)
	}
	if err := ask(metadata.AppendToOutgoingContext(within(t), "x", strings.Repeat("y", long)), ns+":web"); err == nil {
		t.Errorf("a head of %d bytes was taken", long)
	}
	if err := ask(metadata.AppendToOutgoingContext(within(t), "x", strings.Repeat("y", 1<<10)), ns+":web"); err != nil {
		t.Errorf("a usual request: %v", err)
	}
}

func TestWhoConnectsAndSaysNothingIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect, stop := bare(t)
		defer stop()
		conn := connect()
		defer conn.Close()
		cut := make(chan time.Duration)
		began := time.Now()
		go func() {
			io.Copy(io.Discard, conn)
			cut <- time.Since(began)
		}()
		select {
		case took := <-cut:
			if took > 10*time.Second {
				t.Errorf("cut off after %v", took)
			}
		case <-time.After(time.Minute):
			conn.Close()
			<-cut
			t.Error(errors.New("it was not cut off"))
		}
	})
}
