package main

// target is a fuzz target of the tree.
type target struct {
	// Package is its folder, Name the function.
	Package, Name string
	// Holds is the property that no input may break.
	Holds string
}

// targets are all there are, in the order in which bytes meet the code.
var targets = []target{
	{"internal/mesh/proxy/inbound", "FuzzParseHello", "a ClientHello: names and protocols are those that a TLS server sees, wherever reads split it"},
	{"internal/mesh/proxy/inbound", "FuzzSniff", "what a connection speaks: once decided, more bytes change nothing"},
	{"internal/mesh/identity", "FuzzNamesOfCertificates", "names of a certificate: an identity is byte for byte the first one, in one of two forms"},
	{"internal/mesh/proxy/transport", "FuzzRead", "transport headers: read as the protobuf library reads them, in full, and not a byte more"},
	{"internal/mesh/proxy/http1", "FuzzRequestHead", "heads of HTTP/1 requests: what passes, net/http reads in the same way, before and after"},
	{"internal/mesh/proxy/http1", "FuzzResponseHead", "heads of HTTP/1 answers: likewise"},
	{"internal/mesh/proxy/http1", "FuzzChunks", "chunks: in whatever pieces, the same passes, and net/http reads the same data from it"},
	{"internal/mesh/proxy/http1", "FuzzRelay", "HTTP/1 connections: a strict and a lenient application see only requests that were allowed"},
	{"internal/mesh/proxy/http2", "FuzzFrames", "HTTP/2 connections: both sides get frames that can be read, the application only what was permitted"},
	{"internal/mesh/proxy/http2", "FuzzHeaderBlocks", "HPACK: blocks decode as x/net decodes them, also after being encoded again"},
	{"internal/mesh/proxy/policy", "FuzzNormalPath", "paths: normalised as the plain reading does it, and once for all"},
	{"internal/mesh/proxy/policy", "FuzzViewsOfPaths", "paths: what was judged is what nginx, Go and a lenient server take the forwarded path for"},
	{"internal/mesh/proxy/policy", "FuzzParameter", "queries: read as net/url reads them"},
	{"internal/mesh/proxy/policy", "FuzzGrants", "authorizations: the index permits whom asking one by one permits"},
	{"internal/mesh/proxy/policy", "FuzzMessage", "policy messages: nobody is permitted whom no authorization names, and what is not understood is refused"},
	{"internal/mesh/controller/index", "FuzzSelector", "selectors: they select what Kubernetes' own select, and nothing where it refuses them"},
}
