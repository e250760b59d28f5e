// Package engine carries out a plan on a cluster and fills the result tree.
//
// Scenarios flow in as a Plan; namespaces, workloads, clients and policies flow
// into the cluster; and a result.Run comes out with one Claim per planned
// claim. Scenarios run side by side, each in namespaces of its own; those that
// touch the whole cluster run alone at the end.
//
// It waits for observed facts, each with a named budget: a write counts as made
// once the controller has seen it and the proxies concerned enforce what
// follows from it. A denial that a client saw on TCP is believed only with a
// second witness; what could not be judged is inconclusive and never passed.
//
// It does not make clusters and does not know how a mesh is installed: both
// come in through small interfaces. It writes no reports.
package engine
