// Package kube is how the control plane's roles talk to the API server: typed
// requests and watches for the few kinds they need.
//
// A role asks for a client per API group and reads, writes or watches objects
// through it; watches hand whole objects to a Sink and begin again from a full
// list whenever the stream breaks, so that nothing deleted meanwhile survives.
//
// It keeps no copies of objects, and it does not link the typed clientset: the
// scheme here lists what the roles use, which keeps the agent small.
package kube
