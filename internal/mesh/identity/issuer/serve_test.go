package issuer

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The client that proxies use, over TLS, against the service as the role serves it.
func TestAProxyIsCertifiedOverTLS(t *testing.T) {
	ca := mkCA(t)
	service, _ := mkService(ca)
	name := values.Default().Identity(serviceAccount, values.Namespace)
	self, err := identity.NewLocalClient(identity.ClientConfig{LocalName: name, TrustAnchors: ca.Anchors()}, service.Sign)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	t.Cleanup(func() {
		cancel()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	address := freeAddress(t)
	serving := make(chan struct{})
	go func() { done <- self.Run(ctx) }()
	go func() { done <- serve(ctx, address, self, service, nil, serving) }()

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("web\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	<-serving
	client, err := identity.NewClient(identity.ClientConfig{
		Addr: address, ServerName: name, TokenFile: token, LocalName: web, TrustAnchors: ca.Anchors()})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- client.Run(ctx) }()
	select {
	case <-client.Ready():
	case <-t.Context().Done():
	}
	if left := time.Until(client.NotAfter()); left < DefaultLifetime/2 {
		t.Errorf("the client's certificate ends in %v", left)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
