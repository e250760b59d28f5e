// Package scenarios is the language in which a run is described: what is
// deployed, who calls, how the policy changes step by step, and what must then
// be true.
//
// YAML documents flow in, and out come Scenario values and, from them, a Plan:
// one PlannedClaim per named expectation, with the place in the file that asks
// for it. The parser is strict: an unknown field, a value of another type or a
// name that nothing declares is an error with file, line and column, and a
// misspelt name gets a suggestion. It refuses to run anything, and knows no
// cluster, no mesh and no client.
package scenarios
