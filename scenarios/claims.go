package scenarios

import (
	"slices"
	"time"
)

// Claim is one named expectation, or with a matrix as many as it has cells.
// Exactly one of the forms below is given.
type Claim struct {
	Pos `yaml:"-" json:"-"`
	// Name says what is claimed, as a sentence.
	Name string `yaml:"name" jsonschema:"required"`
	// Shows lists the statements of the documents (DOC-nn) and the rules that the claim shows.
	Shows []string `yaml:"shows"`
	// Feature that the claim belongs to; the scenario's when absent.
	Feature Feature `yaml:"feature"`
	// Skip gives the reason why the claim is not judged yet.
	Skip string `yaml:"skip"`
	// Dialects for which the claim is; it is skipped in the others. All when absent.
	Dialects []Dialect `yaml:"dialects"`
	// NoOracle gives the reason why the rules do not decide the claim: the oracle is not asked.
	NoOracle string `yaml:"noOracle"`
	// Within is how long the claim may take to come true; a call without it must hold at once.
	Within time.Duration `yaml:"within"`

	// Call is made once, and its outcome is compared.
	Call *Call `yaml:"call"`
	// Matrix is one call, and one claim, per cell.
	Matrix *Matrix `yaml:"matrix"`
	// Probe compares what the kubelet made of a workload's probes.
	Probe *ProbeClaim `yaml:"probe"`
	// Held compares the state of a connection that an action has opened.
	Held *HeldClaim `yaml:"held"`
	// Traffic judges the calls of a stream.
	Traffic *TrafficClaim `yaml:"traffic"`
	// Authz compares rows of the authorization table.
	Authz *AuthzClaim `yaml:"authz"`
	// Metric compares what is counted.
	Metric *MetricClaim `yaml:"metric"`
	// Log compares what is logged.
	Log *LogClaim `yaml:"log"`
	// Rate calls at fixed rates and compares how many calls are limited.
	Rate *RateClaim `yaml:"rate"`
	// Status compares a condition of an object.
	Status *StatusClaim `yaml:"status"`
	// Command runs a command in a pod and compares its end and output.
	Command *CommandClaim `yaml:"command"`
	// Admission submits an object and compares whether it is taken.
	Admission *AdmissionClaim `yaml:"admission"`
	// Certify asks the identity service for a certificate and compares whether it is issued.
	Certify *CertifyClaim `yaml:"certify"`
	// Event waits for a Kubernetes event.
	Event *EventClaim `yaml:"event"`
	// Healthy runs the health check.
	Healthy *HealthyClaim `yaml:"healthy"`
	// Policy compares what the controller serves for a port.
	Policy *PolicyClaim `yaml:"policy"`
	// Pods compares the pods of a workload.
	Pods *PodsClaim `yaml:"pods"`

	// Window is the form of claims that nobody writes: see Spec.Traffic.
	Window *WindowClaim `yaml:"-" json:"-"`
}

// Call is a request and what is expected of it.
type Call struct {
	Pos     `yaml:"-" json:"-"`
	Request `yaml:",inline"`
	// Expect is one kind of outcome, or a list of those that are right. Absent, what the rules say is expected.
	Expect Expect `yaml:"expect"`
	// Status expected: of HTTP, or of gRPC in a gRPC call.
	Status *int `yaml:"status"`
	// Answer compares headers and body of an HTTP or gRPC answer.
	Answer *Answer `yaml:"answer"`
	// By is the authorization that the proxy's decision record must name, as kind/name.
	By string `yaml:"by"`
	// Repeat makes the call this many times; every one must be as expected.
	Repeat int `yaml:"repeat"`
}

// Answer is what an answer must hold. Values are regular expressions that must fit as a whole.
type Answer struct {
	Pos `yaml:"-" json:"-"`
	// Headers by name, trailers included.
	Headers map[string]string `yaml:"headers"`
	// Absent headers.
	Absent []string `yaml:"absent"`
	// Body of the answer.
	Body *string `yaml:"body"`
}

// Matrix makes a claim of each combination of target, client and protocol.
type Matrix struct {
	Pos       `yaml:"-" json:"-"`
	Protocols []Protocol `yaml:"protocols" jsonschema:"required"`
	// Path, method, headers, host and via hold for all cells.
	Path    string            `yaml:"path"`
	Method  string            `yaml:"method"`
	Headers map[string]string `yaml:"headers"`
	Host    string            `yaml:"host"`
	Via     Via               `yaml:"via"`
	Rows    []Row             `yaml:"rows" jsonschema:"required"`
}

// Row is a target with the outcome of each client.
type Row struct {
	Pos    `yaml:"-" json:"-"`
	Target string `yaml:"target" jsonschema:"required"`
	// Shows is added to what the claim shows.
	Shows []string `yaml:"shows"`
	// Protocols instead of those of the matrix.
	Protocols []Protocol `yaml:"protocols"`
	// Expect maps kinds of outcome to the clients that must see them.
	Expect Cells `yaml:"expect"`
	// Clients that must see what the rules say.
	Clients []string `yaml:"clients"`
}

// Calls of the matrix, one for each cell and protocol, in order.
func (m *Matrix) Calls() []*Call {
	var calls []*Call
	for i := range m.Rows {
		calls = append(calls, m.calls(&m.Rows[i])...)
	}
	return calls
}

