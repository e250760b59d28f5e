// Package inbound is the edge towards proxies: it serves the index's snapshots
// as io.linkerd.proxy.inbound.InboundServerPolicies.
//
// A snapshot becomes one message, encoded once however many proxies are told.
// A stream sends the current policy and then one full message per effective
// change (W-05); what a slow reader has not taken yet is superseded, not queued.
// Each message says of which revision it is, and none is sent before it is as new as
// the proxy asks for (package revision).
//
// It refuses to decide anything, and to answer before the index is complete.
package inbound
