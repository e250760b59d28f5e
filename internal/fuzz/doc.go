// Package fuzz has generated scenarios carried out on a cluster that stands, one
// after the other and several side by side, until its time is up; what is found is
// made smaller by carrying out smaller scenarios, and written as a file.
//
// A seed flows in, cases of package generate flow through an engine's bench, and
// findings flow out with the run's result. A finding is what the engine says of a
// claim: this package judges nothing itself, except that two worlds that must look
// the same do (laws.go).
package fuzz
