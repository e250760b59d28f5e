package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Targets are written in packages and listed here; neither without the other.
func TestEveryFuzzTargetIsListed(t *testing.T) {
	root := filepath.Join("..", "..")
	var have, listed []string
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "artifacts" || entry.Name() == "bin" || strings.HasPrefix(entry.Name(), ".") && at != root):
			return fs.SkipDir
		case !strings.HasSuffix(at, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(at)
		if err != nil || !strings.Contains(string(text), "\nfunc Fuzz") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), at, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(at))
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
				have = append(have, filepath.ToSlash(folder)+" "+f.Name.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		listed = append(listed, target.Package+" "+target.Name)
		if target.Holds == "" {
			t.Errorf("%s holds nothing", target.Name)
		}
	}
	slices.Sort(have)
	slices.Sort(listed)
	if diff := cmp.Diff(have, listed); diff != "" {
		t.Errorf("in the tree, and listed (-tree +listed):\n%s", diff)
	}
}

func TestOnlyATargetThatTriedInputsAndFoundNothingIsClean(t *testing.T) {
	const (
		known   = "fuzz: elapsed: 0s, gathering baseline coverage: 0/18 completed\n"
		begun   = known + "fuzz: elapsed: 0s, gathering baseline coverage: 18/18 completed, now fuzzing with 2 workers\n"
		header  = begun + "fuzz: elapsed: 1s, execs: 58 (19/sec), new interesting: 0 (total: 55)\n"
		running = header + "fuzz: elapsed: 3s, execs: 1252 (19/sec), new interesting: 0 (total: 55)\n"
		only    = begun + "fuzz: elapsed: 3s, execs: 18 (6/sec), new interesting: 0 (total: 18)\n"
	)
	failed := errors.New("exit status 1")
	at := target{Package: "internal/x", Name: "FuzzX", Holds: "x"}
	for name, row := range map[string]struct {
		out  string
		err  error
		want result
	}{
		"passed":                  {running + "PASS\nok  \tx\t3s\n", nil, result{State: ranClean, Inputs: 1234}},
		"ended at a bad moment":   {running + "--- FAIL: FuzzX (3.01s)\n    context deadline exceeded\nFAIL\nexit status 1\n", failed, result{State: ranClean, Inputs: 1234}},
		"found":                   {running + "--- FAIL: FuzzX (1s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:1: bad\n    \n    Failing input written to testdata/fuzz/FuzzX/d2\n    To re-run:\nFAIL\n", failed, result{State: found, Inputs: 1234, Input: "internal/x/testdata/fuzz/FuzzX/d2"}},
		"a bad seed in the code":  {header + "failure while testing seed corpus entry: FuzzX/seed#1\n--- FAIL: FuzzX (0.1s)\nFAIL\n", failed, result{State: found, Inputs: 40, Input: "FuzzX/seed#1 in internal/x"}},
		"a bad seed in a file":    {"failure while testing seed corpus entry: FuzzX/d2\n--- FAIL: FuzzX (0.1s)\nFAIL\n", failed, result{State: found, Input: "internal/x/testdata/fuzz/FuzzX/d2"}},
		"failed without a file":   {running + "--- FAIL: FuzzX (1s)\n    fuzzing process hung or terminated unexpectedly\nFAIL\n", failed, result{State: found, Inputs: 1234, Input: "an input that was not kept"}},
		"no such target":          {"testing: warning: no fuzz tests to fuzz\nPASS\nok  \tx\t0.01s\n", nil, result{}},
		"nothing was built":       {"x.go:1: no\nFAIL\tx [build failed]\n", failed, result{}},
		"nothing was tried":       {known + "PASS\n", nil, result{}},
		"nothing new was tried":   {only + "PASS\nok  \tx\t3s\n", nil, result{}},
		"only some that is known": {known + "fuzz: elapsed: 3s, gathering baseline coverage: 12/18 completed\nPASS\nok  \tx\t3s\n", nil, result{}},
		"no time for inputs":      {known + "--- FAIL: FuzzX (3.01s)\n    context deadline exceeded\nFAIL\n", failed, result{}},
	} {
		got := judge(at, row.out, row.err)
		if got.State != ranClean && got.Why == "" {
			t.Errorf("%s: nothing says why", name)
		}
		got.Why = ""
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestATargetGetsTheTimeThatKnownInputsTake(t *testing.T) {
	const length = time.Minute
	at := func(tried int) string {
		return fmt.Sprintf("fuzz: elapsed: 0s, gathering baseline coverage: 0/400 completed\nfuzz: elapsed: 1m0s, gathering baseline coverage: %d/400 completed\nPASS\n", tried)
	}
	for name, row := range map[string]struct {
		out  string
		want time.Duration
	}{
		"half of them":   {at(200), 4 * length},
		"none":           {at(0), beyond},
		"all":            {at(400), 0},
		"nothing built":  {"x.go:1: no\nFAIL\tx [build failed]\n", 0},
		"without a word": {"testing: warning: no fuzz tests to fuzz\nPASS\n", 0},
	} {
		if got := missing(row.out, length); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// What go test itself prints is read as it is meant.
func TestGoTestIsUnderstood(t *testing.T) {
	run := runner{Dir: t.TempDir(), Length: time.Second, Parallel: 1}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(run.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x\n\ngo 1.26\n")
	write("x_test.go", `package x

import "testing"

func FuzzGood(f *testing.F) {
	f.Add(1)
	f.Fuzz(func(*testing.T, int) {})
}

func FuzzBad(f *testing.F) {
	f.Add(1)
	f.Fuzz(func(t *testing.T, n int) {
		if n < 0 {
			t.Error(n)
		}
	})
}
`)
	for name, want := range map[string]state{"FuzzGood": ranClean, "FuzzBad": found, "FuzzRenamed": notRun} {
		if got := run.run(t.Context(), target{Package: ".", Name: name}); got.State != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	write("broken_test.go", "package x\n\nfunc broken() { no }\n")
	if got := run.run(t.Context(), target{Package: ".", Name: "FuzzGood"}); got.State != notRun || !strings.Contains(got.Why, "undefined: no") {
		t.Errorf("what is not built: %+v", got)
	}
}
