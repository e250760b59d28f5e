package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
		header  = "fuzz: elapsed: 0s, gathering baseline coverage: 0/18 completed\nfuzz: elapsed: 1s, execs: 58 (19/sec), new interesting: 0 (total: 55)\n"
		running = header + "fuzz: elapsed: 3s, execs: 1234 (19/sec), new interesting: 0 (total: 55)\n"
	)
	failed := errors.New("exit status 1")
	at := target{Package: "internal/x", Name: "FuzzX", Holds: "x"}
	for name, row := range map[string]struct {
		out  string
		err  error
		want result
	}{
		"passed":                 {running + "PASS\nok  \tx\t3s\n", nil, result{State: ranClean, Inputs: 1234}},
		"ended at a bad moment":  {running + "--- FAIL: FuzzX (3.01s)\n    context deadline exceeded\nFAIL\nexit status 1\n", failed, result{State: ranClean, Inputs: 1234}},
		"found":                  {running + "--- FAIL: FuzzX (1s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:1: bad\n    \n    Failing input written to testdata/fuzz/FuzzX/d2\n    To re-run:\nFAIL\n", failed, result{State: found, Inputs: 1234, Input: "internal/x/testdata/fuzz/FuzzX/d2"}},
		"a bad seed in the code": {header + "failure while testing seed corpus entry: FuzzX/seed#1\n--- FAIL: FuzzX (0.1s)\nFAIL\n", failed, result{State: found, Inputs: 58, Input: "FuzzX/seed#1 in internal/x"}},
		"a bad seed in a file":   {"failure while testing seed corpus entry: FuzzX/d2\n--- FAIL: FuzzX (0.1s)\nFAIL\n", failed, result{State: found, Input: "internal/x/testdata/fuzz/FuzzX/d2"}},
		"failed without a file":  {running + "--- FAIL: FuzzX (1s)\n    fuzzing process hung or terminated unexpectedly\nFAIL\n", failed, result{State: found, Inputs: 1234, Input: "an input that was not kept"}},
		"no such target":         {"testing: warning: no fuzz tests to fuzz\nPASS\nok  \tx\t0.01s\n", nil, result{}},
		"nothing was built":      {"x.go:1: no\nFAIL\tx [build failed]\n", failed, result{}},
		"nothing was tried":      {"fuzz: elapsed: 0s, gathering baseline coverage: 0/18 completed\nPASS\n", nil, result{}},
		"no time for inputs":     {"fuzz: elapsed: 0s, gathering baseline coverage: 0/18 completed\n--- FAIL: FuzzX (3.01s)\n    context deadline exceeded\nFAIL\n", failed, result{}},
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
