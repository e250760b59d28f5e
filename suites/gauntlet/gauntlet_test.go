package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// The source of the mesh in the tests' tree. The defects change its behaviour,
// which its program prints.
const right = `package mesh

// What the mesh does.
const (
	Behaviour = "right"
	Other     = "right"
)
`

const meshFile = "internal/mesh/mesh.go"

// behaves is a defect in that source.
func behaves(like string, header ...string) string {
	if len(header) == 0 {
		header = []string{"Title: is wrong", "Part: mesh", "Differs: always", "Scenarios: one, two", "Claim: one: is right"}
	}
	return strings.Join(header, "\n") + "\n\n" + fmt.Sprintf(`diff --git a/%[1]s b/%[1]s
--- a/%[1]s
+++ b/%[1]s
@@ -4,3 +4,3 @@
 const (
-	Behaviour = "right"
+	Behaviour = "%[2]s"
 	Other     = "right"
`, meshFile, like)
}

// ends are how a run of the tests' meshproof can end: by exit code and outcome of
// the run, and by the outcome of its one claim.
var ends = map[string]struct {
	code    int
	outcome result.Outcome
	claim   result.Outcome
}{
	"right":        {0, result.Passed, result.Passed},
	"wrong":        {1, result.Failed, result.Failed},
	"harmless":     {0, result.Passed, result.Passed},
	"inconclusive": {2, result.Inconclusive, result.Inconclusive},
	"no cluster":   {3, result.Error, result.Skipped},
	"late trouble": {3, result.Error, result.Failed},
	"claim broken": {1, result.Failed, result.Error},
	"no result":    {70, "", ""},
}

// newTree makes a source tree with these defects, and programs: a meshproof that
// asks the agent beside it how to end.
func newTree(t *testing.T, defects map[string]string) tree {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module mesh.example\n\ngo 1.26\n")
	write(meshFile, right)
	write("cmd/meshproof-agent/main.go", "package main\n\nimport \"mesh.example/internal/mesh\"\n\nfunc main() { print(mesh.Behaviour) }\n")
	script := `#!/bin/sh
while [ "$1" != --output-dir ]; do shift; done
mkdir -p "$2/a" && ln -s a "$2/latest"
echo "$*" >> "$(dirname "$0")/../asked"
case "$("$(dirname "$0")/meshproof-agent" 2>&1)" in
`
	for name, end := range ends {
		run := result.Run{Outcome: end.outcome, ExitCode: end.code, Scenarios: []result.Scenario{{Name: "one", Steps: []result.Step{{
			Name: "step", Duration: 1.5, Claims: []result.Claim{{ID: "one/1", Name: "is right", Outcome: end.claim, Reason: "is not"}}}}}}}
		text, err := json.Marshal(run)
		if err != nil {
			t.Fatal(err)
		}
		if end.outcome == "" {
			script += fmt.Sprintf("'%s') exit %d ;;\n", name, end.code)
			continue
		}
		script += fmt.Sprintf("'%s') echo '%s' > \"$2/a/run.json\"; exit %d ;;\n", name, text, end.code)
	}
	script += "slow) trap 'exit 130' INT; sleep 60 & wait ;;\n"
	write("bin/meshproof", script+"esac\nexit 99\n")
	write("bin/meshproof-agent", "#!/bin/sh\nprintf right\n")
	for name, text := range defects {
		write("suites/gauntlet/defects/"+name+suffix, text)
	}
	return tree{root, filepath.Join(root, "bin")}
}

// do runs a command and returns its exit code and what it has said.
func do(t *testing.T, where tree, args ...string) (int, string) {
	t.Helper()
	var out strings.Builder
	code, err := where.do(t.Context(), args, &out)
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	return code, out.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestADefectThatAClaimTellsOfIsCaught(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong")})
	code, out := do(t, where, "run")
	if code != exitOK || lastLine(out) != "caught 1 of 1" {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	data, err := os.ReadFile(filepath.Join(where.root, "artifacts/gauntlet", dataFile))
	if err != nil {
		t.Fatal(err)
	}
	var got table
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	v := got.Defects[0]
	if v.By == nil || v.By.String() != "one / step / is right" || v.Catch != 1.5 || v.Failed != 1 || v.Reason != "is not" {
		t.Errorf("table: %+v", v)
	}
	text, err := os.ReadFile(filepath.Join(where.root, "artifacts/gauntlet", tableFile))
	if want := "| bad | mesh | is wrong | one / step / is right | 1.5s |\n"; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%v, want a line %q in\n%s", err, want, text)
	}
	asked, _ := os.ReadFile(filepath.Join(where.root, "artifacts/gauntlet/bad/asked"))
	if !strings.HasSuffix(string(asked), " one two\n") {
		t.Errorf("asked for %q, want the two scenarios", asked)
	}
	if _, err := os.Stat(filepath.Join(where.root, "artifacts/gauntlet/bad/programs")); err == nil {
		t.Error("the programs of a defect that was caught are still there")
	}
}

// Whatever is no failed claim of a run that came to its end is no catch.
func TestOnlyAFailedClaimIsACatch(t *testing.T) {
	for like, end := range ends {
		if like == "wrong" {
			continue
		}
		t.Run(like, func(t *testing.T) {
			where := newTree(t, map[string]string{"bad": behaves(like), "caught": behaves("wrong")})
			code, out := do(t, where, "run")
			want := unjudged
			if end.code <= 1 {
				want = missed
			}
			if code != exitFinding || lastLine(out) != "caught 1 of 2" || !strings.Contains(out, string(want)) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, exitFinding, want, out)
			}
			asked, err := os.ReadFile(filepath.Join(where.root, "artifacts/gauntlet/bad/asked"))
			if runs := strings.Count(string(asked), "\n"); err != nil || (runs == tries) != (want == unjudged) {
				t.Errorf("%d runs: what cannot be judged is run %d times, and a verdict stands: %v", runs, tries, err)
			}
		})
	}
}

