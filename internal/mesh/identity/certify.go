package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"

	pb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
)

// certifyRemotely asks the identity service. The connection is closed after the
// answer: at one certificate a day there is nothing to keep it for. No client
// certificate is presented, since at first there is none.
func (c *Client) certifyRemotely(ctx context.Context, csr []byte) ([][]byte, error) {
	token, err := os.ReadFile(c.config.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account token: %w", err)
	}
	dialer := sockopt.Dialer(c.config.SocketMark)
	conn, err := grpc.NewClient("passthrough:///"+c.config.Addr,
		grpc.WithTransportCredentials(credentials.NewTLS(c.bootstrapConfig())),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to the identity service at %s: %w", c.config.Addr, err)
	}
	defer conn.Close()
	// Fields are DER, whatever their comments say (J-01).
	answer, err := pb.NewIdentityClient(conn).Certify(ctx, &pb.CertifyRequest{
		Identity:                  c.config.LocalName,
		Token:                     bytes.TrimSpace(token),
		CertificateSigningRequest: csr,
	})
	if err != nil {
		return nil, fmt.Errorf("ask the identity service at %s: %w", c.config.Addr, err)
	}
	return append([][]byte{answer.GetLeafCertificate()}, answer.GetIntermediateCertificates()...), nil
}

// bootstrapConfig is ClientConfig without a certificate of one's own.
func (c *Client) bootstrapConfig() *tls.Config {
	config := c.ClientConfig(c.config.ServerName)
	config.GetClientCertificate = nil
	return config
}
