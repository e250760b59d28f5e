package scenarios

import "time"

// APIVersion and KindScenario head every document.
const (
	APIVersion   = "meshproof.dev/v1alpha1"
	KindScenario = "Scenario"
)

// Scenario is one document: a set-up and the steps that are taken on it.
type Scenario struct {
	Pos `yaml:"-" json:"-"`
	// Always meshproof.dev/v1alpha1.
	APIVersion string `yaml:"apiVersion" jsonschema:"required,enum=meshproof.dev/v1alpha1"`
	// Always Scenario.
	Kind     string   `yaml:"kind" jsonschema:"required,enum=Scenario"`
	Metadata Metadata `yaml:"metadata" jsonschema:"required"`
	Spec     Spec     `yaml:"spec" jsonschema:"required"`
}

// Metadata names a scenario.
type Metadata struct {
	// Name by which the scenario is selected and its namespaces are called: lower-case letters, digits and hyphens, at most 40.
	Name string `yaml:"name" jsonschema:"required"`
	// Labels for selection with Ginkgo's label filters.
	Labels []string `yaml:"labels"`
	// Feature that the claims belong to, unless they say another.
	Feature Feature `yaml:"feature"`
}

// Spec is what a scenario does.
type Spec struct {
	// Summary is one line for people.
	Summary string `yaml:"summary" jsonschema:"required"`
	// Namespace fixes the namespace's name; without it one is generated. Scenarios with the same fixed namespace run one after another.
	Namespace string `yaml:"namespace"`
	// Serial says that the scenario's steps are taken while no other scenario runs: because it touches settings of the whole cluster, or measures.
	Serial bool `yaml:"serial"`
	// Dialects for which the scenario is; its claims are skipped in the others. All when absent.
	Dialects []Dialect `yaml:"dialects"`
	// Annotations of the scenario's namespace.
	Annotations map[string]string `yaml:"annotations"`
	// Labels of the scenario's namespace.
	Labels map[string]string `yaml:"labels"`
	// Namespaces besides the scenario's own; ${ns.NAME} is the real name.
	Namespaces []Namespace `yaml:"namespaces"`
	// Workloads are deployed before the first step unless they say later.
	Workloads []Workload `yaml:"workloads"`
	// Clients are the pods that call.
	Clients []Client `yaml:"clients"`
	// Budget is how long after its acknowledgement a write may take to come into force at a proxy: 5s when absent.
	Budget time.Duration `yaml:"budget"`
	// Traffic are streams of calls that flow from before the first step until after the last. Every step that changes something has three claims for each of them: before, during and after the change.
	Traffic []Stream `yaml:"traffic"`
	// Steps are taken in order.
	Steps []Step `yaml:"steps" jsonschema:"required"`
}

// Namespace is a further namespace of a scenario.
type Namespace struct {
	Pos  `yaml:"-" json:"-"`
	Name string `yaml:"name" jsonschema:"required"`
	// Exact keeps the name as it stands instead of generating one from it. Scenarios with the same exact namespace run one after another.
	Exact       bool              `yaml:"exact"`
	Annotations map[string]string `yaml:"annotations"`
	Labels      map[string]string `yaml:"labels"`
}

