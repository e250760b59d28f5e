package echo_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/serve"
)

// standIn runs one for a container that declares port 80.
func standIn(t *testing.T) (address, control net.Addr) {
	t.Helper()
	var group serve.Group
	addresses, err := echo.StandIn(&group, &lockedBuffer{}, []int{80}, func(int) string { return "127.0.0.1:0" })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return addresses[80], addresses[echo.PortControl]
}

func TestAStandInAnswersEachConnectionAsItIsAsked(t *testing.T) {
	address, control := standIn(t)
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for i, row := range []struct {
		request  clients.Request
		protocol string
		event    string
	}{
		{clients.Request{Protocol: clients.HTTP1, Path: "/healthz"}, "http1", echo.EventRequest},
		{clients.Request{Protocol: clients.HTTP2, Method: "POST", Body: []byte("body")}, "http2", echo.EventRequest},
		{clients.Request{Protocol: clients.HTTP1, TLS: clients.NoIdentity, ServerName: echo.TLSName}, "tls", echo.EventRequest},
		{clients.Request{Protocol: clients.HTTP2, TLS: clients.NoIdentity, ServerName: echo.TLSName}, "tls", echo.EventRequest},
		{clients.Request{Protocol: clients.GRPC, Method: "/meshproof.echo.v1.Echo/Say", Body: message("hi")}, "grpc", echo.EventRequest},
		{clients.Request{Protocol: clients.GRPC, Method: "/shop.Cart/Add", Body: message("hi")}, "grpc", echo.EventRequest},
		{clients.Request{Protocol: clients.GRPC, Method: "/grpc.health.v1.Health/Check"}, "grpc", echo.EventRequest},
		{clients.Request{Protocol: clients.TCP, Body: []byte("hello")}, "tcp", echo.EventLine},
		{clients.Request{Protocol: clients.TCP, Body: []byte("GETAWAY")}, "tcp", echo.EventLine},
		{clients.Request{Protocol: clients.HTTPUpgrade}, "http1", echo.EventRequest},
	} {
		row.request.ID = "call-" + strconv.Itoa(i)
		row.request.Address, row.request.Timeout = address.String(), plenty
		outcome := caller.Do(t.Context(), row.request)
		if outcome.Kind != clients.Allowed {
			t.Errorf("%s %s: %+v", row.request.Protocol, row.request.Method, outcome)
			continue
		}
		page := deliveries(t, control, "id="+row.request.ID)
		if len(page.Deliveries) == 0 || page.Deliveries[0].Protocol != row.protocol || page.Deliveries[0].Event != row.event || page.Deliveries[0].Port != 80 {
			t.Errorf("%s: delivered as %+v, want %s of %s at port 80", row.request.Protocol, page.Deliveries, row.event, row.protocol)
		}
	}
}

func TestAStandInWithoutWorkEndsAtOnce(t *testing.T) {
	if err := echo.StandInMain(t.Context(), []string{"-image=busybox", "-once"}); err != nil {
		t.Error(err)
	}
	if err := echo.StandInMain(t.Context(), []string{"-ports=none"}); err == nil {
		t.Error("a port that is none was taken")
	}
}
