package api

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed crds
var crds embed.FS

// CRDs returns the CustomResourceDefinitions of every kind of section 1 of the
// rule book that concerns inbound policy: those that an installation applies,
// and that manifests are checked and completed with where no cluster is. One
// YAML document each, in the order of their file names.
func CRDs() [][]byte {
	names, err := fs.Glob(crds, "crds/*.yaml")
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
