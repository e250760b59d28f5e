// Package faults is the library's folder of that name as a Ginkgo suite: what calls
// get while a part of the mesh or of the cluster is away. How scenarios become specs
// is package specs' affair.
package faults
