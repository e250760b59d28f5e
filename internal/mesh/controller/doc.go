// Package controller is the agent's role `policy`: it turns Kubernetes objects
// into the inbound policy that each proxy is told, port by port.
//
// What flows through: Pods, Namespaces and the policy resources of all kinds come in
// through watches (package watch), become immutable snapshots in an index that
// knows neither Kubernetes clients nor gRPC (package index), and leave as
// messages of io.linkerd.proxy.inbound (package inbound). Beside that path stand
// the validating webhook (admission), the status of routes and rate limits
// (status, written by the replica that holds the Lease), events and metrics about
// objects that do not do what they seem to (report), and the loopback answer to
// what has been observed (observe).
//
//	API server --watch--> index --snapshots--> gRPC :8090 --> proxies
//	                        |--findings--> events, metrics
//	                        '--observed--> 127.0.0.1:9990
//
// It refuses to answer before every kind is synchronised, never publishes a part
// of a list, and never lets an object that it cannot understand grant anything.
//
// Invocation: meshproof-agent policy [flags]. Settings are read from the key
// `values` of ConfigMap linkerd-config in the control plane's namespace; a flag
// that is given wins over it.
//
//	--control-plane-namespace linkerd      where the ConfigMaps and Secrets are; also $POD_NAMESPACE
//	--default-policy NAME                  cluster default (values: defaultInboundPolicy); all-unauthenticated
//	--cluster-networks CIDR,...            values: clusterNetworks (string or list)
//	--probe-networks CIDR,...              values: probeNetworks; 0.0.0.0/0,::/0
//	--identity-domain cluster.local        values: identityTrustDomain, else clusterDomain
//	--dialect documented|linkerd           values: dialect
//	--grpc-addr :8090                      policy gRPC, mesh TLS
//	--webhook-addr :9443                   validating webhook, HTTPS, paths / only; empty: off
//	--admin-addr :9996                     /metrics, /live, /ready
//	--observe-addr 127.0.0.1:9990          /observed; loopback only
//	--identity-addr, --identity-name       the identity service and its TLS name
//	--token-file PATH                      default /var/run/secrets/tokens/linkerd-identity-token
//	--local-name NAME                      default linkerd-destination.<cp-ns>.serviceaccount.identity.<cp-ns>.<domain>
//	--plaintext                            no mesh TLS on gRPC (tests only)
//	--kubeconfig PATH                      default: in-cluster
package controller
