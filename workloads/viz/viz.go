// Package viz holds the manifests of the metrics scraper: a meshed pod of its
// own in namespace linkerd-viz that reads the proxies' metrics for `meshproof
// authz`.
//
// It is applied after the control plane is ready, as Linkerd's extension of
// that name is: a pod created before the injector answers would not be meshed.
// The manifests grant the scraper nothing in the mesh; under a policy of deny
// it is denied like anybody else.
package viz

import _ "embed"

// Names of what the manifests create.
const (
	Namespace  = "linkerd-viz"
	Deployment = "scraper"
	// Selector finds the scraper's pods.
	Selector = "linkerd.io/extension=viz,component=scraper"
	// Port is the loopback port that answers, reached by port-forward.
	Port = 9995
)

//go:embed viz.yaml
var manifests string

// Manifests returns the documents for kubectl apply.
func Manifests() string { return manifests }
