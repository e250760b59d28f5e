package identity_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
)

const issuer = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"

// identityService signs what carries the right token and remembers its callers.
type identityService struct {
	pb.UnimplementedIdentityServer
	sign identity.Signer

	mu      sync.Mutex
	callers []string
	refuse  int // answer Unavailable this many times first
}

func (s *identityService) Certify(ctx context.Context, r *pb.CertifyRequest) (*pb.CertifyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := peer.FromContext(ctx)
	s.callers = append(s.callers, identity.PeerIdentity(p.AuthInfo.(credentials.TLSInfo).State))
	if s.refuse > 0 {
		s.refuse--
		return nil, status.Error(codes.Unavailable, "issuer not loaded")
	}
	if string(r.GetToken()) != "a token" {
		return nil, status.Error(codes.FailedPrecondition, "wrong token")
	}
	chain, err := s.sign(ctx, r.GetCertificateSigningRequest())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &pb.CertifyResponse{LeafCertificate: chain[0]}, nil
}

func serve(t *testing.T, ca *identitytest.CA, service *identityService) identity.ClientConfig {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(ca.Client(t, issuer).ServerConfig())))
	pb.RegisterIdentityServer(server, service)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return identity.ClientConfig{Addr: listener.Addr().String(), ServerName: issuer, TokenFile: token,
		LocalName: web, TrustAnchors: ca.PEM()}
}

func run(t *testing.T, client *identity.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func awaitReady(t *testing.T, client *identity.Client) {
	t.Helper()
	select {
	case <-client.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("never certified")
	}
}

func TestAClientIsCertifiedByTheServiceAfterItsFailures(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	service := &identityService{sign: ca.Sign(nil), refuse: 2}
	client, err := identity.NewClient(serve(t, ca, service))
	if err != nil {
		t.Fatal(err)
	}
	run(t, client)
	awaitReady(t, client)
	s := handshake(t, ca.Client(t, voting).ServerConfig(), client.ClientConfig(voting))
	if got := identity.PeerIdentity(s.server); got != web {
		t.Errorf("certified as %q (server %v, client %v)", got, s.serverErr, s.clientErr)
	}
	service.mu.Lock()
	defer service.mu.Unlock()
	if got := strings.Join(service.callers, ","); got != ",," {
		t.Errorf("callers %q, want three without a certificate", got)
	}
}

func TestAnImpostorOfTheServiceIsNotAsked(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	service := &identityService{sign: ca.Sign(nil)}
	config := serve(t, ca, service)
	config.ServerName = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
	client, err := identity.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, client)
	select {
	case <-client.Ready():
		t.Fatal("certified by a service with another name")
	case <-time.After(300 * time.Millisecond): // two attempts at least
	}
	service.mu.Lock()
	defer service.mu.Unlock()
	if len(service.callers) != 0 {
		t.Error("the token was sent to it")
	}
}

func TestRenewalComesAtSeventyPercentAndKeepsTheOldLeafThroughFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.NewCA(t, "ours")
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		attempts := func() []time.Duration { mu.Lock(); defer mu.Unlock(); return slices.Clone(at) }
		var fail atomic.Bool
		sign := func(ctx context.Context, csr []byte) ([][]byte, error) {
			mu.Lock()
			at = append(at, time.Since(start))
			mu.Unlock()
			if fail.Load() {
				return nil, errors.New("service is down")
			}
			return ca.Sign(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })(ctx, csr)
		}
		client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: ca.PEM()}, sign)
		if err != nil {
			t.Fatal(err)
		}
		run(t, client)
		<-client.Ready()
		first := client.NotAfter()
		time.Sleep(43 * time.Minute)
		synctest.Wait()
		if at := attempts(); len(at) != 2 || at[1] != 42*time.Minute {
			t.Fatalf("certified at %v, want at 0 and 42 minutes", at)
		}
		if !client.NotAfter().After(first) {
			t.Error("the renewed leaf is not in use")
		}
		second := client.NotAfter()
		fail.Store(true)
		time.Sleep(45 * time.Minute)
		synctest.Wait()
		if n := len(attempts()) - 2; n < 10 || n > 60 {
			t.Errorf("%d attempts in about three minutes, want one each 10 s or so after the first few", n)
		}
		if client.NotAfter() != second {
			t.Error("a failed renewal changed the leaf")
		}
		if s := handshake(t, client.ServerConfig(), presenting()); s.serverErr != nil {
			t.Errorf("the old leaf is refused before its end: %v", s.serverErr)
		}
		time.Sleep(time.Until(second) + time.Minute)
		if s := handshake(t, client.ServerConfig(), presenting()); !errors.Is(s.serverErr, identity.ErrNotCertified) {
			t.Errorf("a leaf past its end is still presented: %v", s.serverErr)
		}
		fail.Store(false)
		time.Sleep(15 * time.Second)
		if s := handshake(t, client.ServerConfig(), presenting()); s.serverErr != nil {
			t.Errorf("not certified again: %v", s.serverErr)
		}
	})
}

