// Package injector puts the proxy into pods as they are created, the role
// `injector`.
//
// A pod comes in with the namespace it is created in; whether it is meshed and
// how follows from the annotations of both, the pod's own first, then from the
// cluster's configuration (package values). What leaves is a JSON patch that adds
// an init container for the redirection, the proxy (the first of the containers,
// or a native sidecar where that is asked for), its two volumes, a label and
// annotations. The mutation itself is the pure function Inject.
//
//	pod, namespace, Settings --Inject--> pod' --diff--> JSON patch
//	                              '--notes--> events
//
// The default policy is resolved here and written into the proxy container,
// which nobody can edit later: so it is fixed when the pod is created.
//
// It never touches the pod's own containers, never reads a workload's own
// metadata, and leaves alone pods on the host's network, those of the control
// plane and of kube-system, and those that are injected already.
package injector
