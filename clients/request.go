package clients

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Protocol is what a caller speaks on its connection, TLS aside.
type Protocol string

// The protocols. The closed set is listed by Protocols.
const (
	// HTTP1 is one HTTP/1.1 request.
	HTTP1 Protocol = "http1"
	// HTTP2 is one HTTP/2 request, with prior knowledge when there is no TLS.
	HTTP2 Protocol = "http2"
	// GRPC is one unary call.
	GRPC Protocol = "grpc"
	// GRPCStream is one call whose answers stream: Request.Messages of them are
	// awaited, or all when that is 0. A held one stays open both ways.
	GRPCStream Protocol = "grpc-stream"
	// TCP speaks first: it sends a line and awaits a line.
	TCP Protocol = "tcp"
	// TCPServerFirst awaits a line and sends its own only then.
	TCPServerFirst Protocol = "tcp-server-first"
	// TCPSilent sends nothing at all and awaits what the peer does.
	TCPSilent Protocol = "tcp-silent"
	// HTTPUpgrade is an HTTP/1.1 request that asks for the protocol UpgradeToken; once
	// the application has switched, a line goes there and comes back (rule H-03).
	HTTPUpgrade Protocol = "http-upgrade"
	// HTTPConnect is an HTTP/1.1 CONNECT to Host; once the tunnel is open, a line
	// goes through it and comes back (rule H-03).
	HTTPConnect Protocol = "http-connect"
	// Connect only opens the connection, with TLS as asked for, and awaits that
	// it stays open for settleTime. It cannot tell an application from a proxy.
	Connect Protocol = "connect"
	// Dial opens the connection, without TLS, and closes it. It says whether the
	// network leads to somebody who listens, and nothing of whom he lets in.
	Dial Protocol = "dial"
)

// Protocols lists every Protocol.
func Protocols() []Protocol {
	return []Protocol{HTTP1, HTTP2, GRPC, GRPCStream, TCP, TCPServerFirst, TCPSilent, HTTPUpgrade, HTTPConnect, Connect, Dial}
}

// TLSMode says whether and as whom the caller speaks TLS 1.3.
type TLSMode string

// The TLS modes. The closed set is listed by TLSModes.
const (
	// Plaintext speaks no TLS of its own (a sidecar may add it). Also "".
	Plaintext TLSMode = "none"
	// NoIdentity speaks TLS and presents no certificate.
	NoIdentity TLSMode = "no-identity"
	// ForeignRoot presents a certificate for ClaimedIdentity from an authority
	// that the mesh does not know.
	ForeignRoot TLSMode = "foreign-root"
	// OwnIdentity presents the caller's own mesh certificate and verifies that
	// the server is ServerName.
	OwnIdentity TLSMode = "own-identity"
	// Presented presents Request.Certificate, whoever signed it: with the mesh's
	// issuer (certify.Issuer) an identity that no pod has, such as a SPIFFE ID.
	Presented TLSMode = "presented"
)

// TLSModes lists every TLSMode.
func TLSModes() []TLSMode {
	return []TLSMode{Plaintext, NoIdentity, ForeignRoot, OwnIdentity, Presented}
}

// Connection says whether a call may travel on a connection used before.
type Connection string

// Per-connection and per-request decisions differ, so which one is used is part
// of the request and never left to a pool.
const (
	// Fresh opens a connection for the call and closes it afterwards. Also "".
	Fresh Connection = "fresh"
	// Reused takes an idle connection of an earlier Reused call with the same
	// target and TLS settings; the first one opens it.
	Reused Connection = "reused"
)

// TransportHeader asks for a direct connection to a proxy's inbound port, with
// the target named in a header instead of found by redirection (rules T-30 to
// T-35). Address is then the proxy's port, and TLS must not be Plaintext.
type TransportHeader struct {
	// Port is the target port in the pod.
	Port int `json:"port"`
	// Name is a target authority for a gateway, "" for the pod itself.
	Name string `json:"name,omitempty"`
	// Session is the protocol that the header announces: HTTP1, HTTP2 or "".
	Session Protocol `json:"session,omitempty"`
}

