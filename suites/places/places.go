// Package places says where a suite finds what it needs: the source tree that it
// stands in, the programs that it runs, and the folder in which runs have theirs.
//
// Flags and environment flow in, absolute paths flow out. A folder of programs in
// which one that is needed is missing is refused, with what makes it.
package places

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// Flags are what the user may say about places.
type Flags struct{ runs, programs string }

// AddFlags adds -artifacts, for suites that make runs, and -bin to a set.
func AddFlags(set *flag.FlagSet) *Flags {
	f := &Flags{}
	set.StringVar(&f.runs, "artifacts", "", "folder of the runs' folders (default $ARTIFACTS, or artifacts/ of the source tree)")
	set.StringVar(&f.programs, "bin", "", "folder of the programs (default $MESHPROOF_BIN, or bin/ of the source tree)")
	return f
}

// SourceTree finds the folder with go.mod above the one in which go test runs the
// suite.
func SourceTree() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", errors.New("find the source tree: run a suite from its folder in suites/")
		}
		folder = parent
	}
}

// Programs is the folder of the programs, of which these are needed. Without them
// nothing can run, and one line says so.
func (f *Flags) Programs(root string, needed ...string) (string, error) {
	bin, err := filepath.Abs(cmp.Or(f.programs, os.Getenv("MESHPROOF_BIN"), filepath.Join(root, "bin")))
	if err != nil {
		return "", fmt.Errorf("find the programs: %w", err)
	}
	for _, name := range needed {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("%s is not there: run `make build` first", filepath.Join(bin, name))
		}
	}
	return bin, nil
}

// Runs is the folder of the runs' folders.
func (f *Flags) Runs(root string) (string, error) {
	folder, err := filepath.Abs(cmp.Or(f.runs, os.Getenv("ARTIFACTS"), filepath.Join(root, "artifacts")))
	if err != nil {
		return "", fmt.Errorf("find the folder of runs: %w", err)
	}
	return folder, nil
}