func TestRenewalIntervalIsBounded(t *testing.T) {
	for name, row := range map[string]struct {
		life time.Duration
		want time.Duration
	}{
		"short life": {2 * time.Second, 10 * time.Second},
		"long life":  {72 * time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := identitytest.NewCA(t, "ours")
				start := time.Now()
				var second atomic.Int64
				n := 0
				client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: ca.PEM()},
					func(ctx context.Context, csr []byte) ([][]byte, error) {
						if n++; n == 2 {
							second.Store(int64(time.Since(start)))
						}
						return ca.Sign(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(row.life) })(ctx, csr)
					})
				if err != nil {
					t.Fatal(err)
				}
				run(t, client)
				time.Sleep(row.want + time.Second)
				synctest.Wait()
				if second := time.Duration(second.Load()); second != row.want {
					t.Errorf("second certification after %v, want %v", second, row.want)
				}
			})
		})
	}
}

func TestAWrongLeafFromTheSignerIsNotTaken(t *testing.T) {
	ca, foreign := identitytest.NewCA(t, "ours"), identitytest.NewCA(t, "foreign")
	for name, sign := range map[string]identity.Signer{
		"another name":      ca.Sign(names(voting)),
		"another authority": foreign.Sign(nil),
		"no client usage":   ca.Sign(usages(x509.ExtKeyUsageServerAuth)),
		"another key":       func(context.Context, []byte) ([][]byte, error) { return ca.Leaf(t, web, nil).Certificate, nil },
		"nothing":           func(context.Context, []byte) ([][]byte, error) { return nil, nil },
		"rubbish":           func(context.Context, []byte) ([][]byte, error) { return [][]byte{[]byte("PEM?")}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: ca.PEM()}, sign)
			if err != nil {
				t.Fatal(err)
			}
			run(t, client)
			select {
			case <-client.Ready():
				t.Fatal("taken")
			case <-time.After(250 * time.Millisecond): // one attempt and one repetition at least
			}
		})
	}
}

func TestIncompleteSettingsAreRefusedAtOnce(t *testing.T) {
	anchors := identitytest.NewCA(t, "ours").PEM()
	whole := identity.ClientConfig{Addr: "127.0.0.1:1", ServerName: issuer, TokenFile: "t", LocalName: web, TrustAnchors: anchors}
	if _, err := identity.NewClient(whole); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*identity.ClientConfig){
		"no address":     func(c *identity.ClientConfig) { c.Addr = "" },
		"no server name": func(c *identity.ClientConfig) { c.ServerName = "" },
		"no token file":  func(c *identity.ClientConfig) { c.TokenFile = "" },
		"no local name":  func(c *identity.ClientConfig) { c.LocalName = "" },
		"bad local name": func(c *identity.ClientConfig) { c.LocalName = "*.a" },
		"no anchors":     func(c *identity.ClientConfig) { c.TrustAnchors = []byte("none") },
		"bounds crossed": func(c *identity.ClientConfig) { c.MinRefresh, c.MaxRefresh = time.Hour, time.Minute },
	} {
		config := whole
		spoil(&config)
		if _, err := identity.NewClient(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
