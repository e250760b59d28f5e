// Package generate makes scenarios by chance: workloads, clients, policies, and a
// sequence of edits of them.
//
// A seed and a number flow in, and an ordinary scenario flows out, in which the
// expectations are left to the oracle. The same seed, number and Version give the
// same scenario, byte for byte. What is made is played on paper as it is made
// (paper.go): so every write is one that a cluster takes, and edits are preferred
// by which somebody sees another answer than before. The edges are what it leans
// to: Servers that overlap, objects of one second, excepted networks, identities
// by suffix, selectors that select nothing, references to what is not there.
//
// A scenario can be made smaller (shrink.go), one step, object, field or client at
// a time, and written as a file (write.go).
//
// It knows neither clusters nor the mesh, and judges nothing.
package generate
