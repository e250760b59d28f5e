package abuse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

const module = "github.com/meshproof/meshproof/"

// run runs all tests that cases name, once, and tells how each ended, by folder
// and name; why is what went wrong with the run itself.
var run = sync.OnceValues(func() (ended map[string]string, why string) {
	folders, names := map[string]bool{}, map[string]bool{}
	for _, c := range all() {
		for folder, tests := range c.Shown {
			folders["./"+folder] = true
			for _, test := range tests {
				names[test] = true
			}
		}
	}
	args := []string{"test", "-count=1", "-p=1", "-json", "-run", "^(" + strings.Join(slices.Sorted(maps.Keys(names)), "|") + ")$"}
	command := exec.Command("go", append(args, slices.Sorted(maps.Keys(folders))...)...)
	command.Dir = "../.."
	var failed bytes.Buffer
	command.Stderr = &failed
	out, err := command.Output()
	ended = map[string]string{}
	for line := range bytes.Lines(out) {
		var event struct{ Action, Package, Test, Output string }
		if json.Unmarshal(line, &event) != nil {
			continue
		}
		switch event.Action {
		case "output", "build-output":
			if strings.HasPrefix(event.Output, "FAIL") {
				why += strings.TrimSpace(event.Output) + "; "
			}
		case "pass", "fail", "skip":
			ended[strings.TrimPrefix(event.Package, module)+" "+event.Test] = event.Action
		}
	}
	if err != nil {
		why += err.Error() + " " + failed.String()
	}
	return ended, why
})

// goTests fails unless every one of these tests of other packages has run and
// passed, with all its parts. It is how cases are shown whose subject is not the
// data path.
func goTests(t *T, shown map[string][]string) {
	t.Helper()
	if len(shown) == 0 {
		return
	}
	ended, why := run()
	for _, wrong := range unshown(shown, ended) {
		t.Errorf("%s %s", wrong, why)
	}
}

// unshown is what keeps tests from showing a case: they did not run, they or parts
// of them have not passed, or their package has failed although none of its tests
// did, as it does when they leave something behind.
func unshown(shown map[string][]string, ended map[string]string) (wrong []string) {
	for _, folder := range slices.Sorted(maps.Keys(shown)) {
		blamed := false
		for test, how := range ended {
			blamed = blamed || strings.HasPrefix(test, folder+" Test") && how != "pass"
		}
		if how := ended[folder+" "]; how != "pass" && !blamed {
			wrong = append(wrong, fmt.Sprintf("package %s: %q, want that it passes", folder, how))
		}
		for _, test := range shown[folder] {
			if how := ended[folder+" "+test]; how != "pass" {
				wrong = append(wrong, fmt.Sprintf("%s of %s: %q, want that it passes", test, folder, how))
			}
			for _, part := range slices.Sorted(maps.Keys(ended)) {
				if strings.HasPrefix(part, folder+" "+test+"/") && ended[part] != "pass" {
					wrong = append(wrong, fmt.Sprintf("%s: %s", part, ended[part]))
				}
			}
		}
	}
	return wrong
}