// Workload is something that is called.
type Workload struct {
	Pos  `yaml:"-" json:"-"`
	Name string       `yaml:"name" jsonschema:"required"`
	Kind WorkloadKind `yaml:"kind" jsonschema:"required"`
	// Namespace is the name of one of the scenario's further namespaces.
	Namespace string `yaml:"namespace"`
	// Manifest is the file of a workload of kind manifest, in the folder manifests beside the scenario; the objects in it whose pods are called go by their own names.
	Manifest string `yaml:"manifest"`
	// Parts are what such a file holds.
	Parts map[string]Component `yaml:"-" json:"-"`
	// Form is Deployment (default) or a bare Pod.
	Form WorkloadForm `yaml:"form"`
	// Replicas of a Deployment, 1 when absent.
	Replicas int `yaml:"replicas"`
	// Inject says whether the pods get a proxy: true when absent.
	Inject *bool `yaml:"inject"`
	// ServiceAccount of the pods, default when absent; made when it does not exist.
	ServiceAccount string `yaml:"serviceAccount"`
	// Labels of the pods besides app: NAME.
	Labels map[string]string `yaml:"labels"`
	// Annotations of the pods: in the template of a Deployment, or on the bare Pod.
	Annotations map[string]string `yaml:"annotations"`
	// OwnAnnotations stand on the Deployment itself.
	OwnAnnotations map[string]string `yaml:"ownAnnotations"`
	// Undeclared ports are served but not declared as container ports.
	Undeclared []string `yaml:"undeclared"`
	// Ports are declared as container ports besides those of the kind, whether anybody serves them or not.
	Ports []Declaration `yaml:"ports"`
	// Probes over HTTP that a workload of kind echo declares.
	Probes []DeclaredProbe `yaml:"probes"`
	// Readiness and liveness: the kinds of probe that a probed workload declares, each on a port of its own.
	Readiness ProbeKind `yaml:"readiness"`
	Liveness  ProbeKind `yaml:"liveness"`
	// LivenessFailures in a row make the kubelet restart the container: 1 when absent.
	LivenessFailures int `yaml:"livenessFailures"`
	// Apart names a workload on whose node no pod of this one runs. Claims that need it are skipped where there is one node only.
	Apart string `yaml:"apart"`
	// Later leaves it to a deploy action.
	Later bool `yaml:"later"`
	// Await says what set-up waits for: that the pods are ready (default), created, or nothing.
	Await Await `yaml:"await"`
}

// Client is a pod that calls.
type Client struct {
	Pos  `yaml:"-" json:"-"`
	Name string     `yaml:"name" jsonschema:"required"`
	Kind ClientKind `yaml:"kind" jsonschema:"required"`
	// Shared clients are deployed once per run, in a namespace of their own (${clients}); those that are alike are one pod.
	Shared bool `yaml:"shared"`
	// Namespace is the name of one of the scenario's further namespaces.
	Namespace string `yaml:"namespace"`
	// ServiceAccount, and so the identity of a meshed client; default when absent.
	ServiceAccount string `yaml:"serviceAccount"`
	// Identity of a client of kind spiffe: a SPIFFE ID, or any name; spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT when absent.
	Identity string `yaml:"identity"`
	// Network says whether the client's address lies inside clusterNetworks. Claims that need a client outside are skipped where there can be none.
	Network Network `yaml:"network"`
	// Apart names a workload on whose node the client does not run. Claims that need it are skipped where there is one node only.
	Apart string `yaml:"apart"`
	// Inside names a workload of echo in whose pods the client runs, behind their own proxy (B-02).
	Inside string `yaml:"inside"`
}

// Step is a named change and what must be true after it.
type Step struct {
	Pos  `yaml:"-" json:"-"`
	Name string `yaml:"name" jsonschema:"required"`
	// Dialects for which the step is: in the others its actions are not done, and its claims skipped. All when absent.
	Dialects []Dialect `yaml:"dialects"`
	// Frozen says that policy stands still: the claims are judged by the world as it was when the step before ended, as when no controller is there to observe a change (L-06).
	Frozen bool `yaml:"frozen"`
	// Repeat does the step's actions this many times.
	Repeat int `yaml:"repeat"`
	// Before is what the calls of streams get before the actions; what the rules say of those that are not named.
	Before StreamExpects `yaml:"before"`
	// Actions are done in order, and each waits until it is in force.
	Actions []Action `yaml:"actions"`
	// During is what becomes of streams while the change comes into force; old-or-new for those that are not named.
	During StreamCourses `yaml:"during"`
	// After is what the calls of streams get once the change is in force; what the rules say of those that are not named.
	After StreamExpects `yaml:"after"`
	// Shows lists the statements and rules that the claims about streams show: those before, during and after the change.
	Shows []string `yaml:"shows"`
	// Claims are judged after the actions, together.
	Claims []Claim `yaml:"claims"`
}

