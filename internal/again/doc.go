// Package again carries out what was carried out before: a plan several times on
// one cluster, and the rest of a plan whose run did not come to its end.
//
// A plan flows into the engine once or more, and one result tree flows out
// (reports/repeat folds the attempts). A journal in the run's folder remembers
// every scenario that has a verdict, line by line, so that a run that was killed
// can be resumed. It judges nothing: a further attempt shows whether a claim is
// flaky, and changes no verdict.
package again
