package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	_ "unsafe" // for go:linkname

	"k8s.io/component-base/version"
)

// Kubernetes learns its version from linker flags, and reports v0.0.0-master
// without them, which clients take for a version they cannot talk to. Setting
// the variables here makes the version that of the module whatever flags the
// program was linked with.
//
//go:linkname gitVersion k8s.io/component-base/version.gitVersion
var gitVersion string

//go:linkname gitMajor k8s.io/component-base/version.gitMajor
var gitMajor string

//go:linkname gitMinor k8s.io/component-base/version.gitMinor
var gitMinor string

// setVersion must be called before any component is set up.
func setVersion() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil // it stays as it is
	}
	for _, module := range info.Deps {
		if module.Path != "k8s.io/kubernetes" {
			continue
		}
		gitVersion = module.Version
		gitMajor, gitMinor, _ = strings.Cut(strings.TrimPrefix(module.Version, "v"), ".")
		gitMinor, _, _ = strings.Cut(gitMinor, ".")
		if err := version.SetDynamicVersion(module.Version); err != nil {
			return fmt.Errorf("set version %s: %w", module.Version, err)
		}
	}
	return nil
}
