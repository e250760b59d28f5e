package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/workloads/emojivoto"
)

// The library does not close the connection whose dial has failed; a command
// that ends with the call need not care.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*addrConn).resetTransportAndUnlock"))
}

func listen(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func voting(t *testing.T) string {
	server := grpc.NewServer()
	emojivoto.RegisterVoting(server, &emojivoto.Poll{})
	listener := listen(t)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return listener.Addr().String()
}

// denying answers every gRPC request as a proxy answers one that it denies: with
// headers only, and without a word to a client that it does not know.
func denying(t *testing.T) string {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "7")
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func accepting(t *testing.T, handle func(*net.TCPConn)) string {
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			handle(conn.(*net.TCPConn))
			stop()
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); cancel(); <-done })
	return listener.Addr().String()
}

func nobody(t *testing.T) string {
	listener := listen(t)
	defer listener.Close()
	return listener.Addr().String()
}

func TestEachCallIsOneOutcomeAndAnExitCode(t *testing.T) {
	const dog = "emojivoto.v1.VotingService/VoteDog"
	for _, row := range []struct {
		name    string
		address func(*testing.T) string
		args    []string
		method  string
		kind    clients.Kind
		status  int
		exit    int
	}{
		{"a vote", voting, nil, dog, clients.Allowed, 0, 0},
		{"the results", voting, []string{"-d", "{}"}, "emojivoto.v1.VotingService/Results", clients.Allowed, 0, 0},
		{"the doughnut, the application's own error", voting, nil, "emojivoto.v1.VotingService/VoteDoughnut", clients.Allowed, 2, 0},
		{"a denial, found during reflection", denying, nil, dog, clients.PermissionDenied, 7, 71},
		{"a method that does not exist", voting, nil, "emojivoto.v1.VotingService/VoteNobody", clients.Other, -1, 78},
		{"a service that does not exist", voting, nil, "a.B/C", clients.Other, -1, 78},
		{"data that is no message", voting, []string{"-d", `{"x":1}`}, dog, clients.Other, -1, 78},
		{"nobody", nobody, nil, dog, clients.Refused, -1, 78},
		{"a close", func(t *testing.T) string {
			return accepting(t, func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) })
		}, nil, dog, clients.Closed, -1, 78},
		{"a reset", func(t *testing.T) string {
			return accepting(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)); c.SetLinger(0) })
		}, nil, dog, clients.Reset, -1, 78},
		{"silence", func(t *testing.T) string { return accepting(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }) },
			[]string{"-max-time", "300ms"}, dog, clients.Timeout, -1, 78},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := slices.Concat([]string{"-plaintext"}, row.args, []string{row.address(t), row.method})
			exit := run(t.Context(), args, &stdout, &stderr)
			var out clients.Outcome
			if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
				t.Fatalf("%v in %q", err, stdout.String())
			}
			if exit != row.exit || out.Kind != row.kind || out.GRPCStatus != row.status {
				t.Errorf("exit %d, %+v, want exit %d, %s and status %d", exit, out, row.exit, row.kind, row.status)
			}
			if row.kind == clients.PermissionDenied && out.LocalAddr == "" {
				t.Error("no local address")
			}
			if stderr.Len() > 0 {
				t.Errorf("stderr %q", stderr.String())
			}
		})
	}
}

func TestAUsageMistakeIsSaidOnStderr(t *testing.T) {
	for _, args := range [][]string{nil, {"a:1"}, {"-nonsense", "a:1", "b/c"}} {
		var stdout, stderr bytes.Buffer
		if exit := run(t.Context(), args, &stdout, &stderr); exit != exitUsage || stdout.Len() > 0 || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, exit, stdout.String(), stderr.String())
		}
	}
}
