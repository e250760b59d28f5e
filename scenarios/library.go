package scenarios

import "embed"

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

// Library returns the scenarios that are built in.
func Library() (*Set, error) {
	files, err := scenarioFiles(library)
	if err != nil {
		return nil, err
	}
	for i := range files {
		files[i] = "scenarios/" + files[i]
	}
	return load(files, func(name string) ([]byte, error) { return library.ReadFile(name[len("scenarios/"):]) })
}
