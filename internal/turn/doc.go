// Package turn says who may use a cluster when, across processes and machines.
//
// Runs that leave the mesh's settings alone share a cluster; one that changes
// them must be alone on it. That is a lock for readers and writers, and it is
// kept where the settings are: as Leases in the mesh's namespace, one per run,
// which the run renews for as long as it is there. A Lease says what its run
// is doing:
//
//	waits   it is there and uses nothing
//	shared  it uses the mesh as it is
//	wants   it uses nothing and wants to be alone
//	alone   it changes the mesh's settings
//
// Everybody first writes what he is about to do and then looks at the others,
// so that of two at least one sees the other. Who is about to share gives way
// to all who want to be or are alone; who wants to be alone waits for all who
// share or are alone, and of several the one who has wanted it longest goes
// first. So nobody is ever alone beside somebody else, and nobody waits for ever.
//
// A run that was killed no longer renews its Lease. Whoever has seen a Lease
// unchanged for its whole lifetime removes it; no two clocks are compared. A
// run that cannot renew its own for nearly that long must stop (Turn.Lost).
//
// The package knows nothing of what a turn is used for.
package turn
