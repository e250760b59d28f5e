// Package oracle says what policy allows: given objects, a pod, a port, a client
// and a request it returns the verdict and the chain of reasons for it.
//
// It is a pure function of its arguments, written from the rule book for
// reading: one small function per rule, with the rule's ID in its comment, naive
// on purpose. Objects flow in as the API server stores them, defaults filled in;
// a Verdict flows out. It takes the world as settled: what a change looks like
// on its way to the proxies is not its business.
//
// Every rule function is a field of Rules, so that whoever judges a run again
// can put a negated one in its place and see which claims notice.
//
// It shares the types of policy/api with the mesh and nothing else, and it must
// stay so: if it used the mesh's own matching, both would agree on the same
// mistakes. It refuses to guess: what it is not told (an address, a creation
// time) is named in the chain as an assumption.
package oracle
