// Package specs is scenarios as a Ginkgo suite, for every folder of the library
// one: a spec per claim, labelled with the scenario and with what the claim shows,
// at the line of the scenario that asks for it.
//
// The tree is built from the plan alone. One session is started for the claims
// that the filters select; each spec waits for its own claim and asserts over
// what was found. Parallelism is the engine's: the specs run in one process.
//
// It holds no expectation of its own, and it brings nothing to judge by.
package specs
