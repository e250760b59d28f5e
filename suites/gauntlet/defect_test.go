package main

import (
	"bytes"
	"go/format"
	"os"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

func TestAHeaderSaysEverythingAndNothingElse(t *testing.T) {
	header := map[string]string{"Title": "is wrong", "Part": "mesh", "Differs": "when it\n  rains", "Scenarios": "one,\n  two", "Claim": "two: dry", "Dialect": "linkerd"}
	text := func(change func(map[string]string)) string {
		values := map[string]string{}
		for key, value := range header {
			values[key] = value
		}
		change(values)
		var lines []string
		for key, value := range values {
			lines = append(lines, key+": "+value)
		}
		return behaves("wrong", lines...)
	}
	d, err := parseDefect("it", []byte(text(func(map[string]string) {})))
	if err != nil {
		t.Fatal(err)
	}
	if d.Title != "is wrong" || d.Part != "mesh" || d.Differs != "when it rains" || strings.Join(d.Scenarios, "|") != "one|two" ||
		len(d.Claims) != 1 || d.Claims[0] != (wanted{"two", "dry"}) || d.Dialect != "linkerd" {
		t.Errorf("got %+v", d)
	}
	for name, change := range map[string]func(map[string]string){
		"no title":                 func(v map[string]string) { delete(v, "Title") },
		"no part":                  func(v map[string]string) { delete(v, "Part") },
		"no difference":            func(v map[string]string) { delete(v, "Differs") },
		"no scenarios":             func(v map[string]string) { v["Scenarios"] = "" },
		"no claim":                 func(v map[string]string) { delete(v, "Claim") },
		"an unknown key":           func(v map[string]string) { v["Author"] = "somebody" },
		"a claim of another":       func(v map[string]string) { v["Claim"] = "three: dry" },
		"a claim of no scenario":   func(v map[string]string) { v["Claim"] = "dry" },
		"the same key once more":   func(v map[string]string) { v["Part"] = "mesh\nPart: mesh" },
		"a line that is no header": func(v map[string]string) { v["Part"] = "mesh\nhello" },
	} {
		if d, err := parseDefect("it", []byte(text(change))); err == nil {
			t.Errorf("%s: taken as %+v", name, d)
		}
	}
}

func TestADefectIsInTheMeshAlone(t *testing.T) {
	for _, path := range []string{"internal/policy/oracle/oracle.go", "internal/mesh/mesh_test.go", "internal/mesh/README.md", "internal/mesh/../check/check.go"} {
		text := strings.ReplaceAll(behaves("wrong"), meshFile, path)
		if _, err := parseDefect("it", []byte(text)); err == nil {
			t.Errorf("a change of %s is taken", path)
		}
	}
	for name, text := range map[string]string{
		"deletes": "diff --git a/internal/mesh/a.go b/internal/mesh/a.go\ndeleted file mode 100644\n--- a/internal/mesh/a.go\n+++ /dev/null\n@@ -1 +0,0 @@\n-package a\n",
		"renames": "diff --git a/internal/mesh/a.go b/internal/mesh/b.go\nsimilarity index 100%\nrename from internal/mesh/a.go\nrename to internal/mesh/b.go\n",
		"nothing": "",
	} {
		header, _, _ := strings.Cut(behaves("wrong"), "diff ")
		if _, err := parseDefect("it", []byte(header+text)); err == nil {
			t.Errorf("a patch that %s is taken", name)
		}
	}
}

func TestAPatchAppliesWhereItsLinesAreAndNowhereElse(t *testing.T) {
	d, err := parseDefect("it", []byte(behaves("wrong")))
	if err != nil {
		t.Fatal(err)
	}
	block := "const (\n\tBehaviour = \"right\"\n\tOther     = \"right\"\n"
	const three = "package mesh\n\n// What the mesh does.\n"
	for name, row := range map[string]struct {
		before string
		ok     bool
	}{
		"at its line":                      {three + block + ")\n", true},
		"moved":                            {three + "\nvar a int\n" + block + ")\n", true},
		"there and elsewhere":              {three + block + ")\n" + block + ")\n", true},
		"at two other lines":               {three + "\n" + block + ")\n" + block + ")\n", false},
		"with another line in the context": {three + strings.Replace(block, "Other", "Another", 1) + ")\n", false},
		"changed already":                  {three + strings.Replace(block, "right", "wrong", 1) + ")\n", false},
		"an empty file":                    {"", false},
	} {
		after, err := change([]byte(row.before), d.files[0].TextFragments)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
		if row.ok && string(after) != strings.Replace(row.before, `Behaviour = "right"`, `Behaviour = "wrong"`, 1) {
			t.Errorf("%s:\n%s", name, after)
		}
	}
}

// What a defect's header names must be there, or it would be missed for ever.
func TestEveryDefectAppliesAndNamesWhatIsThere(t *testing.T) {
	where, err := findTree()
	if err != nil {
		t.Fatal(err)
	}
	defects, err := readDefects(where.defects(), nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string][]*scenarios.PlannedClaim{}
	for _, claim := range scenarios.NewPlan(set, nil).Claims() {
		name := claim.Scenario.Metadata.Name
		claims[name] = append(claims[name], claim)
	}
	titles := map[string]string{}
	for _, d := range defects {
		if other := titles[d.Title]; other != "" {
			t.Errorf("%s and %s do the same: %s", d.Name, other, d.Title)
		}
		titles[d.Title] = d.Name
		for _, name := range d.Scenarios {
			if len(claims[name]) == 0 {
				t.Errorf("%s: no scenario is called %s", d.Name, name)
			}
		}
		for _, want := range d.Claims {
			found := false
			for _, claim := range claims[want.scenario] {
				found = found || claim.ID == want.part || strings.Contains(want.scenario+" / "+claim.Step.Name+" / "+claim.Name, want.part)
			}
			if !found {
				t.Errorf("%s: no claim is %q", d.Name, want)
			}
		}
		sources, err := d.apply(where.root)
		if err != nil {
			t.Error(err)
		}
		for path, source := range sources {
			if tidy, err := format.Source(source); err != nil || !bytes.Equal(tidy, source) {
				t.Errorf("%s: %s is not formatted as Go is: %v", d.Name, path, err)
			}
		}
	}
}

// Built with other flags, a defective mesh would be compiled from scratch, and
// would differ from the right one by more than its defect.
func TestDefectsAreBuiltAsTheMakefileBuildsTheRightMesh(t *testing.T) {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"export CGO_ENABLED := 0\n", "export GOFLAGS := " + goflags + "\n", `LDFLAGS := -ldflags "` + ldflags + "\"\n", "bin/" + agent + ": TAGS := -tags " + tags + "\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Makefile has no line %q", want)
		}
	}
}
