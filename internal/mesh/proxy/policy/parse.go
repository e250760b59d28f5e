package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrInvalid is wrapped by every refusal of a message.
var ErrInvalid = errors.New("invalid policy message")

// Hash is how controller and proxy name a message: hex(sha256(deterministic marshal)).
func Hash(msg *pb.Server) (string, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return "", fmt.Errorf("%w: marshal: %w", ErrInvalid, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// Parse reads a message. previous, the policy it replaces, may be nil.
//
// A field or enum value from a newer controller invalidates the message: what it
// restricts cannot be known. The one exception is an authentication of an
// unknown kind: that authorization grants nothing, the others stand.
func Parse(msg *pb.Server, d Dialect, previous *Port) (*Port, error) {
	hash, err := Hash(msg)
	if err != nil {
		return nil, err
	}
	p := &Port{Hash: hash, Server: labelRef(msg.GetLabels()), dialect: d, onlyDefaults: true}
	if field := unknownField(msg.ProtoReflect(), "server"); field != "" {
		return nil, fmt.Errorf("%w: unknown field in %s", ErrInvalid, field)
	}
	authz, err := parseAuthzs(msg.GetAuthorizations())
	if err != nil {
		return nil, err
	}
	p.permits = newPermits(p.Server, Ref{}, newGrants(append(authz, localhost)))
	if err := p.parseProtocol(msg.GetProtocol()); err != nil {
		return nil, err
	}
	p.inherit(previous)
	return p, nil
}

func (p *Port) parseProtocol(msg *pb.ProxyProtocol) error {
	var (
		http  []*pb.HttpRoute
		grpc  []*pb.GrpcRoute
		limit *pb.HttpLocalRateLimit
	)
	switch kind := msg.GetKind().(type) {
	case *pb.ProxyProtocol_Detect_:
		p.Protocol = Detect
		if err := kind.Detect.GetTimeout().CheckValid(); err != nil {
			return fmt.Errorf("%w: detect time-out: %w", ErrInvalid, err)
		}
		p.DetectTimeout = kind.Detect.GetTimeout().AsDuration()
		if p.DetectTimeout < 0 {
			return fmt.Errorf("%w: detect time-out %s is negative", ErrInvalid, p.DetectTimeout)
		}
		http, limit = kind.Detect.GetHttpRoutes(), kind.Detect.GetHttpLocalRateLimit()
	case *pb.ProxyProtocol_Opaque_:
		p.Protocol = Opaque
	case *pb.ProxyProtocol_Tls_:
		p.Protocol = TLS
	case *pb.ProxyProtocol_Http1_:
		p.Protocol = HTTP1
		http, limit = kind.Http1.GetRoutes(), kind.Http1.GetLocalRateLimit()
	case *pb.ProxyProtocol_Http2_:
		p.Protocol = HTTP2
		http, limit = kind.Http2.GetRoutes(), kind.Http2.GetLocalRateLimit()
	case *pb.ProxyProtocol_Grpc_:
		p.Protocol = GRPC
		grpc = kind.Grpc.GetRoutes()
	default:
		return fmt.Errorf("%w: no protocol", ErrInvalid)
	}
	if !p.Protocol.hasHTTP() {
		return nil
	}
	for i, msg := range http {
		route, err := p.parseHTTPRoute(msg)
		if err != nil {
			return fmt.Errorf("http route %d: %w", i, err)
		}
		p.routes = append(p.routes, route)
	}
	for i, msg := range grpc {
		route, err := p.parseGRPCRoute(msg)
		if err != nil {
			return fmt.Errorf("grpc route %d: %w", i, err)
		}
		p.routes = append(p.routes, route)
	}
	if len(p.routes) == 0 {
		p.routes = []*Route{p.defaultRoute()}
	}
	var err error
	p.limit, err = parseLimit(limit)
	return err
}

// defaultRoute is what an answer without routes means (H-18).
func (p *Port) defaultRoute() *Route {
	route := &Route{Ref: Ref{Kind: "default", Name: "default"}, rules: []Rule{{matches: []match{{}}}}}
	p.finish(route, nil)
	return route
}

// finish gives the route its effective list: its own, the Server's, localhost.
func (p *Port) finish(route *Route, own []Authz) {
	if len(own) > 0 {
		route.own = newPermits(p.Server, route.Ref, newGrants(own))
	}
	route.servers = newPermits(p.Server, route.Ref, p.permits.grants)
	if route.Ref.Kind == "default" {
		return
	}
	p.onlyDefaults = false
	if p.dialect.RawPaths {
		return
	}
	for i := range route.rules {
		for _, m := range route.rules[i].matches {
			if m.kind == pathExact || m.kind == pathRegex || m.kind == pathPrefix && m.path != "" {
				p.pathSensitive = true
			}
		}
	}
}

func parseLimit(msg *pb.HttpLocalRateLimit) (*RateLimit, error) {
	if msg == nil {
		return nil, nil
	}
	l := &RateLimit{
		Ref:      metaRef(msg.GetMetadata()),
		total:    msg.GetTotal().GetRequestsPerSecond(),
		identity: msg.GetIdentity().GetRequestsPerSecond(),
		entry:    map[string]int{},
		clients:  map[string]*bucket{},
	}
	if msg.GetTotal() != nil && l.total == 0 || msg.GetIdentity() != nil && l.identity == 0 {
		return nil, fmt.Errorf("%w: rate limit of zero", ErrInvalid)
	}
	for i, o := range msg.GetOverrides() {
		entry := override{limit: o.GetLimit().GetRequestsPerSecond()}
		if entry.limit == 0 {
			return nil, fmt.Errorf("%w: rate limit of zero", ErrInvalid)
		}
		for _, id := range o.GetClients().GetIdentities() {
			entry.identities = append(entry.identities, id.GetName())
			if _, ok := l.entry[id.GetName()]; !ok {
				l.entry[id.GetName()] = i
			}
		}
		l.overrides = append(l.overrides, entry)
	}
	l.shared = make([]bucket, len(l.overrides))
	return l, nil
}

// labelRef reads the labels of a server, or the deprecated labels of an
// authorization. The old style has only a name, default:<policy> for defaults (W-16).
func labelRef(labels map[string]string) Ref {
	ref := Ref{Group: labels["group"], Kind: labels["kind"], Name: labels["name"]}
	if ref.Kind == "" {
		if name, ok := strings.CutPrefix(ref.Name, "default:"); ok {
			return Ref{Kind: "default", Name: name}
		}
	}
	return ref
}

func metaRef(m *meta.Metadata) Ref {
	switch kind := m.GetKind().(type) {
	case *meta.Metadata_Default:
		return Ref{Kind: "default", Name: kind.Default}
	case *meta.Metadata_Resource:
		return Ref{Group: kind.Resource.GetGroup(), Kind: kind.Resource.GetKind(), Name: kind.Resource.GetName()}
	}
	return Ref{}
}

// authnMessages are the messages whose unknown fields mean "an authentication of an unknown kind".
var authnMessages = map[protoreflect.FullName]bool{
	(&pb.Authn{}).ProtoReflect().Descriptor().FullName():               true,
	(&pb.Authn_PermitMeshTLS{}).ProtoReflect().Descriptor().FullName(): true,
}

// unknownField finds a field or enum value this program does not know; it
// returns where, or "". Unknown fields of an authentication are left to
// parseAuthn, which then grants nothing.
func unknownField(m protoreflect.Message, where string) string {
	if len(m.GetUnknown()) > 0 && !authnMessages[m.Descriptor().FullName()] {
		number, _, _ := protowire.ConsumeTag(m.GetUnknown())
		return fmt.Sprintf("%s (field %d)", where, number)
	}
	found := ""
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := where + "." + string(field.Name())
		visit := func(v protoreflect.Value) bool {
			switch {
			case field.Enum() != nil:
				if field.Enum().Values().ByNumber(v.Enum()) == nil {
					found = fmt.Sprintf("%s (value %d)", at, v.Enum())
				}
			case field.Message() != nil:
				found = unknownField(v.Message(), at)
			}
			return found == ""
		}
		switch {
		case field.IsList():
			for i := range value.List().Len() {
				if !visit(value.List().Get(i)) {
					break
				}
			}
		case field.IsMap(): // labels only: strings
		default:
			visit(value)
		}
		return found == ""
	})
	return found
}
