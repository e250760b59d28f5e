// Command generate writes the CRDs of package api from its Go types: `go generate
// ./internal/policy/api` after a change of a type or of the table below. A test
// compares what stands in the tree with what would be written.
//
// controller-gen itself wants a Go package for each version of a kind. Here all
// versions of a kind share one type, because no conversion exists between them,
// and the table says which fields a version lacks; the schemas are made by
// controller-gen's own library. It refuses to guess: a field that the table
// names and the type lacks is an error.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	folder := "."
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	files, err := generate(folder)
	if err != nil {
		fmt.Fprintf(os.Stderr, "generate the CRDs: %v\n", err)
		os.Exit(1)
	}
	stale, err := existing(folder)
	if err != nil {
		fmt.Fprintf(os.Stderr, "look for CRDs: %v\n", err)
		os.Exit(1)
	}
	for name := range stale {
		if files[name] != nil {
			continue
		}
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			fmt.Fprintf(os.Stderr, "remove a CRD: %v\n", err)
			os.Exit(1)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "write a CRD: %v\n", err)
			os.Exit(1)
		}
	}
}

// existing are the CRDs that stand in the tree, by their names below the
// package's folder.
func existing(folder string) (map[string][]byte, error) {
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(folder, crdFolder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files[crdFolder+"/"+filepath.Base(name)] = content
	}
	return files, nil
}
