package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/clients/certify"
)

// The environment by which a client pod gets a mesh certificate of its own, for
// requests with OwnIdentity. Without EnvIdentity it has none. The other names
// of certify.Source have the defaults of an ordinary installation.
const (
	// EnvIdentity is the identity to be certified for.
	EnvIdentity = "MESHPROOF_CLIENT_IDENTITY"
	// EnvRoots is the PEM text of the mesh's trust anchors.
	EnvRoots = "MESHPROOF_CLIENT_TRUST_ANCHORS"
	// EnvIdentityAddress is the identity service's host:port.
	EnvIdentityAddress = "MESHPROOF_CLIENT_IDENTITY_ADDRESS"
	// EnvTokenFile is the file of the ServiceAccount token.
	EnvTokenFile = "MESHPROOF_CLIENT_TOKEN_FILE"
)

// EnvLocalAddress is the address that calls come from; without it the kernel
// picks one. The identity service is asked from whatever the kernel picks.
const EnvLocalAddress = "MESHPROOF_CLIENT_LOCAL_ADDRESS"

// Main is the role client: the control API on the pod's loopback address, whose
// port it prints (control.Announcement).
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	listen := flags.String("listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(control.Port)), "address of the control API")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var options clients.Options
	if text := os.Getenv(EnvLocalAddress); text != "" {
		var err error
		if options.LocalAddress, err = netip.ParseAddr(text); err != nil {
			return fmt.Errorf("read %s: %w", EnvLocalAddress, err)
		}
	}
	if name := os.Getenv(EnvIdentity); name != "" {
		options.Certifier = &certify.Source{Name: name, Roots: []byte(os.Getenv(EnvRoots)),
			Address: os.Getenv(EnvIdentityAddress), TokenFile: os.Getenv(EnvTokenFile)}
	}
	caller := clients.New(options)
	defer caller.Close()
	agent := New(caller)
	defer agent.Close()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	fmt.Println(control.Announcement(listener.Addr().(*net.TCPAddr).Port))
	// No time-out for heads: an HTTP client opens connections that it does not use
	// yet, and one that is closed just when it is used has lost a request that must
	// not be sent twice. Nobody but the harness reaches this port.
	server := &http.Server{Handler: agent}
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
