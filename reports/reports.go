// Package reports turns the result tree of a run into files that people and
// machines read: run.json, junit.xml, summary.md, report.html,
// conformance.yaml and flakes.json.
//
// A result.Run flows in, files in the run's folder come out, each written to
// a temporary name and renamed, so that a reader never sees half a file. It
// judges nothing and measures nothing: whatever is printed stands in the tree.
package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"

	"github.com/meshproof/meshproof/reports/conformance"
	"github.com/meshproof/meshproof/reports/html"
	"github.com/meshproof/meshproof/reports/junit"
	"github.com/meshproof/meshproof/reports/markdown"
	"github.com/meshproof/meshproof/reports/repeat"
	"github.com/meshproof/meshproof/reports/result"
)

// Names of the files in a run's folder.
const (
	RunFile         = "run.json"
	JUnitFile       = "junit.xml"
	MarkdownFile    = "summary.md"
	HTMLFile        = "report.html"
	ConformanceFile = "conformance.yaml"
	FlakesFile      = "flakes.json"
)

// KeepRuns is how many runs stay below the artifacts folder.
const KeepRuns = 10

// Format is one kind of report.
type Format struct {
	// Name is what a user asks for, File what it is called in the run's folder.
	Name, File string
	Write      func(io.Writer, *result.Run) error
}

// Formats lists every kind of report, run.json first.
func Formats() []Format {
	return []Format{
		{"json", RunFile, writeJSON},
		{"junit", JUnitFile, junit.Write},
		{"md", MarkdownFile, markdown.Write},
		{"html", HTMLFile, html.Write},
		{"conformance", ConformanceFile, conformance.Write},
		{"flakes", FlakesFile, repeat.WriteFlakes},
	}
}

func writeJSON(w io.Writer, run *result.Run) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(run)
}

// WriteAll writes every format into dir, making it when needed. One format
// that fails does not keep the others from being written.
func WriteAll(dir string, run *result.Run) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	var errs []error
	for _, format := range Formats() {
		errs = append(errs, WriteFile(filepath.Join(dir, format.File), run, format.Write))
	}
	return errors.Join(errs...)
}

// WriteFile writes one report atomically.
func WriteFile(path string, run *result.Run, write func(io.Writer, *result.Run) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // fails once renamed, as it should
	err = write(file, run)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Read loads the tree of an earlier run from its folder or from a run.json.
// A tree of another schema version is refused.
func Read(path string) (*result.Run, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, RunFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a run: %w", err)
	}
	return Parse(path, data)
}

// Parse reads the text of a run.json; name says in errors what it is.
func Parse(name string, data []byte) (*result.Run, error) {
	run := new(result.Run)
	if err := json.Unmarshal(data, run); err != nil {
		return nil, fmt.Errorf("read a run: %s: %w", name, err)
	}
	if run.SchemaVersion == 0 {
		return nil, fmt.Errorf("read a run: %s is not a run of meshproof: it has no schema version", name)
	}
	if run.SchemaVersion != result.SchemaVersion {
		return nil, fmt.Errorf("read a run: %s has schema version %d, this program reads %d", name, run.SchemaVersion, result.SchemaVersion)
	}
	return run, nil
}

// runFolder is the shape of a run's ID, and so of its folder: only folders
// that look like this are ever removed.
var runFolder = regexp.MustCompile(`^\d{8}-\d{6}-[0-9a-f]{4}$`)

// Publish points artifacts/latest at the run and removes the oldest runs
// beyond KeepRuns. Anything that is not a run's folder is left alone.
func Publish(artifacts, id string) error {
	link := filepath.Join(artifacts, "latest")
	next := filepath.Join(artifacts, "."+id+".latest")
	if err := os.Symlink(id, next); err != nil {
		return fmt.Errorf("point %s at run %s: %w", link, id, err)
	}
	if err := os.Rename(next, link); err != nil {
		return errors.Join(fmt.Errorf("point %s at run %s: %w", link, id, err), os.Remove(next))
	}
	entries, err := os.ReadDir(artifacts)
	if err != nil {
		return fmt.Errorf("look for old runs: %w", err)
	}
	var runs []string
	for _, entry := range entries {
		if entry.IsDir() && runFolder.MatchString(entry.Name()) {
			runs = append(runs, entry.Name())
		}
	}
	sort.Strings(runs) // IDs begin with the time
	var errs []error
	for len(runs) > KeepRuns {
		if runs[0] != id {
			if err := os.RemoveAll(filepath.Join(artifacts, runs[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove old run %s: %w", runs[0], err))
			}
		}
		runs = runs[1:]
	}
	return errors.Join(errs...)
}
