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
	// maxStreams bounds what a connection can make this process run, also by streams
	// that it opens and resets at once. It is how many ports a pod has: a proxy asks for
	// each once, so that no honest one ever waits. A smaller number would let a scan of
	// a pod's ports use it up and hold back the policy of the next port. Linkerd's
	// controller sets none, and no keepalive either: it leaves both to the proxy in
	// front of it, which this one has not.
	maxStreams = 1<<16 - 1
	// maxHead and maxRequest are many times what a proxy sends: a workload's name, a
	// port and a few fields.
	maxHead    = 16 << 10
	maxRequest = 16 << 10
	// handshakeTimeout is what a connection gets to become one of HTTP/2, mesh TLS
	// included.
	handshakeTimeout = 10 * time.Second
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
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHead), grpc.MaxRecvMsgSize(maxRequest),
		grpc.ConnectionTimeout(handshakeTimeout),
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
