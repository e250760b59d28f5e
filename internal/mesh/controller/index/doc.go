// Package index computes the inbound policy of every pod port.
//
// Objects go in through transactions, and comparable, immutable snapshots come
// out, one per (pod, port):
//
//	ServerAuthorization --name or labels------> Server --labels, port--> Pod
//	HTTPRoute, GRPCRoute --accepted parent----->  ^  ^                    |
//	HTTPLocalRateLimitPolicy --accepted target----'  |                    |
//	AuthorizationPolicy --Server, Namespace, route --'                    |
//	  '--requires--> MeshTLSAuthentication,          default policy,      |
//	                 NetworkAuthentication           opaque ports, probes +--> InboundServer
//	                 (of any namespace)
//
// A lookup starts at the pod: the oldest Server that selects the port decides,
// with whatever names it; without one the pod's default policy does. A change
// goes the other way: it marks the Servers that it is part of and the watched
// ports that these may decide on, along ways that are kept for it (ways.go), so
// that its cost does not depend on how much else there is. A watcher is woken only
// when the value for its port really differs from the one before.
//
// One small file per kind turns the Kubernetes object into the spec that is
// indexed (pod.go, server.go, httproute.go and so on), so that the rest never sees
// the API's peculiarities.
//
// It refuses to know Kubernetes clients and gRPC, to check that referenced
// objects exist, and to let an object that it cannot understand widen access.
package index
