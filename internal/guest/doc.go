// Package guest is what a run owes a cluster that is not its own: to ask before
// it begins whether it may do what it will do, to know what stands there, to
// name beforehand what it would make, and to take away afterwards what it made
// and nothing else.
//
// Rights are a table that follows from the mesh's manifests and from what the
// engine does; the same table is checked here and granted to runs inside the
// cluster. What belongs to whom is told by labels on the objects, and who is
// still there by the leases of package turn.
package guest
