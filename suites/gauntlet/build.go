package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The programs of a mesh, and how the one that has the mesh in it is built: with
// the flags of the Makefile, or everything would be compiled once more.
const (
	agent    = "meshproof-agent"
	tool     = "meshproof"
	tags     = "grpcnotrace"
	ldflags  = "-s -w"
	goflags  = "-trimpath -buildvcs=false"
	agentPkg = "./cmd/" + agent
)

// tree is where the sources are, and where the programs of the right mesh.
type tree struct {
	root, bin string
}

// findTree finds the folder with go.mod at or above the working directory.
func findTree() (tree, error) {
	folder, err := os.Getwd()
	if err != nil {
		return tree{}, fmt.Errorf("find the source tree: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return tree{folder, filepath.Join(folder, "bin")}, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return tree{}, errors.New("find the source tree: no go.mod here or above")
		}
		folder = parent
	}
}

func (t tree) defects() string { return filepath.Join(t.root, "suites", "gauntlet", "defects") }

// copyPrograms hard-links the programs of the right mesh into dir, so that what
// is built meanwhile changes nothing; a run finds its programs beside its own.
func (t tree) copyPrograms(dir string) error {
	entries, err := os.ReadDir(t.bin)
	if err != nil {
		return fmt.Errorf("read the programs: %w: run `make build` first", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a folder of programs: %w", err)
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || strings.HasSuffix(entry.Name(), ".test") {
			continue
		}
		to := filepath.Join(dir, entry.Name())
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace a program: %w", err)
		}
		if err := link(filepath.Join(t.bin, entry.Name()), to); err != nil {
			return fmt.Errorf("copy the program %s: %w", entry.Name(), err)
		}
	}
	for _, name := range []string{agent, tool} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s is not there: run `make build` first", filepath.Join(t.bin, name))
		}
	}
	return nil
}

// link makes a hard link, or a copy where the file system has none.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// build leaves in dir the programs of a mesh with this defect.
func (t tree) build(ctx context.Context, d *defect, dir string) error {
	sources, err := d.apply(t.root)
	if err != nil {
		return err
	}
	if err := t.copyPrograms(dir); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "gauntlet-")
	if err != nil {
		return fmt.Errorf("make a folder for the sources of defect %s: %w", d.Name, err)
	}
	defer os.RemoveAll(work)
	overlay := filepath.Join(work, "overlay.json")
	if err := t.writeOverlay(sources, work, overlay); err != nil {
		return fmt.Errorf("write the sources of defect %s: %w", d.Name, err)
	}
	program := filepath.Join(dir, agent)
	if err := os.Remove(program); err != nil { // it is the right mesh's own file
		return fmt.Errorf("replace a program: %w", err)
	}
	if err := t.compile(ctx, program, "-overlay", overlay); err != nil {
		return fmt.Errorf("defect %s does not build: %w", d.Name, err)
	}
	return nil
}

// compile builds the program that has the mesh in it.
func (t tree) compile(ctx context.Context, program string, more ...string) error {
	args := slices.Concat([]string{"build", "-tags", tags, "-ldflags", ldflags, "-o", program}, more, []string{agentPkg})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = t.root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+goflags)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// writeOverlay writes the sources into work, and what go build -overlay reads.
func (t tree) writeOverlay(sources map[string][]byte, work, overlay string) error {
	replace := map[string]string{}
	for path, source := range sources {
		written := filepath.Join(work, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(written, source, 0o644); err != nil {
			return err
		}
		replace[filepath.Join(t.root, path)] = written
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(overlay, text, 0o644)
}
