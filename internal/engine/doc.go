// Package engine carries out a plan on a cluster and fills the result tree.
//
// Scenarios flow in as a Plan; namespaces, workloads, clients and policies flow
// into the cluster; and a result.Run comes out with one Claim per planned
// claim. Scenarios run side by side, each in namespaces of its own; those that
// touch the whole cluster run alone at the end.
//
// It waits for observed facts, each with a named budget: a write counts as made
// once the controller has seen it, the statuses that follow from it are written,
// and the proxies concerned enforce what it comes to. A denial that a client saw
// on TCP is believed only with a second witness; what could not be judged is
// inconclusive and never passed.
//
// Every call is held against what the oracle says of it in the world as it is read
// from the cluster (world.go), and against the proxy's records and counters and
// the application's log. Worlds, questions and observations go into the run's
// history, so that it can be judged again without a cluster.
//
// Where a scenario has traffic, a recorder keeps all that happens while it flows:
// the world after every write, as it follows from the API server's answers, every
// request of the streams, and what the rings of proxies and applications tell of it
// (witnesses.go). What each stream has seen of a step is claimed by what
// internal/transition makes of the recording (windows.go).
//
// It does not make clusters and does not know how a mesh is installed: both
// come in through small interfaces. It writes no reports.
package engine
