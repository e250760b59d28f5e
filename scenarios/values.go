package scenarios

import (
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/meshproof/meshproof/clients"
)

// The closed sets of the language. Each type lists its values, from which the
// parser's check, its suggestions and the JSON schema derive.
type (
	WorkloadKind string
	WorkloadForm string
	ProbeKind    string
	ClientKind   string
	Network      string
	Wait         string
	Await        string
	Protocol     string
	Via          string
	Connection   string
	HeldState    string
	TrafficShape string
	Amount       string
	Share        string
	Since        string
	ExitKind     string
	Admission    string
	PodsAre      string
	Dialect      string
	PortProtocol string
	Container    string
	ProbeType    string
)

const (
	Echo      WorkloadKind = "echo"
	Emojivoto WorkloadKind = "emojivoto"
	Probed    WorkloadKind = "probed"
	// FromManifest is a workload of somebody's own, from a file.
	FromManifest WorkloadKind = "manifest"

	FormDeployment WorkloadForm = "Deployment"
	FormPod        WorkloadForm = "Pod"

	ProbeHTTP ProbeKind = "http"
	ProbeTCP  ProbeKind = "tcp"
	ProbeGRPC ProbeKind = "grpc"
	ProbeExec ProbeKind = "exec"

	// Meshed clients have a proxy; the others speak for themselves.
	Meshed   ClientKind = "meshed"
	Unmeshed ClientKind = "unmeshed"
	// TLSNoIdentity ends mesh TLS itself and presents no certificate.
	TLSNoIdentity ClientKind = "tls-no-identity"
	// ForeignRoot presents a certificate that no trust anchor of the mesh has signed.
	ForeignRoot ClientKind = "tls-foreign-root"
	// MeshedDirect speaks mesh TLS itself, with its own identity, to the port that it calls.
	MeshedDirect ClientKind = "meshed-direct"
	// SPIFFE is such a client whose certificate names it by a SPIFFE URI.
	SPIFFE ClientKind = "spiffe"
	// ForeignTLS speaks TLS to the application, past the proxy.
	ForeignTLS ClientKind = "foreign-tls"

	Inside  Network = "inside"
	Outside Network = "outside"

	// WaitInForce waits until the controller has observed the write and every proxy concerned enforces what follows from it.
	WaitInForce Wait = "in-force"
	// WaitObserved waits for the controller alone.
	WaitObserved Wait = "observed"
	// WaitNone goes on once the API server has accepted the write.
	WaitNone Wait = "none"

	AwaitReady   Await = "ready"
	AwaitCreated Await = "created"
	AwaitNone    Await = "none"

	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	// GRPCStream is one call whose messages are echoed as long as it lasts.
	GRPCStream     Protocol = "grpc-stream"
	TCP            Protocol = "tcp"
	TCPServerFirst Protocol = "tcp-server-first"
	TCPSilent      Protocol = "tcp-silent"
	// HTTPUpgrade and HTTPConnect open a tunnel by an HTTP/1 request, through which a line goes and comes back (H-03).
	HTTPUpgrade Protocol = "http-upgrade"
	HTTPConnect Protocol = "http-connect"

	ViaService Via = "service"
	ViaPod     Via = "pod"
	// ViaLoopback is 127.0.0.1, of the pod that the client is inside.
	ViaLoopback Via = "loopback"

	Fresh  Connection = "fresh"
	Reused Connection = "reused"

	Open HeldState = "open"
	Cut  HeldState = "cut"

	// AllAllowed: every call was answered by the application.
	AllAllowed TrafficShape = "all-allowed"
	// AllDenied: every call was denied.
	AllDenied TrafficShape = "all-denied"
	// NoneDenied: calls may fail for other reasons, for instance while a pod starts, and the last ones are allowed.
	NoneDenied TrafficShape = "none-denied"
	// DeniedWindow: a run of denied calls with allowed ones before and after it; its width is reported.
	DeniedWindow TrafficShape = "denied-window"

	None Amount = "none"
	Some Amount = "some"

	ShareNone    Share = "none"
	SharePartial Share = "partial"
	ShareAll     Share = "all"

	SinceStep  Since = "step"
	SinceStart Since = "start"

	ExitZero    ExitKind = "zero"
	ExitNonzero ExitKind = "nonzero"

	AdmissionRefused  Admission = "refused"
	AdmissionAccepted Admission = "accepted"

	PodsAbsent   PodsAre = "absent"
	PodsInjected PodsAre = "injected"
	PodsBare     PodsAre = "without-proxy"

	PortTCP  PortProtocol = "TCP"
	PortUDP  PortProtocol = "UDP"
	PortSCTP PortProtocol = "SCTP"

	// App is the application's container, Sidecar an initContainer beside it that runs on.
	App     Container = "app"
	Sidecar Container = "sidecar"

	ReadinessProbe ProbeType = "readiness"
	LivenessProbe  ProbeType = "liveness"
	StartupProbe   ProbeType = "startup"

	Documented Dialect = "documented"
	Linkerd    Dialect = "linkerd"
)