// HeaderLine is one line of a request's head.
type HeaderLine struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// KeyPair is a certificate with its key, both PEM; the chain begins with the leaf.
type KeyPair struct {
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

// Request is one call to make. Durations are nanoseconds in JSON.
type Request struct {
	// ID travels with the call (header x-request-id, first word of a line) and
	// comes back in the Outcome. Empty gets a random one.
	ID       string   `json:"id,omitempty"`
	Protocol Protocol `json:"protocol"`
	// Address is host:port.
	Address string `json:"address"`
	// Method is the HTTP method (GET when empty) or, for the gRPC protocols, the
	// full method: "/emojivoto.v1.VotingService/VoteDog".
	Method string `json:"method,omitempty"`
	// Path is the HTTP request target, "/" when empty.
	Path string `json:"path,omitempty"`
	// Host overrides the Host header or :authority, Address when empty.
	Host string `json:"host,omitempty"`
	// Body is the HTTP body, the encoded gRPC message (empty is a message of
	// defaults), or the text behind the ID of the line that goes through TCP or a
	// tunnel.
	Body    []byte            `json:"body,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	// Lines are more header lines, added to Headers: a name may come again.
	Lines []HeaderLine `json:"lines,omitempty"`
	// Raw replaces every byte that HTTP1 would send (rule H-02) and the line that
	// TCP and TCPServerFirst would; the answer is read as ever.
	Raw []byte `json:"raw,omitempty"`

	TLS TLSMode `json:"tls,omitempty"`
	// ServerName is the SNI: the server's mesh identity, or a foreign name.
	ServerName string `json:"serverName,omitempty"`
	// ALPN overrides what is offered: by default "http/1.1" or "h2" as the
	// protocol is, nothing for TCP, the transport protocol with Transport. A
	// single "" offers nothing.
	ALPN []string `json:"alpn,omitempty"`
	// ClaimedIdentity is the name in a ForeignRoot certificate.
	ClaimedIdentity string `json:"claimedIdentity,omitempty"`
	// Certificate is what Presented presents.
	Certificate *KeyPair         `json:"certificate,omitempty"`
	Transport   *TransportHeader `json:"transport,omitempty"`

	Connection Connection `json:"connection,omitempty"`
	// Timeout bounds the whole call from the dial on; 0 is DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// SpeakAfter is how long the caller stays silent after the connection (and
	// before TLS) is there. It counts against Timeout.
	SpeakAfter time.Duration `json:"speakAfter,omitempty"`
	// Dribbled sends the first few bytes, fewer than a protocol is told by, in a
	// segment of their own and the others dribblePause later (rule T-21).
	Dribbled bool `json:"dribbled,omitempty"`
	// Messages is how many answers of a stream are awaited, 0 for all.
	Messages int `json:"messages,omitempty"`
	// Keep asks for the answer's headers and up to KeepLimit bytes of its body
	// in the Outcome.
	Keep bool `json:"keep,omitempty"`
}

const (
	// DefaultTimeout is for calls that say nothing. It is above the 10 s after
	// which a proxy gives up protocol detection, so that a connection closed
	// for that reason is seen as closed and not as the caller's own time-out.
	DefaultTimeout = 15 * time.Second
	// settleTime is how long Connect watches an open connection: a proxy that
	// refuses does so within a round trip on the same machine.
	settleTime = 300 * time.Millisecond
	// dribbleFirst is how many bytes a dribbled first segment holds: below the 14 by
	// which HTTP is told, and enough for "GET /".
	dribbleFirst = 5
	// dribblePause is between the first segment and the others: a reader that waits
	// for a processor on a busy machine has still seen the first one alone.
	dribblePause = 500 * time.Millisecond
	// KeepLimit bounds the body kept in an Outcome.
	KeepLimit = 4 << 10
)

// ErrRequest is wrapped by every error that says a Request makes no sense.
var ErrRequest = errors.New("bad request")

// Validate reports what is wrong with a request, wrapping ErrRequest.
func (r Request) Validate() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrRequest}, args...)...)
	}
	if !slices.Contains(Protocols(), r.Protocol) {
		return wrong("protocol %q is not one of %v", r.Protocol, Protocols())
	}
	if _, _, err := net.SplitHostPort(r.Address); err != nil {
		return wrong("address %q: %w", r.Address, err)
	}
	if r.TLS != "" && !slices.Contains(TLSModes(), r.TLS) {
		return wrong("tls %q is not one of %v", r.TLS, TLSModes())
	}
	if r.Connection != "" && r.Connection != Fresh && r.Connection != Reused {
		return wrong("connection %q is neither fresh nor reused", r.Connection)
	}
	if r.Protocol.grpc() && (!strings.HasPrefix(r.Method, "/") || strings.Count(r.Method, "/") != 2) {
		return wrong("method %q is not a full gRPC method such as /package.Service/Method", r.Method)
	}
	if !r.Protocol.grpc() && strings.ContainsFunc(r.Method, func(c rune) bool { return !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-') }) {
		return wrong("method %q is not an HTTP method", r.Method)
	}
	if r.Transport != nil {
		switch {
		case r.plain():
			return wrong("a transport header needs TLS")
		case r.Transport.Port < 0 || r.Transport.Port > 65535:
			return wrong("transport port %d is not a port", r.Transport.Port)
		case r.Transport.Session != "" && r.Transport.Session != HTTP1 && r.Transport.Session != HTTP2:
			return wrong("transport session %q is neither http1, http2 nor empty", r.Transport.Session)
		}
	}
	if r.plain() && (r.ServerName != "" || len(r.ALPN) > 0 || r.ClaimedIdentity != "") {
		return wrong("server name, ALPN and claimed identity need TLS")
	}
	if r.TLS == OwnIdentity && r.ServerName == "" {
		return wrong("own-identity needs the server's identity as server name")
	}
	if (r.TLS == Presented) != (r.Certificate != nil) {
		return wrong("presented is for requests with a certificate, and a certificate for them")
	}
	if r.Timeout < 0 || r.SpeakAfter < 0 || r.SpeakAfter > r.timeout() {
		return wrong("timeout %v with speakAfter %v leaves no time to speak", r.timeout(), r.SpeakAfter)
	}
	if r.Protocol.tunnel() && r.Connection == Reused {
		return wrong("a tunnel ends with its connection, which cannot be reused")
	}
	if len(r.Raw) > 0 && r.Protocol != HTTP1 && r.Protocol != TCP && r.Protocol != TCPServerFirst {
		return wrong("%s cannot send raw bytes", r.Protocol)
	}
	if r.Dribbled && r.Connection == Reused {
		return wrong("only a fresh connection has a first segment to dribble")
	}
	if strings.ContainsAny(r.ID, " \r\n") {
		return wrong("id %q has blanks", r.ID)
	}
	return nil
}

func (p Protocol) grpc() bool { return p == GRPC || p == GRPCStream }

func (p Protocol) tunnel() bool { return p == HTTPUpgrade || p == HTTPConnect }

func (p Protocol) http2() bool { return p == HTTP2 || p.grpc() }

func (r Request) plain() bool { return r.TLS == "" || r.TLS == Plaintext }

func (r Request) timeout() time.Duration {
	if r.Timeout == 0 {
		return DefaultTimeout
	}
	return r.Timeout
}

func (r Request) host() string {
	if r.Host == "" {
		return r.Address
	}
	return r.Host
}
