// Bench measures the built-in proxy side by side with others in front of the same
// applications, and prints a table.
//
//	load (this process) -> target (a process) -> sink (a process)
//
// Every scenario runs against every target in every round, in an order that
// changes from round to round; what is judged is the median over the rounds of
// ratios between two targets of the same round, so that a slow minute of the
// machine touches both. Processor time is read from the target's processes and
// from nobody else's.
//
// It fails for no figure: a gate that is missed is a line of the table. It
// refuses to run without nginx and haproxy, since ratios to nothing are no
// result; Envoy's rows may be empty.
package main
