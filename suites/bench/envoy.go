package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/clients/load"
)

const envoyTLS = `
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          disable_stateless_session_resumption: true
          common_tls_context:
            tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
            alpn_protocols: [%s]
            tls_certificates: [{certificate_chain: {filename: "{dir}/server.pem"}, private_key: {filename: "{dir}/server.pem"}}]
            validation_context: {trusted_ca: {filename: "{dir}/ca.pem"}}`

const envoyHTTP = `
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: %[1]s
          codec_type: AUTO
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: %[1]s, timeout: 0s}}]}]}
          http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]`

const envoyTCP = `
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: %[1]s
          cluster: %[1]s`

const envoyHTTP2 = `
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}`

// envoyConfig has a listener per service and a cluster per application.
func envoyConfig() string {
	var listeners, clusters strings.Builder
	for _, s := range allServices() {
		fmt.Fprintf(&listeners, "\n  - name: %[1]s\n    address: {socket_address: {address: %[2]s, port_value: {%[1]s:port}}}\n    filter_chains:\n    -", s, loopback)
		chain := fmt.Sprintf(envoyHTTP, s.protocol)
		if s.protocol == load.Bulk {
			chain = fmt.Sprintf(envoyTCP, s.protocol)
		}
		if s.mesh {
			alpn := map[load.Protocol]string{load.HTTP1: "http/1.1", load.Frames: "h2", load.GRPC: "h2"}[s.protocol]
			chain += fmt.Sprintf(envoyTLS, alpn)
		}
		listeners.WriteString(" " + strings.TrimPrefix(chain, "\n      "))
	}
	for _, protocol := range protocols {
		fmt.Fprintf(&clusters, `
  - name: %[1]s
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {thresholds: [{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}]}
    load_assignment: {cluster_name: %[1]s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[2]s, port_value: {sink:%[1]s:port}}}}}]}]}`, protocol, loopback)
		if protocol == load.Frames || protocol == load.GRPC {
			clusters.WriteString(envoyHTTP2)
		}
	}
	return "static_resources:\n  listeners:" + listeners.String() + "\n  clusters:" + clusters.String() + "\n"
}

func startEnvoy(ctx context.Context, w *world, program string) (instance, error) {
	return configured(ctx, w, envoyConfig(), program, "--config-path", "{config}", "--concurrency", "1", "--disable-hot-restart", "--log-level", "critical")
}