func (m *Matrix) calls(row *Row) []*Call {
	protocols := row.Protocols
	if protocols == nil {
		protocols = m.Protocols
	}
	var calls []*Call
	for _, cell := range row.cells() {
		for _, protocol := range protocols {
			calls = append(calls, &Call{Pos: cell.Pos, Expect: cell.Expect, Request: Request{Client: cell.Client, Target: row.Target,
				Protocol: protocol, Path: m.Path, Method: m.Method, Headers: m.Headers, Host: m.Host, Via: m.Via}})
		}
	}
	return calls
}

// Cells of the row: those whose outcome it gives, then those that the rules decide.
func (r *Row) cells() Cells {
	all := slices.Clone(r.Expect)
	for _, client := range r.Clients {
		all = append(all, Cell{Pos: r.Pos, Client: client})
	}
	return all
}

// Cells maps kinds of outcome to clients.
type Cells []Cell

// Cell is one client and what it must see.
type Cell struct {
	Pos
	Client string
	Expect Expect
}

// ProbeClaim compares a workload's pods with what its probes should yield.
type ProbeClaim struct {
	Pos      `yaml:"-" json:"-"`
	Workload string `yaml:"workload" jsonschema:"required"`
	// Ready is the Ready condition that every pod must have.
	Ready *bool `yaml:"ready"`
	// Restarts of the application's container since the step began: none or some.
	Restarts Amount `yaml:"restarts"`
	// Answered is how many probe requests the proxy must have let through since the step began.
	Answered int `yaml:"answered"`
	// Denied is how many probe requests the proxy must have denied since the step began.
	Denied int `yaml:"denied"`
}

// TrafficClaim judges the calls of a stream.
type TrafficClaim struct {
	Pos    `yaml:"-" json:"-"`
	Stream string `yaml:"stream" jsonschema:"required"`
	// Expect of the calls since From.
	Expect TrafficShape `yaml:"expect" jsonschema:"required"`
	// From is the step at whose begin the judged part of the stream begins; its start when absent.
	From string `yaml:"from"`
	// AtLeast is how many calls must have been judged; 10 when absent.
	AtLeast int `yaml:"atLeast"`
}

// AuthzClaim compares rows of the table over the traffic since the step began.
type AuthzClaim struct {
	Pos      `yaml:"-" json:"-"`
	Workload string     `yaml:"workload" jsonschema:"required"`
	Rows     []AuthzRow `yaml:"rows" jsonschema:"required"`
}

// AuthzRow is one row of the table.
type AuthzRow struct {
	Pos    `yaml:"-" json:"-"`
	Route  string `yaml:"route" jsonschema:"required"`
	Server string `yaml:"server" jsonschema:"required"`
	// Authorization cell; empty in the row of denials.
	Authorization string `yaml:"authorization"`
	// Absent says that the table must not have this row, or that nothing happened in it.
	Absent bool `yaml:"absent"`
	// Unauthorized, rps: none or some.
	Unauthorized Amount `yaml:"unauthorized"`
	RPS          Amount `yaml:"rps"`
	// Success: none (0.00%), all (100.00%) or partial.
	Success Share `yaml:"success"`
}

// CommandClaim runs a command.
type CommandClaim struct {
	Pos `yaml:"-" json:"-"`
	// Image of a pod that is made for the command, without a proxy, and removed.
	Image string `yaml:"image"`
	// Namespace of that pod; default when absent.
	Namespace string `yaml:"namespace"`
	// Workload in whose application container the command runs instead.
	Workload string `yaml:"workload"`
	// Run is the command and its arguments.
	Run []string `yaml:"run" jsonschema:"required"`
	// Exit is zero or nonzero.
	Exit ExitKind `yaml:"exit" jsonschema:"required"`
	// Output lists texts that must each stand in what it prints.
	Output []string `yaml:"output"`
	// Ends lists texts with one of which the output must end, blanks at the end aside.
	Ends []string `yaml:"ends"`
	// Outcome that a client of this project prints as JSON.
	Outcome Expect `yaml:"outcome"`
}

// AdmissionClaim submits objects without keeping them.
type AdmissionClaim struct {
	Pos    `yaml:"-" json:"-"`
	Object Object    `yaml:"object" jsonschema:"required"`
	Expect Admission `yaml:"expect" jsonschema:"required"`
}

// EventClaim waits for an event in the scenario's namespace.
type EventClaim struct {
	Pos    `yaml:"-" json:"-"`
	Reason string `yaml:"reason" jsonschema:"required"`
	// Kind and name of the object that the event is about; a name ending in * is a prefix.
	Kind string `yaml:"kind"`
	Name string `yaml:"name"`
}

// HealthyClaim runs the check that the document runs after the set-up.
type HealthyClaim struct {
	Pos `yaml:"-" json:"-"`
	// Namespace whose proxies are checked; the scenario's own when absent.
	Namespace string `yaml:"namespace"`
	// ControlPlane checks the control plane and its webhooks too.
	ControlPlane bool `yaml:"controlPlane"`
}

// PolicyClaim compares what the controller serves for a port of a workload.
type PolicyClaim struct {
	Pos    `yaml:"-" json:"-"`
	Target string `yaml:"target" jsonschema:"required"`
	// Server whose policy it is, as kind/name.
	Server string `yaml:"server"`
	// Enforced is false for pods without a proxy, about which nothing can be served.
	Enforced *bool `yaml:"enforced"`
}

// PodsClaim compares the pods of a workload.
type PodsClaim struct {
	Pos      `yaml:"-" json:"-"`
	Workload string `yaml:"workload" jsonschema:"required"`
	// Are: absent, or injected.
	Are PodsAre `yaml:"are" jsonschema:"required"`
}
