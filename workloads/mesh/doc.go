// Package mesh is the built-in mesh as a workload: the manifests that install
// it, what to wait for afterwards, and what to delete to be rid of it.
//
// Options become checked values, the values fill templates, and the templates
// leave as one stream of YAML for kubectl apply. The stream is the same for the
// same options and holds no secret: keys and certificates are made in the
// cluster by whoever needs them. So applying it again changes nothing, and
// applying it with other options is the upgrade.
//
// It talks to no cluster, and it does not know the roles' code: flags, ports and
// names of objects are the contract between the two.
package mesh
