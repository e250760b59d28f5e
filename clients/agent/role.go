package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
)

// headTime bounds a control request's head.
const headTime = 10 * time.Second

// Main is the role client: the control API on the pod's loopback address.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	listen := flags.String("listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(control.Port)), "address of the control API")
	if err := flags.Parse(args); err != nil {
		return err
	}
	caller := clients.New(clients.Options{})
	defer caller.Close()
	agent := New(caller)
	defer agent.Close()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	server := &http.Server{Handler: agent, ReadHeaderTimeout: headTime}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control API: %w", err)
	}
	<-stopped
	return nil
}