func (WorkloadKind) Values() []string { return of(Echo, Emojivoto, Probed, FromManifest) }
func (WorkloadForm) Values() []string { return of(FormDeployment, FormPod) }
func (ProbeKind) Values() []string    { return of(ProbeHTTP, ProbeTCP, ProbeGRPC, ProbeExec) }
func (ClientKind) Values() []string {
	return of(Meshed, Unmeshed, TLSNoIdentity, ForeignRoot, MeshedDirect, SPIFFE, ForeignTLS)
}
func (Network) Values() []string { return of(Inside, Outside) }
func (Wait) Values() []string    { return of(WaitInForce, WaitObserved, WaitNone) }
func (Await) Values() []string   { return of(AwaitReady, AwaitCreated, AwaitNone) }
func (Protocol) Values() []string {
	return of(HTTP1, HTTP2, GRPC, GRPCStream, TCP, TCPServerFirst, TCPSilent, HTTPUpgrade, HTTPConnect)
}
func (Via) Values() []string          { return of(ViaService, ViaPod, ViaLoopback) }
func (Connection) Values() []string   { return of(Fresh, Reused) }
func (HeldState) Values() []string    { return of(Open, Cut) }
func (TrafficShape) Values() []string { return of(AllAllowed, AllDenied, NoneDenied, DeniedWindow) }
func (Amount) Values() []string       { return of(None, Some) }
func (Share) Values() []string        { return of(ShareNone, SharePartial, ShareAll) }
func (Since) Values() []string        { return of(SinceStep, SinceStart) }
func (ExitKind) Values() []string     { return of(ExitZero, ExitNonzero) }
func (Admission) Values() []string    { return of(AdmissionRefused, AdmissionAccepted) }
func (PodsAre) Values() []string      { return of(PodsAbsent, PodsInjected, PodsBare) }
func (Dialect) Values() []string      { return of(Documented, Linkerd) }
func (PortProtocol) Values() []string { return of(PortTCP, PortUDP, PortSCTP) }
func (Container) Values() []string    { return of(App, Sidecar) }
func (ProbeType) Values() []string    { return of(ReadinessProbe, LivenessProbe, StartupProbe) }

