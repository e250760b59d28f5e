package rulebook

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// module is what import paths begin with and folders do not.
const module = "github.com/meshproof/meshproof/"

// NotRun is the outcome of a test of which nothing was recorded.
const NotRun result.Outcome = "not run"

// Test is one that the catalogue names, with its outcome.
type Test struct {
	Name    string         `json:"name"`
	Outcome result.Outcome `json:"outcome"`
}

// Tests are outcomes by the name that the catalogue uses.
type Tests map[string]result.Outcome

func (t Tests) of(name string) result.Outcome {
	if outcome, run := t[strings.ReplaceAll(name, " ", "_")]; run {
		return outcome
	}
	return NotRun
}

// ReadTests reads what `go test -json` has printed. Lines that are no events,
// such as what a build prints, are passed over; a stream without any test is an
// error.
func ReadTests(r io.Reader) (Tests, error) {
	tests := Tests{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var event struct{ Action, Package, Test string }
		if json.Unmarshal(line, &event) == nil && event.Test != "" {
			name := strings.TrimPrefix(event.Package, module) + "." + event.Test
			switch event.Action {
			case "pass":
				tests[name] = result.Passed
			case "fail":
				tests[name] = result.Failed
			case "skip":
				tests[name] = result.Skipped
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read outcomes of tests: %w", err)
		}
	}
	if len(tests) == 0 {
		return nil, errors.New("read outcomes of tests: there are none: want what go test -json prints")
	}
	return tests, nil
}

// Command is the go test command that runs every test that the catalogue names,
// without the program's name: flags, then packages.
func Command() []string {
	var names, packages []string
	for _, rule := range Rules() {
		for _, test := range rule.Tests {
			folder, name := split(test)
			name, _, _ = strings.Cut(name, "/")
			names, packages = append(names, name), append(packages, "./"+folder)
		}
	}
	slices.Sort(names)
	slices.Sort(packages)
	return append([]string{"test", "-json", "-run", "^(" + strings.Join(slices.Compact(names), "|") + ")$"}, slices.Compact(packages)...)
}

// split takes the folder of a test's package from its name.
func split(test string) (folder, name string) {
	top, _, _ := strings.Cut(test, ".Test")
	return top, strings.TrimPrefix(test, top+".")
}
