package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/suites/bench/control"
)

// judged is a row with a gate: a figure of a round, and what its median is held
// against.
type judged struct {
	id, name string
	// atLeast turns the comparison: gate and top are lower bounds.
	atLeast bool
	// gate is none where there is a goal only.
	gate, top float64
	// of is false when the round lacks something.
	of func(round) (float64, bool)
	// runBy is who takes the figure when it is none of a round.
	runBy string
}

// none is a bound that there is not.
var none = math.Inf(1)

// field picks a figure of a sample.
type field func(sample) float64

func cpu(s sample) float64       { return s.CPU }
func perSecond(s sample) float64 { return s.PerSecond }
func gbit(s sample) float64      { return s.Gbit }
func cpuPerGB(s sample) float64  { return s.CPUPerGB }
func resident(s sample) float64  { return s.Resident }
func p50(s sample) float64       { return s.P50 }

// of is the field of a contender in a scenario.
func of(f field, scenario, contender string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		v := f(r[scenario][contender])
		return v, v != 0
	}
}

// ratio of ours to another target's.
func ratio(f field, scenario, other string) func(round) (float64, bool) {
	return between(f, scenario, nameOurs, other)
}

func between(f field, scenario, one, other string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		a, okA := of(f, scenario, one)(r)
		b, okB := of(f, scenario, other)(r)
		if !okA || !okB {
			return 0, false
		}
		return a / b, true
	}
}

// added compares what two targets add to the median without a target.
func added(scenario, other string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		none, okNone := of(p50, scenario, nameDirect)(r)
		a, okA := of(p50, scenario, nameOurs)(r)
		b, okB := of(p50, scenario, other)(r)
		if !okNone || !okA || !okB || b <= none {
			return 0, false
		}
		return (a - none) / (b - none), true
	}
}

// allocations are there when they were told, and zero is a figure.
func allocations(scenario string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		if n := r[scenario][nameOurs].Allocations; n != nil {
			return *n, true
		}
		return 0, false
	}
}

// figure is one of the controller's, which may well be zero.
func figure(name string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		if v := r[scenarioController][name].Figure; v != nil {
			return *v, true
		}
		return 0, false
	}
}

// kib is a figure of bytes in KiB.
func kib(name string) func(round) (float64, bool) {
	return func(r round) (float64, bool) {
		v, ok := figure(name)(r)
		return v / 1024, ok
	}
}

