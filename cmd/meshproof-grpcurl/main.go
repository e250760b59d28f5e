// Command meshproof-grpcurl makes one gRPC call with the grpcurl library and
// prints what became of it as one Outcome in JSON.
//
//	meshproof-grpcurl -plaintext [-d JSON] [-H 'name: value'] [-max-time D] host:port package.Service/Method
//
// It asks the server's reflection for the method, as grpcurl does, so a denial
// shows there already. The kind is decided by status code and by what happened
// to the connection; the library turns an HTTP 403 into PermissionDenied, so a
// caller that must tell these apart uses package clients. Exit code: 0 when the
// call was allowed, otherwise 64 plus the status code as with grpcurl's
// -format-error (Unavailable when there was none), and 4 for a usage mistake.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/codes"

	"github.com/meshproof/meshproof/clients"
)

const (
	exitUsage = 4
	// exitStatus is added to a status code, as grpcurl does.
	exitStatus = 64
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c call
	flags := flag.NewFlagSet("meshproof-grpcurl", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&c.plaintext, "plaintext", false, "speak no TLS")
	flags.BoolVar(&c.insecure, "insecure", false, "accept any server certificate")
	flags.StringVar(&c.serverName, "servername", "", "server name for TLS")
	flags.StringVar(&c.data, "d", "", "request messages in JSON; none is a message of defaults")
	flags.DurationVar(&c.timeout, "max-time", clients.DefaultTimeout, "bound on everything")
	flags.Func("H", "header as 'name: value', may be repeated", func(value string) error {
		c.headers = append(c.headers, value)
		return nil
	})
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: meshproof-grpcurl [flags] host:port package.Service/Method")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	if flags.NArg() != 2 {
		flags.Usage()
		return exitUsage
	}
	c.address, c.method = flags.Arg(0), flags.Arg(1)
	outcome := c.do(ctx)
	if err := json.NewEncoder(stdout).Encode(outcome); err != nil {
		fmt.Fprintf(stderr, "meshproof-grpcurl: write the outcome: %v\n", err)
		return exitUsage
	}
	switch {
	case outcome.Kind == clients.Allowed:
		return 0
	case outcome.GRPCStatus > 0:
		return exitStatus + outcome.GRPCStatus
	}
	return exitStatus + int(codes.Unavailable)
}
