// Package clients says how a request is made and how its answer is read.
//
// A Request goes in (who calls, what protocol, which target), an Outcome comes
// out. The same code runs inside client pods, where it is driven over the
// loopback control port, so that thousands of calls a second need no exec.
//
// It never judges: whether an outcome is right is for others to say, and it
// never reads the text of an error to find out what kind of outcome it was.
package clients
