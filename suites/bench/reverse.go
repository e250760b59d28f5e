package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/meshproof/meshproof/clients/load"
)

// startReverse starts this program's role reverse.
func startReverse(ctx context.Context, w *world, _ string) (instance, error) {
	listening := map[string]string{}
	sinks, err := json.Marshal(w.sink)
	if err != nil {
		return nil, err
	}
	p, err := launch(ctx, &listening, []string{"GOMAXPROCS=1"}, w.program, roleReverse, w.dir, string(sinks))
	if err != nil {
		return nil, err
	}
	ports := map[service]string{}
	for _, s := range allServices() {
		ports[s] = listening[s.String()] // "" for bulk
	}
	return ported{p, ports}, nil
}

// reverse is Go's own reverse proxy with what its documentation offers for speed:
// pooled buffers, as many kept connections as there are clients, and no
// compression.
func reverse(ctx context.Context, out io.Writer, dir string, sinks map[load.Protocol]string) error {
	config, err := serverTLS(dir)
	if err != nil {
		return err
	}
	listening := map[string]string{}
	servers := []*http.Server{}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() {
		for _, server := range servers {
			server.Close()
		}
	}()
	for _, s := range allServices() {
		if s.protocol == load.Bulk {
			continue
		}
		server := &http.Server{Handler: reverseTo(s.protocol, sinks[s.protocol]), Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		server.Protocols.SetHTTP2(true)
		listener, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return err
		}
		listening[s.String()] = listener.Addr().String()
		if s.mesh {
			server.TLSConfig = config.Clone()
		}
		servers = append(servers, server)
		serving.Go(func() {
			if s.mesh {
				server.ServeTLS(listener, "", "")
				return
			}
			server.Serve(listener)
		})
	}
	if err := json.NewEncoder(out).Encode(listening); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func reverseTo(protocol load.Protocol, address string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: address}) },
		BufferPool: &bufferPool{sync.Pool{New: func() any { return make([]byte, 32<<10) }}},
		ErrorLog:   slog.NewLogLogger(slog.DiscardHandler, 0),
		Transport:  &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 4096, IdleConnTimeout: 10 * time.Minute, DisableCompression: true},
	}
	if protocol != load.HTTP1 {
		proxy.FlushInterval = -1
		proxy.Transport = &http2.Transport{AllowHTTP: true, DisableCompression: true,
			DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}}
	}
	return proxy
}

type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte  { return p.Pool.Get().([]byte) }
func (p *bufferPool) Put(b []byte) { p.Pool.Put(b) } //nolint:staticcheck // the interface wants slices

// serverTLS asks clients for a certificate, as a mesh does.
func serverTLS(dir string) (*tls.Config, error) {
	file := filepath.Join(dir, "server.pem")
	certificate, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("no root in ca.pem")
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}, nil
}
