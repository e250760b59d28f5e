package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// nginxConfig is tuned for this comparison: one worker, kept connections to the
// applications (which a proxy_set_header without Connection "" would lose), no
// logs.
const nginxConfig = `daemon off;
user root;
pid {dir}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
load_module %s;
events { worker_connections 8192; }
http {
	access_log off;
	keepalive_timeout 600s;
	keepalive_requests 1000000000;
	http2_max_concurrent_streams 256;
	client_body_temp_path {dir};
	proxy_temp_path {dir};
	ssl_certificate {dir}/server.pem;
	ssl_certificate_key {dir}/server.pem;
	ssl_client_certificate {dir}/ca.pem;
	ssl_verify_client on;
	ssl_protocols TLSv1.3;
	ssl_session_tickets off;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	upstream http1 { server {sink:http1}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }
	upstream frames { server {sink:frames}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }
	upstream grpc { server {sink:grpc}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }
	server {
		listen {http1};
		listen {http1-mtls} ssl;
		location / { proxy_pass http://http1; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
	}
	server {
		listen {frames} http2;
		listen {frames-mtls} ssl http2;
		location / { grpc_pass grpc://frames; }
	}
	server {
		listen {grpc} http2;
		listen {grpc-mtls} ssl http2;
		location / { grpc_pass grpc://grpc; }
	}
}
stream {
	ssl_certificate {dir}/server.pem;
	ssl_certificate_key {dir}/server.pem;
	ssl_client_certificate {dir}/ca.pem;
	ssl_verify_client on;
	ssl_protocols TLSv1.3;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	server { listen {bulk}; proxy_pass {sink:bulk}; }
	server { listen {bulk-mtls} ssl; proxy_pass {sink:bulk}; }
}
`

// nginxStream is where Debian puts the module.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

func findNginx() (string, error) {
	if _, err := os.Stat(nginxStream); err != nil {
		return "", fmt.Errorf("%s is not installed", filepath.Base(nginxStream))
	}
	return find("nginx")
}

func startNginx(ctx context.Context, w *world, program string) (instance, error) {
	return configured(ctx, w, fmt.Sprintf(nginxConfig, nginxStream), program, "-c", "{config}", "-p", w.dir, "-e", "stderr")
}
