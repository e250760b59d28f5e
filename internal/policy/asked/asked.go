// Package asked stands between what scenarios say and what the oracle is asked:
// a client's kind becomes its way to the port, a request of the language the
// oracle's, and a verdict the outcomes that a client may see.
//
// Whoever plays a scenario, on a cluster or on paper, goes through here, so that
// both ask the same. It decides nothing, and it knows neither clusters nor mesh.
package asked

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// ways are how the kinds of clients come to a port.
var ways = map[scenarios.ClientKind]oracle.Way{
	scenarios.Meshed: oracle.Meshed, scenarios.MeshedDirect: oracle.MeshedDirect, scenarios.SPIFFE: oracle.MeshedDirect,
	scenarios.Unmeshed: oracle.Plain, scenarios.TLSNoIdentity: oracle.TLSNoIdentity,
	scenarios.ForeignRoot: oracle.ForeignRoot, scenarios.ForeignTLS: oracle.ForeignTLS,
}

// Client is a scenario's client with the address that the target sees and the
// identity that it has, if its kind has one.
func Client(c scenarios.Client, address netip.Addr, identity string) (oracle.Client, error) {
	way, known := ways[c.Kind]
	if !known {
		return oracle.Client{}, fmt.Errorf("a client of kind %s is none of the oracle's", c.Kind)
	}
	if way != oracle.Meshed && way != oracle.MeshedDirect {
		identity = ""
	}
	return oracle.Client{Way: way, Address: address, Identity: identity, Self: c.Inside != ""}, nil
}

// From is the address that a client's request comes from, which is address unless
// it stays within the pod.
func From(r *scenarios.Request, address netip.Addr) netip.Addr {
	if r.Via == scenarios.ViaLoopback {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return address
}

// protocols are what the protocols of the language are to a proxy.
var protocols = map[scenarios.Protocol]oracle.Protocol{
	scenarios.HTTP1: oracle.HTTP1, scenarios.HTTP2: oracle.HTTP2, scenarios.GRPC: oracle.GRPC, scenarios.GRPCStream: oracle.GRPC, scenarios.TCP: oracle.TCP,
	scenarios.TCPServerFirst: oracle.Silent, scenarios.TCPSilent: oracle.Silent, scenarios.HTTPUpgrade: oracle.HTTP1, scenarios.HTTPConnect: oracle.HTTP1,
}

// EchoMethod is what a gRPC call calls when the scenario names no method, and
// EchoStream what a stream does.
const (
	EchoMethod = "/meshproof.echo.v1.Echo/Say"
	EchoStream = "/meshproof.echo.v1.Echo/Chat"
)

// Method is what a gRPC call of the protocol calls when the scenario names none.
func Method(p scenarios.Protocol) string {
	if p == scenarios.GRPCStream {
		return EchoStream
	}
	return EchoMethod
}

// Request is a request of the language; address is what is dialled, which is the
// authority of a request that names none.
func Request(r *scenarios.Request, address string) (oracle.Request, error) {
	out := oracle.Request{Protocol: protocols[r.Protocol], Method: r.Method, Path: r.Path, Host: r.Host, Headers: r.Headers, Dribbled: r.Dribbled}
	if out.Protocol == "" {
		return out, fmt.Errorf("the protocol %s is none of the oracle's", r.Protocol)
	}
	if out.Protocol == oracle.GRPC && out.Path == "" {
		out.Path = Method(r.Protocol)
	}
	if out.Host == "" {
		out.Host = address
	}
	if r.Protocol == scenarios.HTTPConnect {
		out.Method = http.MethodConnect
	}
	if r.Transport != nil {
		out.Announced = oracle.AnnouncesNothing
		if r.Transport.Session != "" {
			out.Announced = oracle.AnnouncesHTTP
		}
	}
	return out, nil
}

// seen are the outcomes that a client sees. A client that comes through a proxy
// of its own sees what that makes of a connection that is closed.
var seen = map[oracle.Outcome][]clients.Kind{
	oracle.Delivered: {clients.Allowed}, oracle.Unpoliced: {clients.Allowed}, oracle.Redirected: {clients.Redirected},
	oracle.Forbidden: {clients.Forbidden}, oracle.PermissionDenied: {clients.PermissionDenied},
	oracle.NotFound: {clients.NotFound}, oracle.GRPCNotFound: {clients.NotFound},
	oracle.Closed: {clients.Closed, clients.Reset, clients.Refused}, oracle.HandshakeFailed: {clients.TLSFailure},
	oracle.ProtocolError: {clients.ProtocolError, clients.BadRequest, clients.Closed, clients.Reset, clients.Other},
	oracle.BadRequest:    {clients.BadRequest},
}

// Kinds are the outcomes that a client may see of a request with that verdict.
func Kinds(v oracle.Verdict, client oracle.Client, protocol oracle.Protocol) []clients.Kind {
	if unheard(v, client) {
		return slices.Clone(misheard)
	}
	kinds := slices.Clone(seen[v.Outcome])
	switch {
	case v.Outcome == oracle.Redirected && v.Status == 200:
		return []clients.Kind{clients.Allowed} // W-21: nobody takes it for a redirect
	case len(v.Limits) > 0:
		kinds = append(kinds, clients.Limited) // it is no matter of one request whether it is
	case (v.Outcome == oracle.Closed || v.Outcome == oracle.ProtocolError) && client.Way == oracle.Meshed && protocol.HTTP():
		kinds = append(kinds, clients.Unavailable) // its own proxy's 502
	}
	return kinds
}

// unheard reports whether the client speaks TLS of the mesh that the proxy does not
// end, and that gets to an application which does not speak it (T-10). Who is denied
// there sees no more of it than others do: the connection is closed without a byte
// (N-08).
func unheard(v oracle.Verdict, client oracle.Client) bool {
	own := client.Way == oracle.MeshedDirect || client.Way == oracle.TLSNoIdentity || client.Way == oracle.ForeignRoot
	return own && v.Outcome == oracle.Delivered && v.Course == oracle.AsTCP && v.TLS == "no_identity"
}

// misheard are the outcomes of a handshake with an application that takes it for
// something else: it answers so, or waits for more. None of them is a form of denial.
var misheard = []clients.Kind{clients.TLSFailure, clients.ProtocolError, clients.Timeout}

// hungUp are those of one that says nothing. They are forms of denial too, so that
// it must be known that the proxy has let the connection through.
var hungUp = []clients.Kind{clients.Closed, clients.Reset}

// Fits reports whether what a client saw can be with the verdict. reached says
// that the application is known to have got the request: then it may have said
// itself what otherwise a proxy says.
func Fits(kind clients.Kind, v oracle.Verdict, client oracle.Client, protocol oracle.Protocol, reached bool) bool {
	if reached && unheard(v, client) && slices.Contains(hungUp, kind) {
		return true
	}
	return slices.Contains(Kinds(v, client, protocol), kind) || reached && CanBe(kind, v, client, protocol)
}

// own are the outcomes of which the application, or its absence (N-10), can be
// the cause.
var own = []clients.Kind{clients.Unavailable, clients.NotFound, clients.BadRequest, clients.Redirected, clients.ProtocolError}

// CanBe reports whether an expectation can be with the verdict.
func CanBe(kind clients.Kind, v oracle.Verdict, client oracle.Client, protocol oracle.Protocol) bool {
	through := (v.Outcome == oracle.Delivered || v.Outcome == oracle.Unpoliced) && !unheard(v, client)
	return slices.Contains(Kinds(v, client, protocol), kind) || through && slices.Contains(own, kind)
}
