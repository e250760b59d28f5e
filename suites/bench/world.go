package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/clients/load/sink"
	"github.com/meshproof/meshproof/internal/proxytest"
)

const loopback = "127.0.0.1"

// Roles of this program besides measuring.
const (
	roleSink    = "sink"
	roleReverse = "reverse"
)

// world is what all targets share.
type world struct {
	// program is this one, for its roles; standalone is that of the proxy.
	program, standalone string
	// dir has server.pem (chain and key) and ca.pem.
	dir    string
	plane  *proxytest.Plane
	client *tls.Config
	// sink are the applications' addresses.
	sink    map[load.Protocol]string
	sinking *process
}

// newWorld starts the applications on the processors.
func newWorld(ctx context.Context, standalone string, processors []int) (_ *world, err error) {
	w := &world{standalone: standalone, sink: map[load.Protocol]string{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.program, err = os.Executable(); err != nil {
		return nil, err
	}
	if w.dir, err = os.MkdirTemp("", "meshproof-bench-"); err != nil {
		return nil, err
	}
	if w.plane, err = proxytest.NewPlane(); err != nil {
		return nil, err
	}
	if err = w.certify(); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	err = on(processors, func() (err error) {
		w.sinking, err = launch(ctx, &w.sink, []string{"GOMAXPROCS=1", fmt.Sprintf("GOGC=%d", loadGarbage)}, w.program, roleSink)
		return err
	})
	return w, err
}

// certify makes one certificate for the servers, ours aside, which has its own of
// the mesh's authority, and one for the client, who offers the one curve that all
// of them have.
func (w *world) certify() error {
	server, err := w.plane.CA.MakeLeaf(proxytest.ProxyName, nil, nil)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return err
	}
	bundle := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	const secret = 0o600
	for name, content := range map[string][]byte{"server.pem": bundle, "ca.pem": w.plane.CA.PEM()} {
		if err := os.WriteFile(filepath.Join(w.dir, name), content, secret); err != nil {
			return err
		}
	}
	own, err := w.plane.CA.MakeLeaf(clientName, nil, nil)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.plane.CA.Certificate)
	servers := &acquaintances{roots: roots, name: proxytest.ProxyName}
	w.client = &tls.Config{Certificates: []tls.Certificate{own}, ServerName: proxytest.ProxyName,
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		InsecureSkipVerify: true, VerifyConnection: servers.check}
	return nil
}

// acquaintances are certificates that a client has verified. It does so once for
// each, and knows it by its bytes afterwards: the client is not what is measured,
// and shares its processor with the applications.
type acquaintances struct {
	roots *x509.CertPool
	name  string
	// verified has the bytes of leaves, of as many as there are targets.
	verified sync.Map
}

// check is a tls.Config's VerifyConnection.
func (a *acquaintances) check(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	if _, ok := a.verified.Load(string(leaf.Raw)); ok {
		return nil
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.roots, DNSName: a.name}); err != nil {
		return err
	}
	a.verified.Store(string(leaf.Raw), nil)
	return nil
}

func (w *world) close() {
	if w.sinking != nil {
		w.sinking.stop()
	}
	if w.plane != nil {
		w.plane.Close()
	}
	if w.dir != "" {
		os.RemoveAll(w.dir)
	}
}

// neighbour is where the load comes from: to the proxy, localhost needs no policy.
var neighbour = netip.MustParseAddr(proxytest.Neighbour)

// serveSinks is the role sink.
func serveSinks(ctx context.Context, out io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	listening := map[load.Protocol]string{}
	for _, protocol := range protocols {
		listener, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return err
		}
		listening[protocol] = listener.Addr().String()
		group.Go(func() error { return sink.Serve(ctx, listener, protocol) })
	}
	if err := json.NewEncoder(out).Encode(listening); err != nil {
		return err
	}
	return group.Wait()
}