// table are the targets of the data path, then those of the controller.
var table = []judged{
	{"P1/saturated", "HTTP/1: CPU per request / haproxy's, saturated", false, 1.5, 1.0, ratio(cpu, "http1", nameHAProxy), ""},
	{"P1/sparse", "HTTP/1: CPU per request / haproxy's, 2,000/s", false, 1.8, 1.3, ratio(cpu, "http1-sparse", nameHAProxy), ""},
	{"P2/saturated", "HTTP/1 over mTLS: CPU per request / haproxy's, saturated", false, 1.3, 1.0, ratio(cpu, "http1-mtls", nameHAProxy), ""},
	{"P2/sparse", "HTTP/1 over mTLS: CPU per request / haproxy's, 2,000/s", false, 1.5, 1.0, ratio(cpu, "http1-mtls-sparse", nameHAProxy), ""},
	{"P3/saturated", "gRPC: CPU per request / haproxy's, saturated", false, 0.6, 0.35, ratio(cpu, "frames", nameHAProxy), ""},
	{"P3/sparse", "gRPC: CPU per request / haproxy's, 2,000/s", false, 1.2, 0.9, ratio(cpu, "frames-sparse", nameHAProxy), ""},
	{"P3/grpc-go", "gRPC, grpc-go at both ends: CPU per request / haproxy's", false, 0.8, 0.5, ratio(cpu, "grpc-go", nameHAProxy), ""},
	{"P4/saturated", "gRPC over mTLS: CPU per request / haproxy's, saturated", false, 0.6, 0.35, ratio(cpu, "frames-mtls", nameHAProxy), ""},
	{"P4/sparse", "gRPC over mTLS: CPU per request / haproxy's, 2,000/s", false, 1.2, 0.9, ratio(cpu, "frames-mtls-sparse", nameHAProxy), ""},
	{"P5/http1", "HTTP/1: CPU per request / ReverseProxy's", false, 0.45, 0.3, ratio(cpu, "http1", nameReverse), ""},
	{"P5/grpc", "gRPC: CPU per request / ReverseProxy's", false, 0.2, 0.1, ratio(cpu, "frames", nameReverse), ""},
	{"P6/http1", "HTTP/1: requests per second / direct", true, 0.45, 0.65, ratio(perSecond, "http1", nameDirect), ""},
	{"P6/grpc", "gRPC: requests per second / direct", true, 0.25, 0.40, ratio(perSecond, "frames", nameDirect), ""},
	{"P7/throughput", "TCP: Gbit/s / direct", true, 0.45, 0.65, ratio(gbit, "bulk", nameDirect), ""},
	{"P7/cpu", "TCP: CPU per GB / haproxy's", false, 1.0, 0.8, ratio(cpuPerGB, "bulk", nameHAProxy), ""},
	{"P8/throughput", "TCP over mTLS: Gbit/s / haproxy's", true, 0.9, 1.15, ratio(gbit, "bulk-mtls", nameHAProxy), ""},
	{"P8/cpu", "TCP over mTLS: CPU per GB / haproxy's", false, 1.2, 1.0, ratio(cpuPerGB, "bulk-mtls", nameHAProxy), ""},
	{"P9/rate", "new mTLS connections per second / haproxy's", true, 1.3, 2, ratio(perSecond, "connect-mtls", nameHAProxy), ""},
	{"P9/cpu", "new mTLS connection: CPU / haproxy's", false, 0.8, 0.5, ratio(cpu, "connect-mtls", nameHAProxy), ""},
	{"P10/http1", "HTTP/1 at 2,000/s: added p50 / haproxy's", false, 2.0, 1.3, added("http1-sparse", nameHAProxy), ""},
	{"P10/grpc", "gRPC at 2,000/s: added p50 / haproxy's", false, 1.2, 0.7, added("frames-sparse", nameHAProxy), ""},
	{"P11/resident", "resident memory at 32 connections / haproxy's", false, 1.2, 0.8, ratio(resident, "memory", nameHAProxy), ""},
	{"P11/idle", "KiB of resident memory per idle connection", false, 16, 6, of(func(s sample) float64 { return s.PerConnection }, "idle", nameOurs), ""},
	{"P11/idle-mtls", "KiB of resident memory per idle mTLS connection", false, 48, 32, of(func(s sample) float64 { return s.PerConnection }, "idle-mtls", nameOurs), ""},
	{"P11/idle-heap", "KiB of heap and stacks per idle connection", false, 24, 6, of(func(s sample) float64 { return s.HeapPerConnection }, "idle-heap", nameOurs), ""},
	{"P12", "CPU per request with 10,000 authorizations / with 1", false, 1.10, 1.02, between(cpu, "policy-size", manyAuthorizations, oneAuthorization), ""},
	{"P13", "CPU per request with enforcement / without", false, 1.10, 1.05, between(cpu, "enforcement", enforcementOn, enforcementOff), ""},
	{"P14/http1", "HTTP/1: allocations per request", false, 1, 0, allocations("http1"), ""},
	{"P14/grpc", "gRPC: allocations per request", false, 1, 0, allocations("frames"), ""},
	{"P15/http1", "HTTP/1: instructions per request / those before the last change", false, 1.03, none, nil, byTests},
	{"P15/grpc", "gRPC: instructions per request / those before the last change", false, 1.03, none, nil, byTests},
	{"P16/scenario", "harness: ms from writing one policy to the verdict on it, p50", false, 50, 15, nil, byHarness},
	{"P16/suite", "harness: seconds for 500 policies", false, 180, 45, nil, byHarness},
	{"C1", "CPU of building the index / of listing and decoding", false, 0.5, 0.1, figure(control.IndexBuild), ""},
	{"C2", "KiB per pod beyond the trimmed pod", false, 2, 0.6, kib(control.PodBytes), ""},
	{"C3", "KiB per connected stream", false, 48, 24, kib(control.StreamBytes), ""},
	{"C4", "a change at the last of 20 streams, p99 / a ping, p99", false, 10, 3, figure(control.Ring), ""},
	{"C5", "CPU of a change at all streams / of bare sends", false, 2, 1.2, figure(control.FanOut), ""},
	{"C6", "CPU of a change among all pods / among a tenth", false, 2, 1.2, figure(control.Growth), ""},
	{"C7/messages", "messages of updates that change nothing", false, 0, 0, figure(control.NoOp), ""},
	{"C7/time", "µs of an update that changes nothing", false, none, 1, figure(control.NoOpMicros), ""},
	{"C8", "snapshots published in a burst of 1,000 authorizations", false, 50, 5, figure(control.Published), ""},
	{"C9/streams", "CPU of all streams begun again, connections aside / of a change at all streams", false, 5, 2, figure(control.Restream), ""},
	{"C9/restart", "CPU of all connections and streams back after a restart / of a change at all streams", false, 5, 2, figure(control.Restart), ""},
	{"C10", "differences from a recompute of everything in 100,000 random steps", false, 0, 0, nil, byTests},
	{"C11", "ms until a change is in force at a proxy, p99", false, 200, 50, figure(control.InForceMillis), ""},
}

// Who takes figures besides the rounds.
const (
	byTests   = "make test"
	byHarness = "a run of 500 policies"
)

