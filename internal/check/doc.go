// Package check judges what happened at one port of one proxy while its policy
// changed.
//
// What flows through: the writes of a plan, in the order in which they were made,
// and the requests that were answered there, each with the set of policy versions
// whose verdict equals the one that was observed. What comes out is whether there
// is an instant at which each version can have come into force, and one at which
// each request can have been decided, that explain all of it; and where there is
// none, the requests that nothing explains.
//
//	writes, requests   --Order, Explain--> findings (N1 to N3)
//	                   --Brackets--> when each version took effect (N4)
//	writes, connection --Hold--> whether it ended when it had to (N14)
//
// It assumes one writer whose versions are totally ordered, and clocks that were
// brought onto one line beforehand. It knows nothing of policies, clients or
// meshes, asks nobody, and makes no verdict from missing data: a request that
// fits every version says nothing, and is counted as saying nothing.
package check
