// Package transition judges what happened in a scenario while its policy changed.
//
// A recording (writes, faults, requests with their answers, connections that were
// held) and the worlds that it names flow in; a Verdict flows out: the requests
// that no policy explains which can have been in force, each a leak, an outage or
// neither; what the applications' logs have against the clients' answers; when
// each change took effect, as brackets; and how much was seen in each window.
//
//	worlds, rules --Case--> which versions give which answer
//	requests, writes, faults --internal/check--> findings N1 to N3, N14
//	                         --here--> ledgers N6 and N7, brackets N4, windows B3
//
// It assumes one writer, and that the engine's clock orders what it did; clocks of
// others may be wrong by the recording's slack. It asks no cluster, so that the
// engine and who judges a stored run come to the same verdict. An answer that no
// policy has given (a time-out, a connection that broke) proves nothing by itself
// and is counted as that; a second attempt is a request of its own and takes no
// finding back (B4).
package transition
