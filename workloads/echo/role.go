package echo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/meshproof/meshproof/workloads/serve"
)

// certificateLife is the validity of the application's own certificate, made at
// start and lost with the process.
const certificateLife = 24 * time.Hour

// Main is the role echo: every port on all addresses, the control port on
// loopback.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil {
		return err
	}
	var group serve.Group
	_, err := Listen(&group, os.Stdout, func(port int) string {
		if port == PortControl {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
		return net.JoinHostPort("", strconv.Itoa(port))
	})
	if err != nil {
		return err
	}
	return group.Run(ctx)
}

// Listen adds all servers to group, each at the address that place gives for its
// port, writes deliveries to out, and returns the addresses by port.
func Listen(group *serve.Group, out io.Writer, place func(port int) string) (map[int]net.Addr, error) {
	recorder := NewRecorder(out)
	config, err := ownTLS()
	if err != nil {
		return nil, err
	}
	control := http.NewServeMux()
	control.Handle("GET /deliveries", recorder)
	addresses := map[int]net.Addr{}
	add := func(port int, listen func(address string) (net.Addr, error)) {
		if err == nil {
			addresses[port], err = listen(place(port))
		}
	}
	add(PortHTTP, func(a string) (net.Addr, error) { return group.HTTP(a, httpHandler(recorder, PortHTTP, false), true) })
	add(PortGRPC, func(a string) (net.Addr, error) { return group.GRPC(a, newGRPC(recorder, PortGRPC)) })
	add(PortTCP, func(a string) (net.Addr, error) { return group.Conns(a, lineHandler(recorder, PortTCP, "")) })
	add(PortServerFirst, func(a string) (net.Addr, error) {
		return group.Conns(a, lineHandler(recorder, PortServerFirst, Banner))
	})
	add(PortTLS, func(a string) (net.Addr, error) {
		return group.HTTPS(a, httpHandler(recorder, PortTLS, true), config)
	})
	// The last one, so that who answers there listens everywhere.
	add(PortControl, func(a string) (net.Addr, error) { return group.HTTP(a, control, false) })
	return addresses, err
}

// ownTLS is the configuration of a server that nobody's trust anchor covers.
func ownTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", TLSName, err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: TLSName}, DNSNames: []string{TLSName},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", TLSName, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
