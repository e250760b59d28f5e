// Package generated is meshproof fuzz as a Ginkgo suite: one spec has scenarios
// generated from a seed for a while, and fails with what they find.
//
// With -defects it shows instead that generation finds bugs: for each defect of
// the gauntlet that is named, meshproof fuzz has to find it in a mesh with that bug,
// make what it has found small, and write a scenario that fails with that mesh and
// passes with the right one.
//
// It holds no expectation of its own; what a scenario is and what is wrong about it
// is said by packages generate and fuzz.
package generated