// Row is a line of the table and of bench.json.
type Row struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Measured is the median over the rounds, null when nothing was measured.
	Measured *float64 `json:"measured"`
	// Gate must be met and Top is the goal; both are null in rows that are there
	// to be looked at, and one of them where there is the other only.
	Gate    *float64 `json:"gate"`
	Top     *float64 `json:"top"`
	GateMet *bool    `json:"gate_met"`
	TopMet  *bool    `json:"top_met"`
	// Rounds is how many rounds the median is over, Values are what they gave.
	Rounds int       `json:"rounds"`
	Values []float64 `json:"values,omitempty"`
	// Bound says how Measured compares to Gate and Top: "at most" or "at least".
	Bound string `json:"bound,omitempty"`
	// RunBy is what takes the figure when make bench does not itself.
	RunBy string `json:"runBy,omitempty"`
}

// judge makes the rows that are held against something.
func judge(rounds []round) []Row {
	var rows []Row
	for _, j := range table {
		row := Row{ID: j.id, Name: j.name, Bound: "at most", RunBy: j.runBy}
		if j.gate != none {
			row.Gate = &j.gate
		}
		if j.top != none {
			row.Top = &j.top
		}
		if j.atLeast {
			row.Bound = "at least"
		}
		if j.of != nil {
			row.take(rounds, j.of)
		}
		row.hold()
		rows = append(rows, row)
	}
	return rows
}

// hold says whether what was measured meets gate and top.
func (row *Row) hold() {
	met := func(bound *float64) *bool {
		if row.Measured == nil || bound == nil {
			return nil
		}
		ok := *row.Measured <= *bound
		if row.Bound == "at least" {
			ok = *row.Measured >= *bound
		}
		return &ok
	}
	row.GateMet, row.TopMet = met(row.Gate), met(row.Top)
}

// judged tells rows that are held against something from those to look at.
func (row Row) judged() bool { return row.Gate != nil || row.Top != nil }

func (row *Row) take(rounds []round, of func(round) (float64, bool)) {
	for _, r := range rounds {
		if v, ok := of(r); ok {
			row.Values = append(row.Values, v)
		}
	}
	row.Rounds = len(row.Values)
	if row.Rounds > 0 {
		m := median(row.Values)
		row.Measured = &m
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// shown is a figure of a scenario that is worth a column.
type shown struct {
	id, name string
	of       field
}

var (
	showCPU           = shown{"cpu", "CPU per request in µs", cpu}
	showBusy          = shown{"busy", "share of a processor used", func(s sample) float64 { return s.Busy }}
	showRate          = shown{"rate", "requests per second", perSecond}
	showP50           = shown{"p50", "p50 in µs", p50}
	showGbit          = shown{"gbit", "Gbit/s", gbit}
	showCPUPerGB      = shown{"cpu-per-gb", "CPU seconds per GB", cpuPerGB}
	showResident      = shown{"resident", "resident MiB", resident}
	showPerConnection = shown{"per-connection", "KiB per connection", func(s sample) float64 { return s.PerConnection }}
)

// asides are figures of the controller to look at.
func asides(rounds []round) []Row {
	row := Row{ID: "controller/bare-restart", Name: "C9/restart with a grpc-go server that has no policies: its CPU of all back / of bare sends"}
	row.take(rounds, figure(control.BareRestart))
	return []Row{row}
}

// sideBySide makes a row for every target in every scenario it can take part in.
// Rows of a target that is not there are null, so that files of two machines have
// the same rows.
func sideBySide(rounds []round, chosen []scenario) []Row {
	var rows []Row
	for _, s := range chosen {
		for _, f := range s.figures() {
			for _, name := range s.names() {
				if !possible(s, f, name) {
					continue
				}
				row := Row{ID: rowID(s, f, name), Name: fmt.Sprintf("%s: %s, %s", s.name, name, f.name)}
				row.take(rounds, of(f.of, s.id, name))
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// possible tells whether a target has such a figure: direct has no process and no
// mesh TLS, and ReverseProxy no bytes without HTTP.
func possible(s scenario, f shown, name string) bool {
	switch name {
	case nameDirect:
		return !s.mesh && (f.id == showRate.id || f.id == showP50.id || f.id == showGbit.id)
	case nameReverse:
		return s.load.Protocol != load.Bulk
	}
	return true
}

// rowID of a contender's figure.
func rowID(s scenario, f shown, contender string) string {
	return fmt.Sprintf("%s/%s/%s", s.id, f.id, contender)
}

// figures are those that a scenario gives.
func (s scenario) figures() []shown {
	switch {
	case s.heap:
		return nil
	case s.idle:
		return []shown{showPerConnection}
	case s.id == "memory":
		return []shown{showResident}
	case s.load.Protocol == load.Bulk:
		return []shown{showGbit, showCPUPerGB, showBusy}
	case s.load.Rate > 0:
		return []shown{showCPU, showP50}
	}
	return []shown{showCPU, showRate, showP50, showBusy}
}

// names of a scenario's contenders, there or not.
func (s scenario) names() []string {
	var names []string
	for _, c := range s.contenders {
		names = append(names, c.name)
	}
	if names != nil {
		return names
	}
	for _, t := range targets {
		names = append(names, t.name)
	}
	return names
}
