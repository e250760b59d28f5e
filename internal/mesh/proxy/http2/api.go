package http2

import (
	"context"
	"net"
)

// Field is one header field. Names of fields from the wire are lower-case.
type Field = struct{ Name, Value []byte }

// Head is one request head as it stood on the wire, checked by RFC 9113 section
// 8. All slices are valid until Decide returns; a Stream's own Head is a copy.
type Head struct {
	// StreamID is the number of the stream, on both connections.
	StreamID uint32
	Method   []byte
	// Scheme is empty for CONNECT.
	Scheme []byte
	// Authority is :authority, else the host field (H-12). When a client sends both
	// they are equal; one that sends neither, or nothing in it, is not forwarded.
	Authority []byte
	// Path is raw, without the query; empty for CONNECT, "*" for OPTIONS *.
	Path     []byte
	Query    []byte
	HasQuery bool
	// Fields are the regular fields in order, without l5d-client-id and
	// l5d-orig-proto, which are no input to any decision.
	Fields []Field
	// OrigProto is the value of l5d-orig-proto, nil when there was none (H-01).
	OrigProto []byte
	// GRPC: the content-type begins with application/grpc (N-02).
	GRPC bool
	// EndStream: the request has no body.
	EndStream bool
	// ContentLength is -1 when the client did not say.
	ContentLength int64
}

// Header is a field that the proxy itself writes; its name is lower-case.
type Header = struct{ Name, Value string }

// Verdict is what becomes of a request.
type Verdict uint8

const (
	// Undecided resets the stream: the zero value lets nothing through.
	Undecided Verdict = iota
	// Forward sends the head to the application, changed as the Action says.
	Forward
	// Answer answers it; nothing reaches the application.
	Answer
	// HandOut gives the stream to Handler.Serve.
	HandOut
)

// Action is what the Handler has decided. It comes empty, with the capacity of its
// slices kept: who appends allocates nothing in the long run.
type Action struct {
	Verdict Verdict
	// Token comes back in Failed, Responded and Stream.Token. A pointer in it costs
	// no allocation.
	Token any

	// Path, of Forward and HandOut, is sent in the place of Head.Path; nil sends
	// that. The query stays. It must stay valid until Decide is asked again.
	Path []byte
	// Remove are lower-case names of fields that the application must not see.
	Remove []string
	// Set replace all fields of their names; Append come in addition, after the
	// request's own fields: l5d-client-id (I-07).
	Set, Append []Header

	// Status, of Answer, is 200 to 599. It is sent as one HEADERS frame with Fields
	// and END_STREAM, which is also gRPC's trailers-only form; nothing is added. N-01
	// and N-02 ask for content-length 0 and, for gRPC, content-type and grpc-status.
	Status int
	Fields []Header
	// Close, of Answer: the client is told to go away; streams in progress finish
	// (N-10, N-12).
	Close bool
}

// Handler is what the relay asks about the requests of one connection. Decide,
// Failed and Responded are called with the connection's lock held, by the goroutine
// that read the frame: they must neither block nor call methods of the Conn or of
// its Streams.
type Handler interface {
	// Decide fills the Action for a well-formed request head.
	Decide(*Head, *Action)
	// Failed fills an Answer for an application that could not (N-10): err is a
	// *DialError, or wraps ErrApplication. No final head has been sent yet. Status 0
	// resets the stream.
	Failed(token any, err error, a *Action)
	// Responded is called exactly once for each Decide, HandOut aside: the answer is
	// complete, or has broken off. status is the final one that was sent, 0 for none;
	// grpcStatus is what the application sent with its head or trailers, -1 if
	// nothing or no number. err is nil, or wraps ErrClient or ErrApplication, or is
	// what Failed was told.
	Responded(token any, status, grpcStatus int, err error)
	// Serve has the stream of a HandOut to itself, on a goroutine that the Conn
	// waits for. When it returns, what is not finished is reset.
	Serve(*Stream)
}

// Config is what a Conn needs. It is shared by connections and never changed.
type Config struct {
	// Dial connects to the application, once per client connection unless the
	// application goes away. It is asked at the first Forward, so that a client of
	// whom nothing is permitted never touches the application. ctx ends with the
	// Conn; the dial's time-out is the caller's.
	Dial func(ctx context.Context) (net.Conn, error)
	// Limits: zero fields have the defaults of limits.go.
	Limits Limits
	// Bite is called when a limit has bitten, possibly with the lock held; it may
	// be nil.
	Bite func(Limit)
	// Malformed is called when the client has sent what RFC 9113 does not allow, or
	// what applications read in more than one way, possibly with the lock held; it
	// may be nil.
	Malformed func(why error)
}
