// Package conformance is the library's own folder as a Ginkgo suite: what the
// documents and the rule book say of a mesh whose policy has settled. How scenarios
// become specs is package specs' affair.
package conformance