func of[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// The schema of a closed set is its list.

func (v WorkloadKind) JSONSchema() *jsonschema.Schema { return enumSchema(v) }
func (v WorkloadForm) JSONSchema() *jsonschema.Schema { return enumSchema(v) }
func (v ProbeKind) JSONSchema() *jsonschema.Schema    { return enumSchema(v) }
func (v ClientKind) JSONSchema() *jsonschema.Schema   { return enumSchema(v) }
func (v Network) JSONSchema() *jsonschema.Schema      { return enumSchema(v) }
func (v Wait) JSONSchema() *jsonschema.Schema         { return enumSchema(v) }
func (v Await) JSONSchema() *jsonschema.Schema        { return enumSchema(v) }
func (v Protocol) JSONSchema() *jsonschema.Schema     { return enumSchema(v) }
func (v Via) JSONSchema() *jsonschema.Schema          { return enumSchema(v) }
func (v Connection) JSONSchema() *jsonschema.Schema   { return enumSchema(v) }
func (v HeldState) JSONSchema() *jsonschema.Schema    { return enumSchema(v) }
func (v TrafficShape) JSONSchema() *jsonschema.Schema { return enumSchema(v) }
func (v Amount) JSONSchema() *jsonschema.Schema       { return enumSchema(v) }
func (v Share) JSONSchema() *jsonschema.Schema        { return enumSchema(v) }
func (v Since) JSONSchema() *jsonschema.Schema        { return enumSchema(v) }
func (v ExitKind) JSONSchema() *jsonschema.Schema     { return enumSchema(v) }
func (v Admission) JSONSchema() *jsonschema.Schema    { return enumSchema(v) }
func (v PodsAre) JSONSchema() *jsonschema.Schema      { return enumSchema(v) }
func (v Dialect) JSONSchema() *jsonschema.Schema      { return enumSchema(v) }
func (v PortProtocol) JSONSchema() *jsonschema.Schema { return enumSchema(v) }
func (v Container) JSONSchema() *jsonschema.Schema    { return enumSchema(v) }
func (v ProbeType) JSONSchema() *jsonschema.Schema    { return enumSchema(v) }

func enumSchema(e enum) *jsonschema.Schema {
	schema := &jsonschema.Schema{Type: "string"}
	for _, value := range e.Values() {
		schema.Enum = append(schema.Enum, value)
	}
	return schema
}

// Denied is the outcome that stands for whatever form a denial has in the
// protocol at hand: 403 for HTTP, PermissionDenied for gRPC, and for TCP a
// connection refused, reset or closed before a byte, with a second witness.
const Denied = "denied"

// Expect is the set of outcomes that are right: Denied, or kinds of outcome.
type Expect []string

// Kinds resolves the expectation for a protocol.
func (e Expect) Kinds(p Protocol) []clients.Kind {
	var kinds []clients.Kind
	for _, one := range e {
		if one != Denied {
			kinds = append(kinds, clients.Kind(one))
			continue
		}
		switch p {
		case HTTP1, HTTP2, HTTPUpgrade, HTTPConnect:
			kinds = append(kinds, clients.Forbidden)
		case GRPC, GRPCStream:
			kinds = append(kinds, clients.PermissionDenied)
		default:
			kinds = append(kinds, clients.Refused, clients.Reset, clients.Closed)
		}
	}
	return kinds
}

// Denial reports whether the expectation is that the mesh refuses the call.
func (e Expect) Denial() bool {
	for _, one := range e {
		if one != Denied && !clients.Kind(one).Denial() {
			return false
		}
	}
	return len(e) > 0
}

func (e Expect) String() string { return strings.Join(e, " or ") }

// Outcomes lists what an expectation may be made of.
func Outcomes() []string {
	out := []string{Denied}
	for _, kind := range clients.Kinds() {
		out = append(out, string(kind))
	}
	return out
}

func (e *Expect) decodeNode(d *decoder, n *yaml.Node) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.Tag != "!!str" {
			d.fail(item, "expected an outcome, found %s", found(item))
			continue
		}
		if !contains(Outcomes(), item.Value) {
			d.fail(item, "%q is not an outcome: %s", item.Value, didYouMean(item.Value, Outcomes()))
		}
		*e = append(*e, item.Value)
	}
}

func (Expect) describe() string { return "an outcome or a list of outcomes" }

func outcomeSchema() *jsonschema.Schema {
	one := &jsonschema.Schema{Type: "string"}
	for _, outcome := range Outcomes() {
		one.Enum = append(one.Enum, outcome)
	}
	return one
}

// JSONSchema is an outcome or a list of outcomes.
func (Expect) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{outcomeSchema(), {Type: "array", Items: outcomeSchema()}}}
}

func (c *Cells) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected a mapping from outcomes to clients, found %s", found(n))
		return
	}
	for _, p := range d.pairs(n) {
		var expect Expect
		for _, outcome := range strings.Split(p.key.Value, "|") {
			if !contains(Outcomes(), outcome) {
				d.fail(p.key, "%q is not an outcome: %s", outcome, didYouMean(outcome, Outcomes()))
			}
			expect = append(expect, outcome)
		}
		value := p.value
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		items := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			items = value.Content
		}
		for _, item := range items {
			if item.Kind != yaml.ScalarNode || item.Tag != "!!str" {
				d.fail(item, "expected the name of a client, found %s", found(item))
				continue
			}
			*c = append(*c, Cell{Pos: d.pos(item), Client: item.Value, Expect: expect})
		}
	}
}

func (Cells) describe() string { return "a mapping from outcomes to clients" }

// JSONSchema maps outcomes, joined by | where several are right, to clients.
func (Cells) JSONSchema() *jsonschema.Schema {
	name := &jsonschema.Schema{Type: "string"}
	return &jsonschema.Schema{
		Type:                 "object",
		PropertyNames:        &jsonschema.Schema{Type: "string", Pattern: "^(" + strings.Join(Outcomes(), "|") + ")([|](" + strings.Join(Outcomes(), "|") + "))*$"},
		AdditionalProperties: &jsonschema.Schema{OneOf: []*jsonschema.Schema{name, {Type: "array", Items: name}}},
	}
}

func (o *Object) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected an object, found %s", found(n))
		return
	}
	o.Pos = d.pos(n)
	o.Content, _ = d.free(n).(map[string]any)
}

func (Object) describe() string { return "an object" }

// JSONSchema takes any object: the API server knows its fields.
func (Object) JSONSchema() *jsonschema.Schema { return &jsonschema.Schema{Type: "object"} }
