package http1

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Form is how a request line names its target.
type Form uint8

// The forms of RFC 9112, section 3.2.
const (
	Origin    Form = iota // /path?query
	Absolute              // http://authority/path?query
	Authority             // host:port, of CONNECT only
	Asterisk              // *, of OPTIONS only
)

// Body is how the end of a message's body is told.
type Body uint8

// The framings of a body.
const (
	NoBody  Body = iota
	Length       // Head.Length bytes
	Chunked      // chunks
	ToClose      // answers only: up to the end of the connection
)

// Field is a header field as it stood on the wire, without the white space
// around its value.
type Field = struct{ Name, Value []byte }

// Head is a request head as it stood on the wire. Its slices lie in the
// connection's buffer and are valid until Decide returns.
type Head struct {
	Method []byte
	Form   Form
	// Scheme is empty but in absolute form.
	Scheme []byte
	// Authority is the target's, or the Host field's; empty if there is neither
	// (HTTP/1.0).
	Authority []byte
	// Path is raw and without query; "*" in asterisk form, empty in authority
	// form, "/" when an absolute target has none.
	Path []byte
	// Query is what follows the first question mark, raw.
	Query    []byte
	HasQuery bool
	// Minor is the version's: 1.0 or 1.1.
	Minor uint8
	// Fields are those that the application will see, in their order: without those
	// that concern this connection only and without the mesh's own, so that nothing
	// is judged by a field that a client has Connection take away again. The last may be
	// the upgrade that the application is asked for.
	Fields []Field
	Body   Body
	Length int64
	// Received is when the head was complete.
	Received time.Time
}

// Header is a field that the proxy itself writes. Name and value must be valid
// ones: they are written as they are.
type Header = struct{ Name, Value string }

// Verdict is what becomes of a request.
type Verdict uint8

// The verdicts. The zero value lets nothing through.
const (
	// Undecided is answered with 500 and the end of the connection.
	Undecided Verdict = iota
	// Forward sends the request to the application.
	Forward
	// Answer answers it without the application.
	Answer
)

// Action is what the handler has decided. The relay hands it over empty, with the
// capacity of its slices kept: who appends allocates nothing in the long run.
type Action struct {
	Verdict Verdict
	// Token is handed to Failed and Responded; a pointer in it costs nothing.
	Token any

	// Path, of Forward, is sent in the place of Head.Path; nil sends that. It must
	// stay valid until Decide is asked again.
	Path []byte
	// Remove, of Forward, are names of fields not to be sent on, in any case of letters.
	Remove []string
	// Set, of Forward, replaces all fields of that name; the same name in Append is not replaced.
	Set []Header
	// Append, of Forward, is sent after the request's own fields: l5d-client-id (I-07).
	Append []Header

	// Status, of Answer, is sent with Fields, Date and content-length 0 (N-01).
	Status int
	Fields []Header
	// Close, of Answer, ends the connection after it (N-10, N-12).
	Close bool
}

// Handler decides on the requests of one connection. The relay asks it from one
// goroutine, one request at a time: Decide, Failed if need be, Responded.
type Handler interface {
	// Decide fills the action. A request that is to be forwarded keeps its fields
	// but for l5d-client-id, l5d-orig-proto and those of one connection only, which
	// never pass.
	Decide(*Head, *Action)
	// Failed fills an Answer for an application that could not: err is a
	// *DialError, or wraps ErrApplication. Nothing has been answered yet.
	Failed(token any, err error, a *Action)
	// Responded tells that the answer is complete or has broken off. status is what
	// was sent, 0 if nothing was; grpcStatus is what the application sent with its
	// head or trailers, -1 if nothing or no number. err is nil, or wraps ErrClient or
	// ErrApplication, or is what Failed was told. A tunnel (H-03) has responded when
	// it opens.
	Responded(token any, status, grpcStatus int, err error)
}

// Errors of an exchange, wrapped with what happened.
var (
	// ErrClient: the client went away, or its body broke off or was malformed.
	ErrClient = errors.New("client went away")
	// ErrApplication: the answer broke off or was none.
	ErrApplication = errors.New("application failed")
)

// DialError is an application that could not be reached; the error of the dial
// says whether that timed out (N-10).
type DialError struct{ Err error }

func (e *DialError) Error() string { return "application not reachable: " + e.Err.Error() }

// Unwrap returns the error of the dial.
func (e *DialError) Unwrap() error { return e.Err }

// Relay is what the connections of one proxy have in common. Its zero value is
// usable; it must not change while connections are served. Its functions are
// called from the goroutines of all connections.
type Relay struct {
	// Limits' zero fields mean the defaults.
	Limits Limits
	// Bitten is told of each limit that ended or refused something; nil: nobody.
	Bitten func(Limit)
	// Malformed is told of each message refused for what it is; the error says
	// why, in words that contain nothing a peer has sent. nil: nobody.
	Malformed func(Side, error)

	once   sync.Once
	limits Limits
}

// Side is where a message came from.
type Side uint8

// The sides.
const (
	Client Side = iota
	Application
)

// Config is one connection.
type Config struct {
	// Client is the connection; seen are bytes of it that were looked at before.
	// A *net.TCPConn, or anything with its SyscallConn, waits without a buffer; others
	// (*tls.Conn) wait with a small one.
	Client net.Conn
	Seen   []byte
	// Dial connects to the application. It must not outlast the caller's cut: who
	// cuts closes what it has returned. Connections are closed by the relay.
	Dial func() (net.Conn, error)
	// Handler decides.
	Handler Handler
}
