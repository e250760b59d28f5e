package main

import "context"

// haproxyConfig is tuned for this comparison: one thread, connections to the
// applications reused, the same cipher as everywhere. maxconn fits under a limit
// of 20,000 descriptors.
const haproxyConfig = `global
	maxconn 3000
	nbthread 1
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
	tune.h2.max-concurrent-streams 256
defaults
	mode http
	timeout connect 5s
	timeout client 600s
	timeout server 600s
	http-reuse always
listen http1
	bind {http1}
	bind {http1-mtls} ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify required alpn http/1.1
	server s {sink:http1}
listen frames
	bind {frames} proto h2
	bind {frames-mtls} ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify required alpn h2
	server s {sink:frames} proto h2
listen grpc
	bind {grpc} proto h2
	bind {grpc-mtls} ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify required alpn h2
	server s {sink:grpc} proto h2
listen bulk
	mode tcp
	bind {bulk}
	bind {bulk-mtls} ssl crt {dir}/server.pem ca-file {dir}/ca.pem verify required
	server s {sink:bulk}
`

func startHAProxy(ctx context.Context, w *world, program string) (instance, error) {
	return configured(ctx, w, haproxyConfig, program, "-db", "-f", "{config}")
}
