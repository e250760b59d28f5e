// Package clusters is the contract of a cluster.Provider as a suite: what the
// rest of the project counts on, shown on a cluster of the kind that the flag
// -cluster names, through sigs.k8s.io/e2e-framework as its users have it.
//
// One cluster is made for all features, and further ones by those that are
// about making and ending clusters. What a kind of cluster cannot do is skipped
// with the reason. It judges nothing of the mesh.
package clusters
