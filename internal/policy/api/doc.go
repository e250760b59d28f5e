// Package api is the vocabulary that everybody who speaks about policy shares:
// the Go shapes of the policy resources and routes, the names their fields may
// hold, the two dialects, and the CRDs themselves.
//
// Objects flow through it as the API server stores them: defaults come from the
// CRD schema, nothing is expanded and nothing is interpreted here. Every served
// version of a kind has the same Go type, because the versions differ only in
// what their schema demands and no conversion webhook exists (rules C-01, C-12,
// C-26).
//
// It refuses to decide anything: matching and authorization are written once in
// the mesh and once more, independently, by those who judge it.
//
// +kubebuilder:object:generate=true
package api

//go:generate go run ./generate .
//go:generate go tool controller-gen object paths=.
