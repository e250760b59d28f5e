// Package control measures the policy controller at scale: what its index costs
// beside the objects themselves, and what one change costs with many streams.
//
//	API server stub (measuring process) --watch--> index --gRPC--> streams (measuring process)
//	                                               `---- role ----'
//
// The controller's packages run in a process of their own, the role, which is told
// what to do line by line, so that its processor time and its memory are nobody
// else's. Streams are read as frames: ten thousand of them must not cost more to
// read than to write.
//
// It judges nothing: figures come out by name, and what they are held against is
// for others to say.
package control

import "time"

// Size of what is measured.
type Size struct {
	// Pods, Servers and Authorizations are in the index besides those of the
	// streams; Streams are proxies that watch.
	Pods, Servers, Authorizations, Streams int
}

// Full is the size that the targets are for.
var Full = Size{Pods: 10_000, Servers: 1_000, Authorizations: 5_000, Streams: 10_000}

// Small is for a busy machine.
var Small = Size{Pods: 1_000, Servers: 100, Authorizations: 500, Streams: 500}

const (
	// few is how many watch in C4.
	few = 20
	// rings of C4, changes of C5, and how often C6 and C7 repeat a change.
	rings, fanOuts, repeats = 200, 5, 1000
	// burst is how many authorizations come at once in C8.
	burst = 1000
	// revisions are what C11 applies, one every pace.
	revisions = 200
	pace      = 10 * time.Millisecond
	// within bounds each wait; nothing should come near it.
	within = time.Minute
)

// Names of figures.
const (
	IndexBuild    = "index-build"  // CPU of building the index / of listing and decoding, C1
	PodBytes      = "pod-bytes"    // bytes per pod beyond the trimmed pod, C2
	StreamBytes   = "stream-bytes" // bytes per connected stream, C3
	Ring          = "ring"         // p99 of a change at its last of few streams / p99 of a ping, C4
	FanOut        = "fan-out"      // CPU of a change at all streams / of bare sends, C5
	Growth        = "growth"       // CPU of a change among all pods / among a tenth, C6
	NoOp          = "no-op"        // messages of updates that change nothing, C7
	NoOpMicros    = "no-op-micros" // microseconds of one, C7
	Published     = "published"    // transactions of a burst that changed something, C8
	Burst         = "burst-wrong"  // 1 when the last policy after the burst is not the right one, C8
	Restart       = "restart"      // CPU until all connections and streams are back / of a change at all of them, C9
	Restream      = "restream"     // of that, the streams on connections that are back already, C9
	BareRestart   = "bare-restart" // the same as Restart with bare sends
	InForceMillis = "in-force-ms"  // p99 from a change to its being in force at a proxy, C11
)

// Names are those of all figures.
func Names() []string {
	return []string{IndexBuild, PodBytes, StreamBytes, Ring, FanOut, Growth, NoOp, NoOpMicros, Published, Burst, Restart, Restream, BareRestart, InForceMillis}
}
