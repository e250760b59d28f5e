package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// suffix is that of the files in the folder of defects.
const suffix = ".patch"

// defect is one bug that a mesh could have.
type defect struct {
	// Name is that of its file.
	Name string
	// Title says what the defective mesh does, Part in which part of it.
	Title, Part string
	// Differs is the configuration in which it differs from a right one.
	Differs string
	// Scenarios are run to catch it, on one cluster.
	Scenarios []string
	// Claims must all be among the failed ones, so that it is not caught for another
	// reason than it is there for; there is one at least.
	Claims []wanted
	// Dialect is the mesh's; empty for the usual one.
	Dialect string
	// files are the changes.
	files []*gitdiff.File
}

// wanted is a claim that is to fail: a part of its identity or of its ID.
type wanted struct{ scenario, part string }

func (w wanted) String() string { return w.scenario + ": " + w.part }

// readDefects reads the folder, in the order of names. With names only those
// defects are read, and each must be there.
func readDefects(folder string, names []string) ([]*defect, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("list the defects: %w", err)
	}
	var all []*defect
	var bad []error
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), suffix)
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			bad = append(bad, fmt.Errorf("read defect %s: %w", name, err))
			continue
		}
		d, err := parseDefect(name, text)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		all = append(all, d)
	}
	for _, name := range names {
		if !slices.Contains(paths, filepath.Join(folder, name+suffix)) {
			bad = append(bad, fmt.Errorf("no defect is called %q", name))
		}
	}
	if len(all) == 0 && len(bad) == 0 {
		bad = append(bad, fmt.Errorf("no defects in %s", folder))
	}
	return all, errors.Join(bad...)
}

// parseDefect reads header and changes of one.
func parseDefect(name string, text []byte) (*defect, error) {
	d := &defect{Name: name}
	files, header, err := gitdiff.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("defect %s: read the changes: %w", name, err)
	}
	if err := d.header(header); err != nil {
		return nil, fmt.Errorf("defect %s: %w", name, err)
	}
	for _, file := range files {
		path := changed(file)
		switch {
		case file.IsDelete || file.IsRename || file.IsCopy || file.IsBinary:
			err = fmt.Errorf("%s is deleted, renamed, copied or binary: a defect changes and adds sources", path)
		case filepath.Clean(path) != path || !strings.HasPrefix(path, meshFolder) || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			err = fmt.Errorf("%s is no source of the mesh: a defect is one in %s", path, meshFolder)
		case len(file.TextFragments) == 0:
			err = fmt.Errorf("nothing is changed in %s", path)
		}
		if err != nil {
			return nil, fmt.Errorf("defect %s: %w", name, err)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("defect %s: it changes nothing", name)
	}
	d.files = files
	return d, nil
}

// meshFolder is where defects are: what judges must not have any.
const meshFolder = "internal/mesh/"

// changed is the path of a file that is changed, relative to the source tree.
func changed(file *gitdiff.File) string {
	for _, prefix := range []string{"a/", "b/"} {
		if path, ok := strings.CutPrefix(file.NewName, prefix); ok {
			return path
		}
	}
	return file.NewName
}

// header reads the lines before the changes: "Key: value", where a value goes on
// in lines that begin with two spaces.
func (d *defect) header(text string) error {
	var key string
	values := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if rest, ok := strings.CutPrefix(line, "  "); ok && key != "" {
			last := &values[key][len(values[key])-1]
			*last = strings.TrimSpace(*last + " " + strings.TrimSpace(rest))
			continue
		}
		if line == "" {
			continue
		}
		var value string
		var ok bool
		if key, value, ok = strings.Cut(line, ":"); !ok || !slices.Contains(keys, key) {
			return fmt.Errorf("header line %q is none of %s", line, strings.Join(keys, ", "))
		}
		if key != keyClaim && values[key] != nil {
			return fmt.Errorf("%s stands twice in the header", key)
		}
		values[key] = append(values[key], strings.TrimSpace(value))
	}
	for _, one := range []struct {
		key  string
		into *string
	}{{keyTitle, &d.Title}, {keyPart, &d.Part}, {keyDiffers, &d.Differs}, {keyDialect, &d.Dialect}} {
		*one.into = strings.Join(values[one.key], "")
		if *one.into == "" && one.key != keyDialect {
			return fmt.Errorf("the header says no %s", one.key)
		}
	}
	for name := range strings.SplitSeq(strings.Join(values[keyScenarios], ""), ",") {
		if name = strings.TrimSpace(name); name != "" {
			d.Scenarios = append(d.Scenarios, name)
		}
	}
	if len(d.Scenarios) == 0 {
		return fmt.Errorf("the header says no %s", keyScenarios)
	}
	for _, text := range values[keyClaim] {
		scenario, part, ok := strings.Cut(text, ": ")
		if !ok || !slices.Contains(d.Scenarios, scenario) {
			return fmt.Errorf("claim %q does not begin with one of the scenarios and a colon", text)
		}
		d.Claims = append(d.Claims, wanted{scenario, strings.TrimSpace(part)})
	}
	if len(d.Claims) == 0 {
		return fmt.Errorf("the header says no %s", keyClaim)
	}
	return nil
}

// The keys of a header.
const (
	keyTitle     = "Title"
	keyPart      = "Part"
	keyDiffers   = "Differs"
	keyScenarios = "Scenarios"
	keyClaim     = "Claim"
	keyDialect   = "Dialect"
)

var keys = []string{keyTitle, keyPart, keyDiffers, keyScenarios, keyClaim, keyDialect}
