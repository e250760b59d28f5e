package scenarios

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
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

// The library's folders. What is claimed of conformance stands in the library's
// own folder, the others in folders of their names within it.
const (
	Conformance = "conformance"
	Transitions = "transitions"
	Faults      = "faults"
)

// Folders lists the library's folders by name.
func Folders() []string { return []string{Conformance, Transitions, Faults} }

// Folder is the name of the folder that the scenario's file stands in: one of the
// library's, or of the user's own the last part of its path; empty when the file
// is named without one.
func (s *Scenario) Folder() string { return FolderOf(s.File) }

// FolderOf is the name of the folder that a scenario file stands in.
func FolderOf(file string) string {
	switch folder := path.Dir(filepath.ToSlash(file)); folder {
	case LibraryFolder:
		return Conformance
	case ".", "/":
		return ""
	default:
		return path.Base(folder)
	}
}

// Library returns the scenarios of the folders, of Conformance when none is named.
// Those of its templates are written out first; places in them are places in the
// template.
func Library(folders ...string) (*Set, error) {
	if len(folders) == 0 {
		folders = []string{Conformance}
	}
	var files []string
	for _, folder := range folders {
		if !slices.Contains(Folders(), folder) {
			return nil, fmt.Errorf("the library has no folder %q: %s", folder, didYouMean(folder, Folders()))
		}
		of, err := filesOf(folder)
		if err != nil {
			return nil, err
		}
		files = append(files, of...)
	}
	return loadLibrary(files)
}

// filesOf are the scenario files and templates of a folder of the library, by the
// names that results give them. A folder that nobody has put anything into is not
// among what is embedded.
func filesOf(folder string) ([]string, error) {
	at := "library"
	if folder != Conformance {
		at = path.Join(at, folder)
	}
	entries, err := fs.ReadDir(library, at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the library: %w", err)
	}
	var plain, templates []string
	for _, entry := range entries {
		switch name := path.Join(path.Dir(LibraryFolder), at, entry.Name()); {
		case entry.IsDir():
		case strings.HasSuffix(name, templateSuffix):
			templates = append(templates, name)
		case path.Ext(name) == ".yaml":
			plain = append(plain, name)
		}
	}
	return append(plain, templates...), nil
}

func loadLibrary(files []string) (*Set, error) {
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
