package api

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed crds
var crds embed.FS

// CRDs returns the CustomResourceDefinitions that an installation applies: those
// of the kinds that the controller handles, because a cluster must not accept
// policies that nobody enforces. One YAML document each, in the order of their
// file names. They use YAML anchors, which every YAML reader resolves, but which
// must not be split across documents.
func CRDs() [][]byte { return documents("crds/*.yaml") }

// AllCRDs returns the definitions of every kind of section 1 of the rule book
// that concerns inbound policy, the generated ones of crds/more after those that
// CRDs returns. They are what manifests are checked and completed with where no
// cluster is.
func AllCRDs() [][]byte { return append(CRDs(), documents("crds/more/*.yaml")...) }

func documents(pattern string) [][]byte {
	names, err := fs.Glob(crds, pattern)
	if err != nil {
		panic(fmt.Sprintf("list embedded CRDs: %v", err))
	}
	documents := make([][]byte, len(names))
	for i, name := range names {
		if documents[i], err = crds.ReadFile(name); err != nil {
			panic(fmt.Sprintf("read embedded CRD: %v", err))
		}
	}
	return documents
}
