package main

import (
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/clients/load"
)

// scenario is one kind of load, made against every contender.
type scenario struct {
	// id is unique and has no spaces; name is for people.
	id, name string
	mesh     bool
	load     load.Plan
	// idle scenarios look at memory: connections that made one request each are
	// left open at a target that was just started.
	idle bool
	// heap scenarios are idle ones that look at what the proxy's own runtime tells.
	heap bool
	// fresh scenarios run against a target that was just started.
	fresh bool
	// contenders replaces the targets.
	contenders []contender
}

// contender is a target, or one under a certain policy.
type contender struct {
	name, target string
	// policy is brought into force before; nil for the usual one.
	policy func() *pb.Server
}

// service is the port the load goes to.
func (s scenario) service() service {
	protocol := s.load.Protocol
	if protocol == load.Connect {
		protocol = load.HTTP1
	}
	return service{protocol, s.mesh}
}

const (
	// sparse is a sidecar's usual state, in requests a second.
	sparse = 2000
	// message is the size of a gRPC message in bytes.
	message = 128
	// idleConnections are opened for the memory of one.
	idleConnections = 1000
)

// Loads. 32 clients are what a pod has at a busy time.
var (
	overHTTP1  = load.Plan{Protocol: load.HTTP1, Connections: 32}
	overFrames = load.Plan{Protocol: load.Frames, Connections: 4, Streams: 32, Payload: message}
	overGRPC   = load.Plan{Protocol: load.GRPC, Connections: 4, Streams: 16, Payload: message}
)

func atRate(p load.Plan) load.Plan {
	p.Rate = sparse
	return p
}

// Names of contenders that are policies.
const (
	oneAuthorization   = "1 authorization"
	manyAuthorizations = "10,000 authorizations"
	enforcementOn      = "enforced"
	enforcementOff     = "everybody"

	many = 10_000
)

// scenarios in the order of the table.
var scenarios = []scenario{
	{id: "http1", name: "HTTP/1, saturated", load: overHTTP1},
	{id: "http1-sparse", name: "HTTP/1, 2,000/s", load: atRate(overHTTP1)},
	{id: "http1-mtls", name: "HTTP/1 over mTLS, saturated", mesh: true, load: overHTTP1},
	{id: "http1-mtls-sparse", name: "HTTP/1 over mTLS, 2,000/s", mesh: true, load: atRate(overHTTP1)},
	{id: "frames", name: "gRPC frames, saturated", load: overFrames},
	{id: "frames-sparse", name: "gRPC frames, 2,000/s", load: atRate(overFrames)},
	{id: "frames-mtls", name: "gRPC frames over mTLS, saturated", mesh: true, load: overFrames},
	{id: "frames-mtls-sparse", name: "gRPC frames over mTLS, 2,000/s", mesh: true, load: atRate(overFrames)},
	{id: "grpc-go", name: "grpc-go at both ends, saturated", load: overGRPC},
	{id: "grpc-go-sparse", name: "grpc-go at both ends, 2,000/s", load: atRate(overGRPC)},
	{id: "bulk", name: "TCP, one stream", load: load.Plan{Protocol: load.Bulk}},
	{id: "bulk-mtls", name: "TCP over mTLS, one stream", mesh: true, load: load.Plan{Protocol: load.Bulk}},
	{id: "connect-mtls", name: "new mTLS connections with one request", mesh: true, load: load.Plan{Protocol: load.Connect, Connections: 8}},
	{id: "memory", name: "memory at 32 connections", fresh: true, load: overHTTP1},
	{id: "idle", name: "memory of an idle connection", idle: true, fresh: true, load: load.Plan{Protocol: load.HTTP1, Connections: idleConnections}},
	{id: "idle-mtls", name: "memory of an idle mTLS connection", idle: true, fresh: true, mesh: true, load: load.Plan{Protocol: load.HTTP1, Connections: idleConnections}},
	{id: "idle-heap", name: "heap of an idle connection", idle: true, heap: true, fresh: true, load: load.Plan{Protocol: load.HTTP1, Connections: idleConnections},
		contenders: []contender{{nameOurs, nameOurs, nil}}},
	{id: "policy-size", name: "HTTP/1 under a small and a large policy", load: overHTTP1, contenders: []contender{
		{oneAuthorization, nameOurs, func() *pb.Server { return authorizations(1) }},
		{manyAuthorizations, nameOurs, func() *pb.Server { return authorizations(many) }},
	}},
	{id: "enforcement", name: "HTTP/1 with and without enforcement", load: overHTTP1, contenders: []contender{
		{enforcementOff, nameOurs, unenforced},
		{enforcementOn, nameOurs, enforced},
	}},
}