// Action is one change; exactly one of its fields besides wait and dialects is given.
type Action struct {
	Pos `yaml:"-" json:"-"`
	// Dialects for which the action is: it is not done in the others. All when absent.
	Dialects []Dialect `yaml:"dialects"`
	// Wait says what to wait for after a write; in-force when absent.
	Wait Wait `yaml:"wait"`

	// Apply objects as kubectl apply does.
	Apply []Object `yaml:"apply"`
	// Manifest applies the objects of a file beside the scenario.
	Manifest string `yaml:"manifest"`
	// Delete objects.
	Delete []Ref `yaml:"delete"`
	// Patch an object with a JSON merge patch.
	Patch *Patch `yaml:"patch"`
	// Annotate an object.
	Annotate *Annotate `yaml:"annotate"`
	// Label an object.
	Label *Annotate `yaml:"label"`
	// Restart replaces the pods of a workload.
	Restart *WorkloadRef `yaml:"restart"`
	// Deploy a workload that was declared with later.
	Deploy *WorkloadRef `yaml:"deploy"`
	// Await the pods of a workload that was deployed or restarted without waiting.
	Await *WorkloadRef `yaml:"await"`
	// Remove a workload.
	Remove *WorkloadRef `yaml:"remove"`
	// Scale a Deployment that need not be the scenario's; its old size is restored at the end.
	Scale *Scale `yaml:"scale"`
	// Install applies the mesh's printed manifests with options, as the document's upgrade does; the old options are restored at the end.
	Install *Install `yaml:"install"`
	// Start a steady stream of calls.
	Start *Stream `yaml:"start"`
	// Stop a stream.
	Stop *StreamRef `yaml:"stop"`
	// Hold opens a connection and keeps it open, sending now and then.
	Hold *Hold `yaml:"hold"`
	// Fault breaks something, for an interval.
	Fault *Fault `yaml:"fault"`
	// Heal ends the fault of that name, and waits until all policy is in force again.
	Heal string `yaml:"heal"`
}

// Values are the named values that stand for what is known only when a scenario
// runs, with what each is. Besides them ${ns.NAME} is the real name of the
// scenario's further namespace NAME.
func Values() map[string]string {
	return map[string]string{
		"namespace": "the scenario's own namespace",
		"clients":   "the namespace of the shared clients with a proxy, whose ServiceAccounts policies can name",
		"run":       "the run's ID",
		"outside":   "one prefix, such as 172.18.0.0/30, that holds the address of every client with `network: outside` and of no pod",
	}
}

// Object is a Kubernetes object as it stands in the scenario.
type Object struct {
	Pos
	Content map[string]any
}

// TransportHeader is the header with which a connection to a proxy's own port begins.
type TransportHeader struct {
	Pos `yaml:"-" json:"-"`
	// Session is the protocol that the header says is spoken: http1, http2, or none when absent.
	Session Protocol `yaml:"session"`
	// Name of a target beyond the pod, as for a gateway.
	Name string `yaml:"name"`
}

// Ref names an object in the scenario's namespace or in another one.
type Ref struct {
	Pos  `yaml:"-" json:"-"`
	Kind string `yaml:"kind" jsonschema:"required"`
	Name string `yaml:"name" jsonschema:"required"`
	// Namespace is a real name, as a rule from a named value such as ${ns.other}.
	Namespace string `yaml:"namespace"`
}

// Patch is a JSON merge patch of one object.
type Patch struct {
	Pos       `yaml:"-" json:"-"`
	Kind      string `yaml:"kind" jsonschema:"required"`
	Name      string `yaml:"name" jsonschema:"required"`
	Namespace string `yaml:"namespace"`
	// Subresource status patches the status of the object, as its controllers do.
	Subresource Subresource `yaml:"subresource"`
	// Merge is the patch; null removes a field.
	Merge Object `yaml:"merge" jsonschema:"required"`
}

// Annotate sets annotations or labels of one object, or of every pod of a workload.
type Annotate struct {
	Pos `yaml:"-" json:"-"`
	// Kind and name of an object, or workload.
	Kind      string `yaml:"kind"`
	Name      string `yaml:"name"`
	Namespace string `yaml:"namespace"`
	// Workload whose pods are meant.
	Workload string            `yaml:"workload"`
	Set      map[string]string `yaml:"set"`
	Remove   []string          `yaml:"remove"`
}

