package places

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFlagComesBeforeTheEnvironmentAndThatBeforeTheTree(t *testing.T) {
	root, said, env := t.TempDir(), t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name, env string
		args      []string
		want      string
	}{
		{"a flag", env, []string{"-artifacts", said, "-bin", said}, said},
		{"the environment", env, nil, env},
		{"neither", "", nil, ""},
	} {
		t.Setenv("ARTIFACTS", c.env)
		t.Setenv("MESHPROOF_BIN", c.env)
		set := flag.NewFlagSet("suite", flag.ContinueOnError)
		f := AddFlags(set)
		if err := set.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		wantRuns, wantBin := c.want, c.want
		if c.want == "" {
			wantRuns, wantBin = filepath.Join(root, "artifacts"), filepath.Join(root, "bin")
		}
		runs, err := f.Runs(root)
		if err != nil || runs != wantRuns {
			t.Errorf("%s: the runs are in %s (%v), want %s", c.name, runs, err, wantRuns)
		}
		bin, err := f.Programs(root)
		if err != nil || bin != wantBin {
			t.Errorf("%s: the programs are in %s (%v), want %s", c.name, bin, err, wantBin)
		}
	}
}

func TestAProgramThatIsMissingIsNamed(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "here"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	f := &Flags{programs: bin}
	if _, err := f.Programs("", "here"); err != nil {
		t.Error(err)
	}
	if _, err := f.Programs("", "here", "gone"); err == nil || !strings.Contains(err.Error(), filepath.Join(bin, "gone")) {
		t.Errorf("the error is %v, and should name the program", err)
	}
}

func TestTheSourceTreeIsFoundFromASuite(t *testing.T) {
	root, err := SourceTree()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "suites", "places", "places.go")); err != nil {
		t.Error(err)
	}
}
