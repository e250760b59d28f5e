// Package archtest keeps the picture of the folders true: its test reads what
// `go list` says of every package and fails when an arrow points the wrong way.
//
// Go package lists flow in, a list of broken rules comes out. It has no code
// that anything else uses.
package archtest
