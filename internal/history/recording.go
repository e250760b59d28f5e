package history

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Recording is everything that happened in a scenario while its traffic flowed:
// what was written when, and every request with its answer. Times are since
// Began, on the engine's clock; those of other machines were brought onto it, and
// may be wrong by Slack.
type Recording struct {
	Scenario string    `json:"scenario"`
	Dialect  string    `json:"dialect"`
	Began    time.Time `json:"began"`
	// Budget is how long after its acknowledgement a write may take to come into
	// force at a proxy.
	Budget time.Duration `json:"budget"`
	// Slack is how far two clocks may be apart beyond what is known.
	Slack time.Duration `json:"slack,omitempty"`
	// Outages is how many requests may be refused that policy lets through; of what
	// is let through that it refuses nothing is ever tolerated.
	Outages int `json:"outages,omitempty"`
	// Base is the ID of the world before the first write.
	Base     string     `json:"base"`
	Streams  []Stream   `json:"streams"`
	Writes   []Write    `json:"writes"`
	Faults   []Fault    `json:"faults"`
	Requests []Request  `json:"-"`
	Proxies  []Proxy    `json:"proxies"`
	Steps    []StepSpan `json:"steps"`
	Holds    []HoldSpan `json:"holds"`
}

// Stream is calls at a fixed rate by one client to one port.
type Stream struct {
	Name string `json:"name"`
	// ClientKind is the kind of the client as the scenario says it, Target is
	// WORKLOAD:PORT, and Protocol and Connection (fresh or reused) are the
	// scenario's too.
	ClientKind string `json:"clientKind"`
	Target     string `json:"target"`
	Protocol   string `json:"protocol"`
	Connection string `json:"connection"`
	// Port in the pod.
	Port uint16 `json:"port"`
	// Rate is calls per second as planned.
	Rate float64 `json:"rate"`
	// ID is what the IDs of its requests begin with; a hyphen and the number of the
	// call follow.
	ID string `json:"id,omitempty"`
	// Client and Request are as the oracle is asked about them.
	Client  oracle.Client  `json:"client"`
	Request oracle.Request `json:"request"`
	// Sent calls were made, and Missed ones were due and not made. Lost answers
	// were made and are not in the recording.
	Sent   int64 `json:"sent"`
	Missed int64 `json:"missed"`
	Lost   int64 `json:"lost,omitempty"`
}

// CallID is the ID of one of its requests.
func (s *Stream) CallID(call int64) string { return s.ID + "-" + strconv.FormatInt(call, 10) }

// Write is one accepted change.
type Write struct {
	Step string `json:"step"`
	// Group numbers what was written without waiting in between: writes with the
	// same number form one, and stand next to each other in the order of calling.
	// Of a group N1 accepts what every combination of per-kind prefixes yields.
	Group int `json:"group"`
	// Verb is applied, patched, deleted; accepted for the status that makes a route
	// or rate limit count, which its controller writes.
	Verb      string        `json:"verb"`
	Kind      string        `json:"kind"`
	Namespace string        `json:"namespace,omitempty"`
	Name      string        `json:"name"`
	Call      time.Duration `json:"call"`
	Ack       time.Duration `json:"ack"`
	// World is the ID of the world after it.
	World string `json:"world"`
	// Observed is when the engine knew that every controller had observed it; 0:
	// nobody asked, or none did.
	Observed time.Duration `json:"observed,omitempty"`
	// InForce is when the engine knew that it was in force.
	InForce []InForce `json:"inForce,omitempty"`
}

// InForce is that a port of a proxy enforces what follows from a write.
type InForce struct {
	// Pod is namespace/name.
	Pod  string        `json:"pod"`
	Port uint16        `json:"port"`
	At   time.Duration `json:"at"`
	// Hash of the policy that is in force.
	Hash string `json:"hash"`
}

// Fault is an interval in which something was broken on purpose.
type Fault struct {
	Name string        `json:"name"`
	Kind string        `json:"kind"`
	From time.Duration `json:"from"`
	// To is when it was healed and its consequences were over; 0: never.
	To time.Duration `json:"to"`
	// Proxies that could not be told of anything, as namespace/name; empty: all.
	Proxies []string `json:"proxies,omitempty"`
	// Down says that the proxies, or what is behind them, may not answer while it
	// lasts.
	Down bool `json:"down,omitempty"`
}

