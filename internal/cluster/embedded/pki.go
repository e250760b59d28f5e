package embedded

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

const (
	// certificateLife is how long the cluster's certificates are good for. A
	// cluster lives for minutes; one that was left standing lives for longer.
	certificateLife = 5 * 365 * 24 * time.Hour
	// clockSkew is how far back they are dated.
	clockSkew = time.Hour
)

// authority signs the certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// leaf is one certificate to be made, and the kubeconfig that holds it if it
// is a client's.
type leaf struct {
	name, commonName string
	organization     string
	addresses        []net.IP
	dnsNames         []string
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "meshproof-cluster"},
		NotBefore: time.Now().Add(-clockSkew), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return &authority{cert: cert, pem: encode("CERTIFICATE", der), key: key}, nil
}

// issue makes a certificate that is good for both ends of a connection.
func (a *authority) issue(l leaf) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key of %s: %w", l.name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("make serial of %s: %w", l.name, err)
	}
	subject := pkix.Name{CommonName: l.commonName}
	if l.organization != "" {
		subject.Organization = []string{l.organization}
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: subject, IPAddresses: l.addresses, DNSNames: l.dnsNames,
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate of %s: %w", l.name, err)
	}
	key, err = encodeKey(private)
	return encode("CERTIFICATE", der), key, err
}

// writePKI fills the state folder with everything that is signed: certificates
// for the components and kubeconfigs for their clients and for the user, whose
// server is the given address on the host.
func writePKI(state, name, hostServer string) error {
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	dir := filepath.Join(state, layout.PKI)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of certificates: %w", err)
	}
	write := func(name string, data []byte) error {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	}
	if err := write("ca.crt", authority.pem); err != nil {
		return err
	}
	node := net.IP(layout.NodeIP.AsSlice())
	for _, l := range []leaf{
		{name: "apiserver", commonName: "kube-apiserver",
			addresses: []net.IP{node, layout.KubernetesService.AsSlice(), net.IPv4(127, 0, 0, 1)},
			dnsNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + layout.ClusterDomain}},
		{name: "apiserver-kubelet", commonName: "kube-apiserver-kubelet-client", organization: "system:masters"},
		{name: "kubelet", commonName: "system:node:" + layout.NodeName, organization: "system:nodes",
			addresses: []net.IP{node}, dnsNames: []string{layout.NodeName}},
	} {
		cert, key, err := authority.issue(l)
		if err == nil {
			err = write(l.name+".crt", cert)
		}
		if err == nil {
			err = write(l.name+".key", key)
		}
		if err != nil {
			return err
		}
	}
	if err := writeTokenKeys(write); err != nil {
		return err
	}
	inside := fmt.Sprintf("https://%s:%d", layout.NodeIP, layout.APIPort)
	for _, client := range []struct {
		leaf
		server, path string
	}{
		// The controllers share one identity and must be able to do what all of
		// them do; nobody examines their rights here.
		{leaf{commonName: "system:kube-controller-manager", organization: "system:masters"}, inside, filepath.Join(dir, "controller-manager.kubeconfig")},
		{leaf{commonName: "system:kube-scheduler", organization: "system:masters"}, inside, filepath.Join(dir, "scheduler.kubeconfig")},
		{leaf{commonName: "system:node:" + layout.NodeName, organization: "system:nodes"}, inside, filepath.Join(dir, "kubelet.kubeconfig")},
		{leaf{commonName: "meshproof-node", organization: "system:masters"}, inside, filepath.Join(dir, layout.NodeKubeconfig)},
		{leaf{commonName: "meshproof-admin", organization: "system:masters"}, hostServer, filepath.Join(state, layout.Kubeconfig)},
	} {
		cert, key, err := authority.issue(client.leaf)
		if err != nil {
			return err
		}
		if err := os.WriteFile(client.path, kubeconfig("meshproof-"+name, client.server, authority.pem, cert, key), 0o600); err != nil {
			return fmt.Errorf("write kubeconfig of %s: %w", client.commonName, err)
		}
	}
	return nil
}

// writeTokenKeys makes the pair that signs ServiceAccount tokens.
func writeTokenKeys(write func(string, []byte) error) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make token key: %w", err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode token key: %w", err)
	}
	if err := write("sa.key", private); err != nil {
		return err
	}
	return write("sa.pub", encode("PUBLIC KEY", public))
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// kubeconfig is a file with one cluster, one user and one context, all of the
// given name.
func kubeconfig(name, server string, authority, cert, key []byte) []byte {
	text := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	var out bytes.Buffer
	fmt.Fprintf(&out, `apiVersion: v1
kind: Config
current-context: %[1]s
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[1]s}
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
`, name, server, text(authority), text(cert), text(key))
	return out.Bytes()
}
