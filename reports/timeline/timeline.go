// Package timeline is what happened in one scenario while its policy changed,
// in the shape in which a page draws it.
//
// Recordings and their verdicts flow in (whoever makes a Timeline has judged them
// already), and a page's data flows out. It holds plain values with positions in
// place of pointers: 100,000 requests are columns of numbers, and every text
// stands once. It judges nothing, and knows neither policies nor clusters.
//
// All times are microseconds since the recording began.
package timeline

import "time"

// Evidence is what a page shows of a run besides the result tree.
type Evidence struct {
	Timelines []Timeline
	// Omitted counts the scenarios that passed and whose time lines would have been
	// too many.
	Omitted int
	// Changes are how long each write took to take effect, in all scenarios.
	Changes []Change
	// Coverage is nil where nothing was asked.
	Coverage *Coverage
}

// Timeline is one scenario.
type Timeline struct {
	Scenario string    `json:"scenario"`
	Began    time.Time `json:"began"`
	// End is when the last thing happened, and Budget what a write may take.
	End    int64 `json:"end"`
	Budget int64 `json:"budget"`
	// Slack is by how much clocks may be apart.
	Slack   int64    `json:"slack"`
	Streams []Stream `json:"streams"`
	Proxies []Proxy  `json:"proxies"`
	Steps   []Step   `json:"steps"`
	Writes  []Write  `json:"writes"`
	Faults  []Fault  `json:"faults,omitempty"`
	Holds   []Hold   `json:"holds,omitempty"`
	// Expected is what the rules say of a stream at a proxy under a version.
	Expected []Expected `json:"expected,omitempty"`
	Requests Requests   `json:"requests"`
	Findings []Finding  `json:"findings,omitempty"`
	// Logs are what its proxies and the policy controller wrote; NoLogs says why
	// there are none.
	Logs   []Log  `json:"logs,omitempty"`
	NoLogs string `json:"noLogs,omitempty"`
	// Texts are all texts that others refer to by their place; the first is empty.
	Texts []string `json:"texts"`
}

// Stream is a client that calls at a rate.
type Stream struct {
	Name       string `json:"name"`
	Client     string `json:"client"`
	Class      string `json:"class"`
	Target     string `json:"target"`
	Protocol   string `json:"protocol"`
	Connection string `json:"connection"`
	// Rate was planned and Achieved reached, in calls per second.
	Rate     float64 `json:"rate"`
	Achieved float64 `json:"achieved"`
	// Sent were made, and Missed were due and not made.
	Sent   int64 `json:"sent"`
	Missed int64 `json:"missed"`
	// Windows say how much was seen of the stream around each change.
	Windows []Window `json:"windows,omitempty"`
}

// Window is the time from one write to the moment at which it must be in force.
type Window struct {
	Step string `json:"step"`
	// Informative requests can tell the policies before and after from each other.
	Sent        int `json:"sent"`
	Informative int `json:"informative"`
	Wanted      int `json:"wanted"`
}

// Proxy is a pod that answered.
type Proxy struct {
	Pod  string `json:"pod"`
	Born int64  `json:"born"`
	// Gone is 0 for one that outlived the recording.
	Gone int64 `json:"gone,omitempty"`
}

// Step is a named part of the plan.
type Step struct {
	Name string `json:"name"`
	From int64  `json:"from"`
	To   int64  `json:"to"`
}

// Write is one accepted change: the first one makes version 1, and before it
// version 0 was in force. Times are 0 where nobody knows them.
type Write struct {
	Step   string `json:"step"`
	Group  int    `json:"group"`
	Verb   string `json:"verb"`
	Object string `json:"object"`
	Call   int64  `json:"call"`
	Ack    int64  `json:"ack"`
	// Observed is when the controller had seen it.
	Observed int64     `json:"observed,omitempty"`
	InForce  []InForce `json:"inForce,omitempty"`
}

// InForce is when a port of a proxy had the version.
type InForce struct {
	Proxy int    `json:"proxy"`
	Port  uint16 `json:"port"`
	At    int64  `json:"at"`
}

