// Command gauntlet proves that the suite catches bugs: it builds meshes with one
// known defect each, runs the scenarios that are to catch it, and demands that a
// claim fails.
//
// A defect is a patch in defects/, whose header says where the defective mesh
// differs from the right one and who is to notice it (defect). It is applied to
// copies of the sources (patch) and compiled in with go build -overlay (build),
// so that the tree itself never holds a defect. `meshproof run` carries out the
// scenarios with those programs (run), what it leaves in run.json is judged
// (judge), and the table names defect, claim and time (table).
//
// Only a failed claim is a catch. A run that could not be set up, one that
// cannot tell, and a patch that does not fit or does not compile any more are
// failures of the gauntlet itself: it never takes noise for a proof. It knows
// nothing of policy, and brings no expectation of its own.
package main
