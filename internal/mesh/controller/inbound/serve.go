package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	// keepaliveInterval and keepaliveTimeout find a proxy that has vanished
	// without closing; together they stay below 15 s (fault F4).
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 4 * time.Second
	// clientKeepalive is how often a client may ping without being cut off.
	clientKeepalive = 5 * time.Second
	// stopTimeout is what streams and calls get to end by themselves.
	stopTimeout = 2 * time.Second
	// Buffers are small: there are as many connections as proxies, and a message
	// rarely fills one.
	bufferSize = 4 << 10
	// window is HTTP/2's own default: what proxies send fits many times over. To say
	// so spares each connection the pings by which a better one would be looked for.
	window = 1<<16 - 1
)

// Serve answers on the listener until ctx ends; s.Stopping must be closed then
// too, so that streams end in good order. config nil means plaintext.
func Serve(ctx context.Context, listener net.Listener, config *tls.Config, s *Service, options ...grpc.ServerOption) error {
	options = append(options,
		grpc.ForceServerCodecV2(newCodec()),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientKeepalive, PermitWithoutStream: true}),
		grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize), grpc.SharedWriteBuffer(true),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
	)
	if config != nil {
		options = append(options, grpc.Creds(meshTLS{credentials.NewTLS(config), config}))
	}
	server := grpc.NewServer(options...)
	inboundpb.RegisterInboundServerPoliciesServer(server, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience := time.AfterFunc(stopTimeout, server.Stop)
		defer patience.Stop()
		server.GracefulStop()
	})
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve policy on %s: %w", listener.Addr(), err)
	}
	return nil
}

// meshTLS accepts clients that offer no application protocol, as Linkerd's
// proxies do not; the library's own credentials refuse them.
type meshTLS struct {
	credentials.TransportCredentials
	config *tls.Config
}

// ServerHandshake implements credentials.TransportCredentials. The library has
// put its deadline on the connection.
func (m meshTLS) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	connection := tls.Server(raw, m.config)
	if err := connection.Handshake(); err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("mesh TLS with %s: %w", raw.RemoteAddr(), err)
	}
	info := credentials.TLSInfo{
		State: connection.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
	return connection, info, nil
}

// Clone implements credentials.TransportCredentials.
func (m meshTLS) Clone() credentials.TransportCredentials {
	return meshTLS{m.TransportCredentials.Clone(), m.config}
}
