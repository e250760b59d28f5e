package serve_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/meshproof/meshproof/workloads/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const anywhere = "127.0.0.1:0"

func TestAGroupEndsWithItsContextAndClosesWhatIsOpen(t *testing.T) {
	var group serve.Group
	page, err := group.HTTP(anywhere, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group.GRPC(anywhere, grpc.NewServer()); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int64
	raw, err := group.Conns(anywhere, func(conn net.Conn) {
		handled.Add(1)
		conn.Write([]byte("x"))
		io.Copy(io.Discard, conn)
	})
	if err != nil {
		t.Fatal(err)
	}
	task := make(chan struct{})
	group.Task(func(ctx context.Context) error { <-ctx.Done(); close(task); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	response, err := http.Get("http://" + page.String())
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	conn, err := net.Dial("tcp", raw.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.ReadFull(conn, make([]byte, 1))
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-task
	if _, err := conn.Read(make([]byte, 1)); err == nil || handled.Load() != 1 {
		t.Errorf("a connection of %d outlives its group", handled.Load())
	}
}

func TestAPortInUseIsAnErrorAndGivesBackTheOthers(t *testing.T) {
	taken, err := net.Listen("tcp", anywhere)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var group serve.Group
	first, err := group.HTTP(anywhere, http.NotFoundHandler(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group.Conns(taken.Addr().String(), func(net.Conn) {}); err == nil {
		t.Fatal("two listen on one port")
	}
	again, err := net.Listen("tcp", first.String())
	if err != nil {
		t.Fatalf("the first port is still taken: %v", err)
	}
	again.Close()
}
