package clients_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// authority is a mesh's root for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a authority) leaf(t *testing.T, name string) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Certificate makes the authority a clients.Certifier for the identity "web".
type certifier struct {
	authority
	leaf *tls.Certificate
}

func (c certifier) Certificate(context.Context) (*tls.Certificate, *x509.CertPool, error) {
	return c.leaf, c.pool(), nil
}

// heard is what a server of the test saw of a client.
type heard struct {
	ServerName string
	ALPN       string
	Version    uint16
	Client     []string
	First      []byte
	// Failure is the handshake's, "" when there was none.
	Failure string
}

// proxyLike terminates TLS as the identity "voting", asks for a certificate and
// reads n bytes.
func proxyLike(t *testing.T, mesh authority, n int, protocols ...string) (string, <-chan heard) {
	config := &tls.Config{Certificates: []tls.Certificate{*mesh.leaf(t, "voting")}, ClientAuth: tls.RequestClientCert, NextProtos: protocols, ClientCAs: mesh.pool()}
	result := make(chan heard, 8)
	address := listen(t, func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			result <- heard{Failure: err.Error()}
			return
		}
		state := secure.ConnectionState()
		h := heard{ServerName: state.ServerName, ALPN: state.NegotiatedProtocol, Version: state.Version, First: make([]byte, n)}
		if len(state.PeerCertificates) > 0 {
			h.Client = state.PeerCertificates[0].DNSNames
		}
		io.ReadFull(secure, h.First)
		result <- h
	})
	return address, result
}

func TestADirectConnectionNamesItsTargetAsTheWireWantsIt(t *testing.T) {
	preface := []byte("transport.l5d.io/v1\r\n\r\n")
	for _, row := range []struct {
		name   string
		header clients.TransportHeader
		// message is written out by hand: field 1 varint, 2 string, 3 message.
		message []byte
	}{
		{"a port", clients.TransportHeader{Port: 8080}, []byte{0x08, 0x90, 0x3f}},
		{"a port and HTTP/1", clients.TransportHeader{Port: 8080, Session: clients.HTTP1}, []byte{0x08, 0x90, 0x3f, 0x1a, 2, 0x0a, 0}},
		{"a port and HTTP/2", clients.TransportHeader{Port: 8080, Session: clients.HTTP2}, []byte{0x08, 0x90, 0x3f, 0x1a, 2, 0x12, 0}},
		{"a name", clients.TransportHeader{Port: 80, Name: "web"}, []byte{0x08, 80, 0x12, 3, 'w', 'e', 'b'}},
		{"nothing", clients.TransportHeader{}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			mesh := newAuthority(t)
			want := append(append(bytes.Clone(preface), 0, 0, 0, byte(len(row.message))), row.message...)
			want = append(want, "id-1\n"...)
			address, result := proxyLike(t, mesh, len(want), clients.TransportALPN, "h2")
			caller := clients.New(clients.Options{Certifier: certifier{mesh, mesh.leaf(t, "web")}})
			defer caller.Close()
			caller.Do(t.Context(), clients.Request{ID: "id-1", Protocol: clients.TCP, Address: address, TLS: clients.OwnIdentity,
				ServerName: "voting", Transport: &row.header})
			got := <-result
			wanted := heard{ServerName: "voting", ALPN: clients.TransportALPN, Version: tls.VersionTLS13, Client: []string{"web"}, First: want}
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("heard %+v\nwant  %+v", got, wanted)
			}
		})
	}
}

func TestEachTLSModePresentsWhatItPromises(t *testing.T) {
	mesh := newAuthority(t)
	row := func(mode clients.TLSMode, protocol clients.Protocol, claimed string) clients.Request {
		r := clients.Request{ID: "id-1", Protocol: protocol, TLS: mode, ServerName: "voting", ClaimedIdentity: claimed}
		if protocol == clients.GRPC {
			r.Method = "/a.B/C"
		}
		return r
	}
	offered := []string{"h2", "http/1.1"}
	for _, r := range []struct {
		name    string
		request clients.Request
		want    heard
	}{
		{"nobody, HTTP/1", row(clients.NoIdentity, clients.HTTP1, ""), heard{ALPN: "http/1.1"}},
		{"nobody, HTTP/2", row(clients.NoIdentity, clients.HTTP2, ""), heard{ALPN: "h2"}},
		{"nobody, TCP", row(clients.NoIdentity, clients.TCP, ""), heard{}},
		{"a forger, gRPC", row(clients.ForeignRoot, clients.GRPC, "web"), heard{ALPN: "h2", Client: []string{"web"}}},
		{"itself, TCP", row(clients.OwnIdentity, clients.TCP, ""), heard{Client: []string{"vote-bot"}}},
		{"itself without ALPN, HTTP/1", func() clients.Request {
			r := row(clients.OwnIdentity, clients.HTTP1, "")
			r.ALPN = []string{""}
			return r
		}(), heard{Client: []string{"vote-bot"}}},
		{"whoever it is given, HTTP/2", func() clients.Request {
			r := row(clients.Presented, clients.HTTP2, "")
			r.Certificate = pair(t, mesh.leaf(t, "somebody"))
			return r
		}(), heard{ALPN: "h2", Client: []string{"somebody"}}},
	} {
		t.Run(r.name, func(t *testing.T) {
			address, result := proxyLike(t, mesh, 1, offered...)
			caller := clients.New(clients.Options{Certifier: certifier{mesh, mesh.leaf(t, "vote-bot")}})
			defer caller.Close()
			r.request.Address = address
			out := caller.Do(t.Context(), r.request)
			got := <-result
			r.want.ServerName, r.want.Version, r.want.First = "voting", tls.VersionTLS13, got.First
			if !reflect.DeepEqual(got, r.want) {
				t.Errorf("heard %+v\nwant  %+v", got, r.want)
			}
			if !reflect.DeepEqual(out.ServerNames, []string{"voting"}) {
				t.Errorf("server names %v, want voting", out.ServerNames)
			}
		})
	}
}

// pair is a certificate in the form of a request.
func pair(t *testing.T, certificate *tls.Certificate) *clients.KeyPair {
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &clients.KeyPair{Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))}
}

func TestItselfTalksOnlyToWhomItExpects(t *testing.T) {
	mesh, other := newAuthority(t), newAuthority(t)
	address, _ := proxyLike(t, mesh, 1)
	for _, r := range []struct {
		name       string
		roots      authority
		serverName string
	}{{"another name", mesh, "emoji"}, {"another root", other, "voting"}} {
		t.Run(r.name, func(t *testing.T) {
			caller := clients.New(clients.Options{Certifier: certifier{r.roots, mesh.leaf(t, "web")}})
			defer caller.Close()
			out := caller.Do(t.Context(), clients.Request{Protocol: clients.TCP, Address: address, TLS: clients.OwnIdentity, ServerName: r.serverName})
			if out.Kind != clients.TLSFailure {
				t.Errorf("got %+v, want a TLS failure", out)
			}
		})
	}
}