// Request is one call of a stream.
type Request struct {
	// Stream is its place in Streams, and Call its number in it, from 1.
	Stream int
	Call   int64
	// Start is when the client began, and End when it had its answer.
	Start, End time.Duration
	Kind       clients.Kind
	// HTTPStatus is 0, and GRPCStatus -1, where there was none.
	HTTPStatus, GRPCStatus int
	// Pod is namespace/name of the one that answered; empty: unknown.
	Pod string
	// Record is the proxy's own of its decision, and Hash the policy by which it
	// decided; nil and empty: none was found.
	Record *Record
	Hash   string
	// Delivered is how often the application got it; -1: unknown.
	Delivered int
	// ID by which proxies and applications know it.
	ID string
}

// Proxy is one that requests came to.
type Proxy struct {
	// Pod is namespace/name.
	Pod string `json:"pod"`
	// Born is when the engine saw its pod first, and Gone when the pod's deletion
	// had begun; 0 for one that was there from the beginning or stayed.
	Born time.Duration `json:"born,omitempty"`
	Gone time.Duration `json:"gone,omitempty"`
	// World is the ID of the first one that has the pod.
	World string `json:"world"`
}

// StepSpan is when a step was taken. Before From the step before it holds; from
// FirstWrite to InForce policy was changing, and from then to To its traffic was
// watched. FirstWrite and InForce are 0 in a step that wrote nothing.
type StepSpan struct {
	Name       string        `json:"name"`
	From       time.Duration `json:"from"`
	FirstWrite time.Duration `json:"firstWrite,omitempty"`
	InForce    time.Duration `json:"inForce,omitempty"`
	To         time.Duration `json:"to"`
}

// HoldSpan is a connection that was held open.
type HoldSpan struct {
	Name       string         `json:"name"`
	ClientKind string         `json:"clientKind"`
	Target     string         `json:"target"`
	Protocol   string         `json:"protocol"`
	Port       uint16         `json:"port"`
	Client     oracle.Client  `json:"client"`
	Request    oracle.Request `json:"request"`
	// Pod it leads to, as namespace/name; empty: unknown.
	Pod    string        `json:"pod,omitempty"`
	Opened time.Duration `json:"opened"`
	// Closed is when the client saw its end; 0: it was open when last looked at.
	Closed   time.Duration `json:"closed,omitempty"`
	LastEcho time.Duration `json:"lastEcho"`
	// How it ended: the kind of outcome.
	How clients.Kind `json:"how,omitempty"`
	// Terminated says that the proxy has a record of having ended it.
	Terminated bool `json:"terminated,omitempty"`
}

// Pod finds a pod of the world by namespace/name; nil when it is not there.
func (w *World) Pod(name string) *corev1.Pod { return w.pod(name) }

// At is what judges requests to a pod of the recording in a world, with that pod
// also where it was not there yet: a proxy may begin with what was in force before
// it was born.
func (r *Recording) At(worlds map[string]*World, world, pod string, rules oracle.Rules) (oracle.Oracle, *corev1.Pod, error) {
	w := worlds[world]
	if w == nil {
		return oracle.Oracle{}, nil, fmt.Errorf("recording of %s: world %s is missing", r.Scenario, world)
	}
	o, err := w.Oracle(rules)
	if err != nil {
		return o, nil, err
	}
	if there := w.pod(pod); there != nil {
		return o, there, nil
	}
	for _, proxy := range r.Proxies {
		if proxy.Pod != pod || worlds[proxy.World] == nil {
			continue
		}
		own := worlds[proxy.World]
		if there := own.pod(pod); there != nil {
			if origin, known := own.World.Origins[pod]; known {
				origins := maps.Clone(o.World.Origins)
				if origins == nil {
					origins = map[string]oracle.Origin{}
				}
				origins[pod] = origin
				o.World.Origins = origins
			}
			return o, there, nil
		}
	}
	return o, nil, fmt.Errorf("recording of %s: pod %s is in no world", r.Scenario, pod)
}
