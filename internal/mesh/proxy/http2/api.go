package http2

import (
	"context"
	"net"
)

// Field is one header field. Names of fields from the wire are lower-case.
type Field struct{ Name, Value []byte }

// Head is one request head as it stood on the wire, checked by RFC 9113 section
// 8. All slices are valid until Decide returns; a Stream's own Head is a copy.
type Head struct {
	// StreamID is the number of the stream, on both connections.
	StreamID uint32
	Method   []byte
	// Scheme is empty for CONNECT.
	Scheme []byte
	// Authority is :authority, else the host field, else empty (H-12). When a
	// client sends both they are equal.
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

// Verdict is what Decide wants done.
type Verdict uint8

const (
	// Forward sends the head to the application, changed as the Action says.
	Forward Verdict = iota
	// Reply answers with Action.Answer; nothing reaches the application.
	Reply
	// HandOut gives the stream to Handler.Serve.
	HandOut
	// Abort resets the stream with PROTOCOL_ERROR.
	Abort
)

// Action is filled by Decide. It comes empty, with slices that may be appended to
// (they keep their memory from request to request); what it points to need not
// outlive Decide.
type Action struct {
	Do Verdict
	// Token comes back in Failed, Responded and Stream.Token. A pointer in it costs
	// no allocation.
	Token any

	// The following concern Forward and HandOut.

	// Path replaces the path if not nil; the query stays.
	Path []byte
	// Remove are lower-case names of fields that the application must not see.
	Remove [][]byte
	// Set replace all fields of their names; Append come in addition. Their names
	// are lower-case. l5d-client-id belongs into Append.
	Set, Append []Field

	// Answer concerns Reply.
	Answer Answer
}

// Answer is a response without body: one HEADERS frame with END_STREAM, which is
// also gRPC's trailers-only form.
type Answer struct {
	// Status is 200 to 599.
	Status int
	// Fields are sent in order; nothing is added. N-01 and N-02 ask for
	// content-length: 0 and, of gRPC, for content-type and grpc-status.
	Fields []Field
	// Close: the client is told to go away; streams in progress finish (N-10).
	Close bool
}

// Handler is what the relay asks. Decide, Failed and Responded are called with the
// connection's lock held, by the goroutine that read the frame: they must neither
// block nor call methods of the Conn or of its Streams.
type Handler interface {
	// Decide is asked once for each well-formed request head.
	Decide(*Head, *Action)
	// Failed is called when the application could not be reached or broke off before
	// it answered (N-10): fill the answer. err wraps what happened; a *DialError
	// when there was no connection. No Responded follows. Status 0 resets the stream.
	Failed(token any, err error, answer *Answer)
	// Responded is called when the application's answer is complete, or has broken
	// off with err. Status is 0 when there was none before the client went away,
	// grpcStatus -1 when the answer named none. A reset by the client is ErrCanceled.
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
}