// Fault is something that was broken on purpose.
type Fault struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	From int64  `json:"from"`
	To   int64  `json:"to"`
	// Proxies that it concerned; none means all.
	Proxies []int `json:"proxies,omitempty"`
}

// Hold is a connection that stayed open.
type Hold struct {
	Name   string `json:"name"`
	Client string `json:"client"`
	Proxy  int    `json:"proxy"`
	Opened int64  `json:"opened"`
	// Closed is 0 for one that nobody cut; LastEcho is when it last carried data.
	Closed   int64 `json:"closed,omitempty"`
	LastEcho int64 `json:"lastEcho,omitempty"`
}

// Expected is one verdict of the rules.
type Expected struct {
	Stream  int `json:"s"`
	Proxy   int `json:"p"`
	Version int `json:"v"`
	// Outcome and Why are texts; Why is the chain of reasons, one per line.
	Outcome int `json:"o"`
	Why     int `json:"w"`
}

// Requests are columns of one length, in the order of the calls. Call holds the
// difference to the request before; Proxy is -1 where nobody knows which one
// answered; Delivered is -1 where nobody looked.
type Requests struct {
	Call      []int64 `json:"t"`
	Took      []int64 `json:"d"`
	Stream    []int   `json:"s"`
	Proxy     []int   `json:"p"`
	Outcome   []int   `json:"o"`
	Class     []Class `json:"c"`
	Record    []int   `json:"r"`
	Hash      []int   `json:"h"`
	Delivered []int   `json:"n"`
	// ID is how the request is called in logs; empty where it has no name.
	ID []string `json:"i"`
}

// Class of an answer, by which it is drawn.
type Class int

// The classes.
const (
	Allowed Class = iota
	Denied
	// Unclear: the answer does not tell what policy decided.
	Unclear
)

// Log is what one container wrote while the scenario lasted, by the clock of its
// machine. Its lines are columns of one length, in the order of their times.
type Log struct {
	// Proxy is the place of the one that wrote it, -1 for a policy controller.
	Proxy int    `json:"p"`
	Pod   string `json:"pod"`
	// File has the whole log, relative to the run's folder.
	File string `json:"file"`
	// At holds the difference to the line before. Text is a text, without the time;
	// below 0, so many lines are left out there.
	At   []int64 `json:"t"`
	Text []int   `json:"x"`
}

// Finding is a request, or a time, that no policy explains.
type Finding struct {
	// Request is its place, -1 for a finding about none.
	Request int `json:"request"`
	// Kind is impossible, backwards, stale, delivered and so on.
	Kind string `json:"kind"`
	// Harm is leak, outage or empty.
	Harm string `json:"harm,omitempty"`
	At   int64  `json:"at"`
	Text string `json:"text"`
}

// Change is how long one write took at one port of one proxy: longer than Old
// and at most New. Open says that the new answer was never seen.
type Change struct {
	Scenario string `json:"scenario"`
	Step     string `json:"step"`
	// Kind of transition, and Class of client that saw it.
	Kind  string `json:"kind"`
	Class string `json:"class"`
	Proxy string `json:"proxy"`
	Old   int64  `json:"old"`
	New   int64  `json:"new"`
	Open  bool   `json:"open,omitempty"`
}

// Coverage is which parts of the policy space were seen.
type Coverage struct {
	// Columns are client classes by protocol.
	Columns []Column
	Rules   []Rule
	// Transitions are the kinds of change with how often each was made.
	Transitions []Count
}

// Column is a client class that spoke a protocol.
type Column struct{ Class, Protocol string }

// Rule is a part of the specification with what was seen of it, a cell for each
// column.
type Rule struct {
	ID      string
	Text    string
	Feature string
	Cells   []Cell
}

// Cell counts what was observed.
type Cell struct{ Allowed, Denied int }

// Count is a named number.
type Count struct {
	Name string
	N    int
}
