// Package explain asks the oracle about manifests: one question with its whole
// chain of reasons, or a table of who reaches what.
//
// What people type (a pod, a port, a client, a request) and what package objects
// has read flow in; answers flow out, which write themselves as text, JSON or
// Markdown. It refuses what could mean two things, and says what it has assumed:
// the address of a client that was given none, a pod that is yet to be injected.
// It decides nothing about policy itself.
package explain
