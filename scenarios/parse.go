package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a scenario file.
const maxFile = 1 << 20

// Set is the scenarios of one or more files with the manifests beside them.
type Set struct {
	Scenarios []*Scenario
	// Manifests maps a file's folder and a manifest's name to its objects.
	manifests map[manifestKey][]Object
}

type manifestKey struct{ folder, name string }

// ManifestOf returns the objects that a manifest action of the scenario means.
func (s *Set) ManifestOf(scenario *Scenario, name string) []Object {
	return s.manifests[manifestKey{filepath.Dir(scenario.File), name}]
}

// Parse reads the scenarios in data. file is the name that errors and results
// carry. Manifests are looked up with read, which gets a name relative to the
// file's folder.
func Parse(file string, data []byte, read func(name string) ([]byte, error)) (*Set, error) {
	set := &Set{manifests: map[manifestKey][]Object{}}
	problems := &problems{}
	if len(data) > maxFile {
		problems.add(Pos{file, 1, 1}, "the file is larger than %d bytes", maxFile)
		return nil, problems.err()
	}
	for _, node := range documents(file, data, problems) {
		scenario := new(Scenario)
		before := len(problems.list)
		d := &decoder{file: file, problems: problems}
		// Only a document that says what it is deserves a detailed answer.
		if !d.isScenario(node) {
			continue
		}
		d.value(node, reflect.ValueOf(scenario).Elem())
		if len(problems.list) == before {
			set.validate(scenario, problems, read)
		}
		set.Scenarios = append(set.Scenarios, scenario)
	}
	if len(problems.list) == 0 && len(set.Scenarios) == 0 {
		problems.add(Pos{file, 1, 1}, "the file holds no scenario")
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return set, nil
}

// isScenario tells whether a document declares itself one, and complains when
// it does not.
func (d *decoder) isScenario(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected a scenario, found %s", found(n))
		return false
	}
	for _, want := range []struct{ field, value string }{{"apiVersion", APIVersion}, {"kind", KindScenario}} {
		var have *yaml.Node
		for _, p := range d.pairs(n) {
			if p.key.Value == want.field {
				have = p.value
			}
		}
		switch {
		case have == nil:
			d.fail(n, "a scenario needs the field %q with the value %s", want.field, want.value)
			return false
		case have.Value != want.value:
			d.fail(have, "%s is %q, expected %q", want.field, have.Value, want.value)
			return false
		}
	}
	return true
}

// yamlLine finds the line in a message of the YAML library, which has no
// typed form for it.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// zeroBased are the messages of the library's grammar, as opposed to its
// scanner: their lines count from 0.
var zeroBased = regexp.MustCompile(`^did not find expected (node content|'-' indicator|key|',' or '[]}]'|<document start>)`)

// documents splits data; a file that is not YAML yields one problem.
func documents(file string, data []byte, problems *problems) []*yaml.Node {
	var nodes []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return nodes
		}
		if err != nil {
			at, message := Pos{file, 1, 1}, strings.TrimPrefix(err.Error(), "yaml: ")
			if match := yamlLine.FindStringSubmatch(message); match != nil {
				at.Line, _ = strconv.Atoi(match[1])
				message = strings.Replace(message, match[0], "", 1)
				if zeroBased.MatchString(message) {
					at.Line++
				}
			}
			problems.add(at, "not YAML: %s", message)
			return nodes
		}
		if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
			if content := node.Content[0]; content.Kind != yaml.ScalarNode || content.Tag != "!!null" {
				nodes = append(nodes, content)
			}
		}
	}
}

// Objects reads the Kubernetes objects in a manifest.
func Objects(file string, data []byte) ([]Object, error) {
	problems := &problems{}
	var objects []Object
	for _, node := range documents(file, data, problems) {
		var object Object
		d := &decoder{file: file, problems: problems}
		d.value(node, reflect.ValueOf(&object).Elem())
		objects = append(objects, object)
	}
	return objects, problems.err()
}

// Load reads files, and the scenario files of folders, from disk. A folder's
// files are those ending in .yaml or .yml that are not in a manifests folder.
func Load(paths ...string) (*Set, error) {
	files, err := Files(paths...)
	if err != nil {
		return nil, err
	}
	return load(files, os.ReadFile)
}

// Files lists the scenario files that paths name: files as they are, and those of
// folders.
func Files(paths ...string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read scenarios: %w", err)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		inside, err := scenarioFiles(os.DirFS(path))
		if err != nil {
			return nil, fmt.Errorf("read scenarios in %s: %w", path, err)
		}
		for _, name := range inside {
			files = append(files, filepath.Join(path, name))
		}
	}
	return files, nil
}

func scenarioFiles(folder fs.FS) ([]string, error) {
	var files []string
	err := fs.WalkDir(folder, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ManifestsFolder {
				return fs.SkipDir
			}
			return nil
		}
		if extension := filepath.Ext(path); extension == ".yaml" || extension == ".yml" {
			files = append(files, path)
		}
		return nil
	})
	sort.Strings(files)
	return files, err
}

func load(files []string, read func(string) ([]byte, error)) (*Set, error) {
	all := &Set{manifests: map[manifestKey][]Object{}}
	problems := &problems{}
	byName := map[string]Pos{}
	for _, file := range files {
		data, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("read a scenario: %w", err)
		}
		set, err := Parse(file, data, func(name string) ([]byte, error) {
			return read(filepath.Join(filepath.Dir(file), ManifestsFolder, name))
		})
		var wrong Errors
		if errors.As(err, &wrong) {
			problems.list = append(problems.list, wrong...)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, scenario := range set.Scenarios {
			if first, twice := byName[scenario.Metadata.Name]; twice {
				problems.add(scenario.Pos, "the name %q is taken by the scenario at %s", scenario.Metadata.Name, first)
			}
			byName[scenario.Metadata.Name] = scenario.Pos
		}
		all.Scenarios = append(all.Scenarios, set.Scenarios...)
		for key, objects := range set.manifests {
			all.manifests[key] = objects
		}
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return all, nil
}
