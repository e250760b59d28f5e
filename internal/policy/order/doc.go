// Package order says in which order the objects of a change are best written.
//
// A Server without its authorization denies everything, and an authorization
// without its Server grants nothing: between the first write of a change and the
// last one there are worlds that nobody wanted. What was there before, what comes,
// and the calls that matter flow in; out flow, for an order of the writes, the
// gaps: calls that are denied in between although they are allowed before and after
// (a deny gap), or let through although they are denied before and after (an allow
// gap); and an order with as few of them as there can be.
//
// It takes each write as in force before the next one is made; what may happen
// when they are made at once it tells apart. It asks the oracle only, and no
// cluster.
package order
