// Package index computes the inbound policy of every pod port.
//
// Objects go in through transactions, and comparable, immutable snapshots come
// out, one per (pod, port):
//
//	ServerAuthorization --name or labels--> Server --labels, port--> Pod
//	                                                                  |
//	                         default policy, opaque ports, probes ----+--> InboundServer
//
// A lookup starts at the pod: the oldest Server that selects the port decides,
// with the authorizations that name it; without one the pod's default policy
// does. One small file per kind turns the Kubernetes object into the spec that
// is indexed (pod.go, server.go, serverauthorization.go), so that the rest never
// sees the API's peculiarities. A watcher is woken only when the value for its
// port really differs from the one before.
//
// It refuses to know Kubernetes clients and gRPC, to check that referenced
// objects exist, and to let an object that it cannot understand widen access.
package index
