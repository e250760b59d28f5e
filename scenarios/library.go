package scenarios

import (
	"embed"
	"errors"
	"io/fs"
	"strings"
)

// ManifestsFolder, beside a scenario file, holds the files that its manifest
// actions name.
const ManifestsFolder = "manifests"

// LibraryFolder is where the library stands in the source tree: results name
// its files by paths that can be opened from there.
const LibraryFolder = "scenarios/library"

//go:embed library
var library embed.FS

//go:embed schema.json
var schema []byte

// Schema is the JSON schema of a scenario document.
func Schema() []byte { return append([]byte(nil), schema...) }

// Library returns the scenarios that are built in. Those of its templates are
// written out first; places in them are places in the template.
func Library() (*Set, error) {
	files, err := scenarioFiles(library)
	if err != nil {
		return nil, err
	}
	templates, err := fs.Glob(library, "library/*"+templateSuffix)
	if err != nil {
		return nil, err
	}
	files = append(files, templates...)
	for i := range files {
		files[i] = "scenarios/" + files[i]
	}
	lines := map[string][]int{}
	set, err := load(files, func(name string) ([]byte, error) {
		data, err := library.ReadFile(strings.TrimPrefix(name, "scenarios/"))
		if err != nil || !strings.HasSuffix(name, templateSuffix) {
			return data, err
		}
		data, lines[name], err = writeOut(name, data)
		return data, err
	})
	var wrong Errors
	if errors.As(err, &wrong) {
		relocate(&wrong, lines)
	}
	if err != nil {
		return nil, err
	}
	relocate(&set.Scenarios, lines)
	return set, nil
}
