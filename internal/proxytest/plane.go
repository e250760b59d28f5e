// Package proxytest starts the real proxy as a process of its own on loopback,
// with a stub of the control plane behind it, for suites that attack or measure
// it from outside.
//
//	                Plane: identity and policies, over gRPC
//	                  |
//	client -> pair -> proxy (process) -> application
//
// A Plane certifies everybody and serves what it was told as policy; the proxy
// believes it as it would the real one. Package standalone is the program.
//
// It judges nothing and knows no protocol above TCP.
package proxytest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	pbid "github.com/linkerd/linkerd2-proxy-api/go/identity"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// The names of the plane's world.
const (
	// ProxyName is what the proxy is certified for.
	ProxyName    = "app.apps.serviceaccount.identity.linkerd.cluster.local"
	identityName = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
)

// certifiedFor is told as the life of certificates; they live as long as identitytest's.
const certifiedFor = time.Hour

// Plane is a control plane for any number of proxies.
type Plane struct {
	// CA signs the proxies' certificates; clients' ones come from it too.
	CA *identitytest.CA

	policies *policies
	identity string
	policy   string
	servers  []*grpc.Server
	serving  sync.WaitGroup
}

// NewPlane starts a control plane without policies. Close ends it.
func NewPlane() (*Plane, error) {
	ca, err := identitytest.MakeCA("mesh")
	if err != nil {
		return nil, fmt.Errorf("make the mesh's authority: %w", err)
	}
	leaf, err := ca.MakeLeaf(identityName, nil, nil)
	if err != nil {
		return nil, err
	}
	p := &Plane{CA: ca, policies: newPolicies()}
	p.identity, err = p.serve(func(s *grpc.Server) { pbid.RegisterIdentityServer(s, certifier{ca: ca}) },
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{leaf}})))
	if err == nil {
		p.policy, err = p.serve(func(s *grpc.Server) { pb.RegisterInboundServerPoliciesServer(s, p.policies) })
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plane) serve(register func(*grpc.Server), options ...grpc.ServerOption) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for proxies: %w", err)
	}
	server := grpc.NewServer(options...)
	register(server)
	p.servers = append(p.servers, server)
	p.serving.Go(func() { server.Serve(listener) })
	return listener.Addr().String(), nil
}

// Close ends the plane; proxies keep what they have.
func (p *Plane) Close() {
	for _, server := range p.servers {
		server.Stop()
	}
	p.serving.Wait()
}

// Set makes server the policy of a port in every proxy. It does not wait: see Proxy.Apply.
func (p *Plane) Set(port uint16, server *pb.Server) { p.policies.set(port, server) }

// Replace ends all streams of policies and answers new ones by server on this
// port: as when another controller takes over.
func (p *Plane) Replace(port uint16, server *pb.Server) { p.policies.replace(port, server) }

// Asked is how new the proxy that last asked for a port's policy wants it to be: see
// package revision.
func (p *Plane) Asked(port uint16) string {
	p.policies.mu.Lock()
	defer p.policies.mu.Unlock()
	return p.policies.asked[uint32(port)]
}

// Watched waits until a proxy has been told the newest policy of a port.
func (p *Plane) Watched(ctx context.Context, port uint16) error { return p.policies.told(ctx, port) }

type certifier struct {
	pbid.UnimplementedIdentityServer
	ca *identitytest.CA
}

func (c certifier) Certify(ctx context.Context, in *pbid.CertifyRequest) (*pbid.CertifyResponse, error) {
	chain, err := c.ca.Sign(nil)(ctx, in.CertificateSigningRequest)
	if err != nil {
		return nil, err
	}
	return &pbid.CertifyResponse{LeafCertificate: chain[0], ValidUntil: timestamppb.New(time.Now().Add(certifiedFor))}, nil
}

// policies is the stub: what was set, every watcher of the port gets.
type policies struct {
	pb.UnimplementedInboundServerPoliciesServer
	mu      sync.Mutex
	servers map[uint32]*pb.Server
	changed chan struct{}
	// cut is closed and made anew when all streams are to end; sent is what was last told of a port, and changes with it.
	cut  chan struct{}
	sent map[uint32]*pb.Server
	// asked is what was last asked for, by port.
	asked map[uint32]string
}

func newPolicies() *policies {
	return &policies{servers: map[uint32]*pb.Server{}, sent: map[uint32]*pb.Server{}, asked: map[uint32]string{}, changed: make(chan struct{}), cut: make(chan struct{})}
}

func (p *policies) replace(port uint16, server *pb.Server) {
	p.set(port, server)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.cut)
	p.cut = make(chan struct{})
}

func (p *policies) told(ctx context.Context, port uint16) error {
	for {
		p.mu.Lock()
		done, changed := p.sent[uint32(port)] == p.servers[uint32(port)], p.changed
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("port %d is not watched: %w", port, ctx.Err())
		}
	}
}

// tell notes what a watcher of a port has been sent.
func (p *policies) tell(port uint32, server *pb.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[port] = server
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *policies) set(port uint16, server *pb.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers[uint32(port)] = server
	close(p.changed)
	p.changed = make(chan struct{})
}

// WatchPort implements the API.
func (p *policies) WatchPort(spec *pb.PortSpec, stream pb.InboundServerPolicies_WatchPortServer) error {
	var sent *pb.Server
	least := metadata.ValueFromIncomingContext(stream.Context(), revision.LeastKey)
	p.mu.Lock()
	p.asked[spec.Port] = strings.Join(least, " and ")
	cut := p.cut
	p.mu.Unlock()
	for {
		p.mu.Lock()
		server, changed := p.servers[spec.Port], p.changed
		p.mu.Unlock()
		if server != nil && server != sent {
			if err := stream.Send(server); err != nil {
				return err
			}
			sent = server
			p.tell(spec.Port, server)
			continue
		}
		select {
		case <-changed:
		case <-cut:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}
