// Package objects reads manifests where no cluster is, as exactly as a cluster
// would: files, folders and streams of YAML or JSON become a world for the
// oracle and the workloads in it.
//
// Objects flow in as they are written and out as the API server would store
// them: checked against the schema of the version they are written in, completed
// with its defaults, and put through the checks of the admission webhook
// (section 2 of the rule book), which are written here once more for those who
// judge.
//
// It refuses what a cluster would refuse, and an unknown field besides, each at
// its file and line; kinds that do not concern inbound policy are listed and
// never dropped silently. It does not follow references: that is the oracle's.
package objects
