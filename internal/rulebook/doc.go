// Package rulebook is the catalogue of rules that the mesh is held to: for each
// its ID, what it says in a line, the feature that it belongs to, and how it is
// shown: by claims of the suite that carry its ID, or, where nothing can be seen
// from outside, by named Go tests.
//
// Recorded runs and the output of `go test -json` flow in, a Report comes out
// that says of every rule whether it is shown. A rule that the oracle decides is
// shown only when the recorded questions are answered differently with the rule's
// contrary in its place: a claim that would pass either way shows nothing.
//
// It runs nothing, neither claims nor tests.
package rulebook