// WorkloadRef names a workload of the scenario.
type WorkloadRef struct {
	Pos      `yaml:"-" json:"-"`
	Workload string `yaml:"workload" jsonschema:"required"`
	// Await says what the action waits for: that the pods are ready (default), created, or nothing.
	Await Await `yaml:"await"`
}

// Scale sets the number of replicas of a Deployment.
type Scale struct {
	Pos       `yaml:"-" json:"-"`
	Name      string `yaml:"name" jsonschema:"required"`
	Namespace string `yaml:"namespace" jsonschema:"required"`
	Replicas  int    `yaml:"replicas" jsonschema:"required"`
}

// Install holds the options of the mesh's installer.
type Install struct {
	Pos                  `yaml:"-" json:"-"`
	DefaultInboundPolicy string `yaml:"defaultInboundPolicy"`
	// ProbeNetworks are prefixes, or named values such as ${outside}; everywhere when absent, none at all when empty.
	ProbeNetworks []string `yaml:"probeNetworks"`
	// ClusterNetworks are prefixes, or named values such as ${outside}; the run's own when absent.
	ClusterNetworks []string `yaml:"clusterNetworks"`
	HA              bool     `yaml:"ha"`
}

// Stream is an open-loop stream of calls: one every so often, whatever becomes of the others.
type Stream struct {
	Pos     `yaml:"-" json:"-"`
	Name    string `yaml:"name" jsonschema:"required"`
	Request `yaml:",inline"`
	// Rate in calls per second.
	Rate float64 `yaml:"rate" jsonschema:"required"`
}

// StreamRef names a stream that an earlier action has started.
type StreamRef struct {
	Pos    `yaml:"-" json:"-"`
	Stream string `yaml:"stream" jsonschema:"required"`
}

// Hold is a connection that stays open.
type Hold struct {
	Pos     `yaml:"-" json:"-"`
	Name    string `yaml:"name" jsonschema:"required"`
	Request `yaml:",inline"`
	// Every is the pause between two messages, or requests, of the connection: 100ms when absent. One of minutes leaves it idle after the first; that it is cut can be claimed then, and not that it is open.
	Every time.Duration `yaml:"every"`
}

// Request is one call: who calls, whom, and how.
type Request struct {
	Client string `yaml:"client" jsonschema:"required"`
	// Target is WORKLOAD:PORT, with a port's name or number; WORKLOAD alone means the port where it speaks the protocol.
	Target   string   `yaml:"target" jsonschema:"required"`
	Protocol Protocol `yaml:"protocol" jsonschema:"required"`
	// Path of an HTTP request, or /package.Service/Method of a gRPC call.
	Path   string `yaml:"path"`
	Method string `yaml:"method"`
	// Host is the authority that an HTTP request names instead of the address.
	Host string `yaml:"host"`
	// Headers of the request.
	Headers map[string]string `yaml:"headers"`
	// Body of an HTTP request, or the text of a TCP line.
	Body string `yaml:"body"`
	// Raw is sent, byte for byte, instead of an HTTP/1 request (H-02).
	Raw string `yaml:"raw"`
	// Transport dials the target proxy's own port and names the target's port in a header, as a proxy does (T-30). Clients that speak mesh TLS themselves can.
	Transport *TransportHeader `yaml:"transport"`
	// Via is the address that is dialled: the Service (default), the pod, or for a client inside the workload also loopback.
	Via Via `yaml:"via"`
	// Connection is fresh (default) for every call, or reused.
	Connection Connection `yaml:"connection"`
	// Timeout of the call.
	Timeout time.Duration `yaml:"timeout"`
	// Dribbled sends the first few bytes alone, fewer than a protocol is told by.
	Dribbled bool `yaml:"dribbled"`
	// SpeakAfter is how long the client stays silent after it has connected.
	SpeakAfter time.Duration `yaml:"speakAfter"`
}
