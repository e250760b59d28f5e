// Package live holds what the rules say against a cluster that runs: the objects
// and pods that are there, and what clients get who really call them.
//
// A cluster comes in through Read, as a set of the kind that manifests are read
// into, so that whoever explains manifests can explain a cluster. Answers and
// matrices go through Explain and Matrix, which make a client for each that is
// asked about, put the same questions to the cluster, and note beside each
// verdict what was observed.
//
// It changes nothing that is there: the clients are pods of its own and go with
// it. It never sends a request that may change something in an application, and
// it makes no client whose address or identity cannot be had.
package live
