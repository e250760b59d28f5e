package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// rightFolder, below the folder of runs, has the programs of the right mesh while
// a run lasts. No defect is called so.
const rightFolder = ".right"

// freeze copies the tree and its programs as they are now, so that who edits and
// builds while a run goes on for minutes changes nothing in it: every defect is one
// of the same mesh, judged by the same suite. The sources go into a folder for
// passing files, since no tool that walks the tree is to find them twice; the
// programs are hard links below out. thaw removes both.
func (t tree) freeze(ctx context.Context, out string) (frozen tree, thaw func(), err error) {
	root, err := os.MkdirTemp("", "gauntlet-tree-")
	if err != nil {
		return tree{}, nil, fmt.Errorf("make a folder for a copy of the tree: %w", err)
	}
	frozen = tree{root, filepath.Join(out, rightFolder)}
	thaw = func() {
		os.RemoveAll(root)
		os.RemoveAll(filepath.Join(out, rightFolder))
	}
	if err := t.copyTo(ctx, frozen); err != nil {
		thaw()
		return tree{}, nil, err
	}
	return frozen, thaw, nil
}

func (t tree) copyTo(ctx context.Context, frozen tree) error {
	if err := os.RemoveAll(frozen.bin); err != nil { // of a run that was killed
		return fmt.Errorf("make room for the programs: %w", err)
	}
	if err := t.copyPrograms(frozen.bin); err != nil {
		return err
	}
	if err := t.copySources(frozen.root); err != nil {
		return fmt.Errorf("copy the tree: %w", err)
	}
	// A file that somebody was about to write would fail every defect in turn.
	if err := frozen.compile(ctx, filepath.Join(frozen.root, agent+".right")); err != nil {
		return fmt.Errorf("the tree does not build as it is: %w", err)
	}
	return nil
}

// copySources copies what the programs are built from.
func (t tree) copySources(to string) error {
	return filepath.WalkDir(t.root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an editor's own file
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.root, path)
		if err != nil {
			return err
		}
		switch {
		case rel == "bin", rel == "artifacts", rel != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
}
