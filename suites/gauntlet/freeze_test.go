package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// upset breaks the tree and its programs at the first word of a run.
type upset struct {
	strings.Builder
	do func()
}

func (u *upset) Write(text []byte) (int, error) {
	if u.Len() == 0 {
		u.do()
	}
	return u.Builder.Write(text)
}

func TestWhoEditsAndBuildsWhileItRunsChangesNothing(t *testing.T) {
	defects := map[string]string{}
	for i := range 5 { // more than run side by side, or are built meanwhile
		defects[fmt.Sprintf("bad%d", i)] = behaves("wrong")
	}
	where := newTree(t, defects)
	out := &upset{do: func() {
		for path, text := range map[string]string{meshFile: "package broken", "bin/meshproof": "#!/bin/sh\nexit 99\n"} {
			if err := os.Remove(filepath.Join(where.root, path)); err != nil { // as go build does
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(where.root, path), []byte(text), 0o755); err != nil {
				t.Error(err)
			}
		}
	}}
	code, err := where.do(t.Context(), []string{"run", "-jobs", "1"}, out)
	if code != exitOK || err != nil || lastLine(out.String()) != "caught 5 of 5" {
		t.Errorf("exit code %d, %v:\n%s", code, err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(where.root, "artifacts/gauntlet", rightFolder)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestATreeThatDoesNotBuildFailsBeforeAnythingRuns(t *testing.T) {
	where := newTree(t, map[string]string{"bad": behaves("wrong")})
	if err := os.WriteFile(filepath.Join(where.root, "internal/mesh/half.go"), []byte("package mesh\n\nfunc half("), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := do(t, where, "run"); code != exitSetup || !strings.Contains(out, "the tree does not build as it is") || strings.Contains(out, "caught") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
