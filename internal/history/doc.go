// Package history keeps what a run asked and saw, so that it can be judged again
// without a cluster.
//
// Worlds (everything that policy depends on, at one moment) and questions (who
// called what, what the rules say of it, and what was observed) flow in from the
// engine while it runs, into one compressed file of JSON lines; whatever was
// written before a crash can be read. Of scenarios whose traffic flows come
// recordings too: writes, faults, and every request with its answer and with what
// proxy and application have recorded of it, for internal/transition to judge.
//
// Read gives all of it back, and Question.Judge puts a question to the oracle
// again, with rules of the caller's choice: with a rule turned round, the questions
// that show it have to come out differently.
//
// It makes no claims and knows no scenarios' text; what was not a question to
// the rules (metrics, logs, the output of commands) is not in it.
package history
