package api

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed crds/*.yaml
var crds embed.FS

// CRDs returns the CustomResourceDefinitions as they are written, one YAML
// document each, in the order of their file names. They use YAML anchors, which
// every YAML reader resolves, but which must not be split across documents.
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
