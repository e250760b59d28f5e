// Package destination tells proxies where their traffic can go, the role
// `destination`: which endpoints a name or an address stands for, what identity
// each must prove, and how it wants to be spoken to.
//
// Services, EndpointSlices, Pods, Namespaces and Servers come in through watches
// and are reduced to what answers depend on (Index). A stream of the destination
// API is a Watch on that index: it is woken when something in its namespace or
// about its address has changed, looks at its target again as one whole value,
// and sends what differs from what it sent last.
//
//	API server --sinks--> Index --views--> streams --diff--> proxies
//
// Which Server decides about a pod's port is asked of the policy role's own
// index, so that clients and the server's proxy never go by different ones.
//
// It answers for nothing outside the cluster: an unknown address has an empty
// profile, and the client then goes where it meant to. An endpoint whose pod is
// not known yet is left out rather than spoken to without TLS.
package destination
