//go:build deps

package deps

import (
	_ "github.com/google/go-containerregistry/pkg/authn"
	_ "github.com/google/go-containerregistry/pkg/name"
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "github.com/google/go-containerregistry/pkg/v1/empty"
	_ "github.com/google/go-containerregistry/pkg/v1/layout"
	_ "github.com/google/go-containerregistry/pkg/v1/mutate"
	_ "github.com/google/go-containerregistry/pkg/v1/remote"
	_ "github.com/google/go-containerregistry/pkg/v1/stream"
	_ "github.com/google/go-containerregistry/pkg/v1/tarball"
	_ "sigs.k8s.io/e2e-framework/klient"
	_ "sigs.k8s.io/e2e-framework/pkg/env"
	_ "sigs.k8s.io/e2e-framework/pkg/envconf"
	_ "sigs.k8s.io/e2e-framework/pkg/envfuncs"
	_ "sigs.k8s.io/e2e-framework/pkg/features"
	_ "sigs.k8s.io/e2e-framework/support"
	_ "sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	_ "sigs.k8s.io/kind/pkg/cluster"
	_ "sigs.k8s.io/kind/pkg/cluster/nodes"
	_ "sigs.k8s.io/kind/pkg/cluster/nodeutils"
	_ "sigs.k8s.io/kind/pkg/errors"
	_ "sigs.k8s.io/kind/pkg/exec"
	_ "sigs.k8s.io/kind/pkg/log"
)