func TestACatchForAnotherReasonThanTheDefectIsNone(t *testing.T) {
	header := []string{"Title: is wrong", "Part: mesh", "Differs: always", "Scenarios: one"}
	for claim, want := range map[string]int{"one: is right": exitOK, "one: one/1": exitOK, "one: something else": exitFinding} {
		where := newTree(t, map[string]string{"bad": behaves("wrong", append(header, "Claim: "+claim)...)})
		if code, out := do(t, where, "run"); code != want {
			t.Errorf("claim %q: exit code %d, want %d:\n%s", claim, code, want, out)
		}
	}
}

func TestAPatchThatDoesNotApplyFailsBeforeAnythingRuns(t *testing.T) {
	where := newTree(t, map[string]string{"good": behaves("wrong"), "stale": strings.Replace(behaves("wrong"), "Other     =", "Gone      =", 1)})
	code, out := do(t, where, "run")
	if code != exitFinding || !strings.Contains(out, "defect stale does not apply") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(where.root, "artifacts")); err == nil {
		t.Error("something has run")
	}
}

func TestADefectThatDoesNotBuildFailsAndTheOthersRun(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong"), "broken": behaves(`" + 1 + "`)})
	code, out := do(t, where, "run")
	if code != exitFinding || lastLine(out) != "caught 1 of 2" || !strings.Contains(out, "defect broken does not build") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestADefectWhoseRunDoesNotEndIsNotJudgedAndHoldsUpNobody(t *testing.T) {
	where := newTree(t, map[string]string{"slow": behaves("slow")})
	defects, err := readDefects(where.defects(), nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &gauntlet{tree: where, out: t.TempDir(), jobs: 1, limit: time.Second, tell: func(verdict) {}}
	if v := g.run(t.Context(), defects)[0]; v.Outcome != unjudged || v.Tries != 1 || v.Reason != errTooLong.Error() {
		t.Errorf("got %+v", v)
	}
}

func TestSelectedDefectsOnlyRun(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong"), "missed": behaves("harmless")})
	if code, out := do(t, where, "run", "-defects", "bad"); code != exitOK || lastLine(out) != "caught 1 of 1" {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out := do(t, where, "run", "-defects", "bad,unheard-of"); code == exitOK || !strings.Contains(out, "unheard-of") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestBuildLeavesTheProgramsOfTheDefectiveMesh(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong")})
	dir := filepath.Join(t.TempDir(), "programs")
	if code, out := do(t, where, "build", "bad", dir); code != exitOK {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	runs := t.TempDir()
	run, _, code, err := meshproof(t.Context(), dir, runs, "", []string{"one"})
	if err != nil || code != exitFinding || run.ExitCode != exitFinding {
		t.Errorf("exit code %d, %v", code, err)
	}
	if source, err := os.ReadFile(filepath.Join(where.root, meshFile)); err != nil || string(source) != right {
		t.Errorf("the tree has changed: %v\n%s", err, source)
	}
	if program, err := os.ReadFile(filepath.Join(where.bin, agent)); err != nil || !strings.HasPrefix(string(program), "#!") {
		t.Errorf("the right mesh's program has changed: %v", err)
	}
}

func TestCleanRunsFindNothingAndTheFirstFindingEndsThem(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong"), "two": behaves("wrong", "Title: is wrong", "Part: mesh", "Differs: always", "Scenarios: two, three", "Claim: two: dry", "Dialect: linkerd")})
	code, out := do(t, where, "clean", "-times", "3")
	if code != exitOK || lastLine(out) != "clean runs: 3 of 3" {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	asked, _ := os.ReadFile(filepath.Join(where.root, "artifacts/gauntlet/clean/asked"))
	if lines := strings.Count(string(asked), "\n"); lines != 6 || !strings.Contains(string(asked), "--dialect linkerd two three\n") {
		t.Errorf("%d runs, want three in each dialect:\n%s", lines, asked)
	}
	if err := os.WriteFile(filepath.Join(where.bin, agent), []byte("#!/bin/sh\nprintf wrong\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, out = do(t, where, "clean", "-times", "3")
	if code != exitFinding || lastLine(out) != "clean runs: 0 of 3" || !strings.Contains(out, "one / step / is right") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
