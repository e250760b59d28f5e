// Package status is what the policy controller writes: of each route whether it
// is attached to its Servers, of each rate limit whether it is in force (section
// 3 of the rule book). The index reads it back from the objects, like anybody
// else, and serves what is accepted; the two share nothing but the API.
//
// Servers, routes and rate limits come in through watches of its own and become
// a World, which is a plain value. Wanted, a pure function, says what should
// stand in it and does not; the difference leaves as patches, one for each
// object, written by the replica that holds the Lease and by no other (S-01).
//
//	API server --watch--> World --Wanted--> changes --patch--> API server
//	                                          ^
//	                       Lease policy-controller-write
//
// It refuses to touch what other controllers have written (S-05), never writes
// what stands there already, and says nothing of parents that are no Servers.
package status
