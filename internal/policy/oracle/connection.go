package oracle

import (
	"github.com/meshproof/meshproof/internal/policy/api"
)

// Course is what the proxy makes of a connection before it authorizes.
type Course string

// The courses.
const (
	// AsHTTP: every request is authorized by the route that it gets.
	AsHTTP Course = "http"
	// AsTCP: the connection is authorized by the Server's list (T-16).
	AsTCP Course = "tcp"
	// Refuse: the connection is closed, whoever the client is.
	Refuse Course = "refuse"
	// Mismatch: what is spoken is not what the port speaks.
	Mismatch Course = "mismatch"
	// Nowhere: every request finds no route (T-34).
	Nowhere Course = "nowhere"
)

// OwnCall is B-02: a pod that calls itself comes without mesh TLS.
func OwnCall(client Client) Client {
	if client.Self {
		client.Way, client.Identity = Plain, ""
	}
	return client
}

// DirectClient is T-31: on the proxy's own port, with a transport header, only a
// client with a verified identity is heard; others are closed, whatever the port
// that they name. One with a certificate of another root fails the handshake
// (I-02).
func DirectClient(client Client) Client {
	switch client.Way {
	case Meshed, MeshedDirect:
		client.Way = Meshed
	case ForeignRoot:
	default:
		client.Way = Plain
	}
	return client
}

// HintsOpaque is T-36: a meshed client takes a port for opaque by the pod's or
// namespace's annotation, or by a Server whose protocol is exactly opaque.
func HintsOpaque(annotated bool, protocol api.ProxyProtocol) bool {
	return annotated || protocol == api.ProtocolOpaque
}

// HandshakeFails is I-02: a certificate of another root fails the handshake,
// where there is one; an opaque port has none (T-10).
func HandshakeFails(client Client, protocol api.ProxyProtocol) bool {
	return client.Way == ForeignRoot && protocol != api.ProtocolOpaque
}

// SessionOf is T-10, T-13, T-30 and I-03: which TLS state a client's connection
// has. An opaque port terminates nothing on the redirected path.
func SessionOf(client Client, protocol api.ProxyProtocol) Session {
	opaque := protocol == api.ProtocolOpaque
	switch {
	case client.Way == Meshed:
		return Session{Terminated: true, Identity: client.Identity, Transported: true}
	case client.Way == ForeignTLS, client.Way == ForeignRoot:
		return Session{Foreign: true}
	case client.Way == MeshedDirect && !opaque:
		return Session{Terminated: true, Identity: client.Identity}
	case client.Way == TLSNoIdentity && !opaque:
		return Session{Terminated: true}
	default:
		return Session{}
	}
}

// tlsLabel is M-05. On the redirected path an opaque port looks into nothing.
func tlsLabel(session Session, protocol api.ProxyProtocol) string {
	switch {
	case session.Terminated:
		return "true"
	case session.Foreign && protocol != api.ProtocolOpaque:
		return "opaque"
	default:
		return "no_identity"
	}
}

// Transported is T-33 and T-34: with the transport header, and a session protocol
// or none.
func Transported(protocol api.ProxyProtocol, session bool) (Course, string) {
	httpOnly := protocol == api.ProtocolHTTP1 || protocol == api.ProtocolHTTP2 || protocol == api.ProtocolGRPC
	notHTTP := protocol == api.ProtocolOpaque || protocol == api.ProtocolTLS
	switch {
	case !session && httpOnly:
		return Refuse, "T-33"
	case !session:
		return AsTCP, "T-33"
	case notHTTP:
		return Nowhere, "T-34"
	default:
		return AsHTTP, "T-34"
	}
}

// SilentClosed is T-12 and its row of 19.1: a plaintext client that says nothing
// is closed, except that in the documented dialect a port with detection takes it
// for opaque.
func SilentClosed(session Session, protocol api.ProxyProtocol, dialect api.Dialect) bool {
	if session.Terminated || protocol == api.ProtocolOpaque {
		return false
	}
	return !(protocol == api.ProtocolUnknown && dialect.SilentIsOpaque)
}

// Detected is T-15 and T-21: whether detection finds HTTP. In the linkerd dialect
// it looks at the first segment only.
func Detected(request Request, dialect api.Dialect) bool {
	return request.Protocol.HTTP() && (!request.Dribbled || dialect.GatherToDetect)
}

// Spoken is T-10, T-14 to T-16, T-18 and T-19: what becomes of a redirected
// connection, given whether detection would find HTTP.
func Spoken(protocol api.ProxyProtocol, request Request, session Session, detected bool) (Course, string) {
	switch protocol {
	case api.ProtocolOpaque:
		return AsTCP, "T-10"
	case api.ProtocolTLS:
		return AsTCP, "T-14"
	case api.ProtocolHTTP1:
		switch {
		case session.Foreign:
			return Refuse, "T-18"
		case session.Terminated && detected:
			return AsHTTP, "T-18"
		case session.Terminated:
			return Refuse, "T-18"
		case request.Protocol == HTTP1:
			return AsHTTP, "T-18"
		default:
			return Mismatch, "T-18"
		}
	case api.ProtocolHTTP2, api.ProtocolGRPC:
		if !session.Foreign && (request.Protocol == HTTP2 || request.Protocol == GRPC) {
			return AsHTTP, "T-19"
		}
		return Mismatch, "T-19"
	default:
		if detected && !session.Foreign {
			return AsHTTP, "T-15"
		}
		return AsTCP, "T-16"
	}
}

// outlived is L-08 and L-09: what becomes of a connection that had taken its course
// when the port got another protocol.
func outlived(course Course, rule string, protocol api.ProxyProtocol) (Course, string) {
	notHTTP := protocol == api.ProtocolOpaque || protocol == api.ProtocolTLS
	httpOnly := protocol == api.ProtocolHTTP1 || protocol == api.ProtocolHTTP2 || protocol == api.ProtocolGRPC
	switch {
	case course == AsHTTP && notHTTP:
		return Nowhere, "L-08"
	case course == AsTCP && httpOnly:
		return Refuse, "L-09"
	default:
		return course, rule
	}
}

// course decides what the proxy makes of the connection.
func (o Oracle) course(p Policy, request Request, session Session) (Course, string) {
	if session.Transported && request.Announced != "" {
		return o.Rules.Transported(p.Protocol, request.Announced == AnnouncesHTTP)
	}
	if session.Transported {
		return o.Rules.Transported(p.Protocol, request.Protocol.HTTP() && !p.Hinted)
	}
	if request.Protocol == Silent && o.Rules.SilentClosed(session, p.Protocol, o.Dialect) {
		return Refuse, "T-12"
	}
	return o.Rules.Spoken(p.Protocol, request, session, o.Rules.Detected(request, o.Dialect))
}
