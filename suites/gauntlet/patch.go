package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// apply returns the changed sources by their paths in the tree at root. A change
// holds wherever the lines around it are found, but only if they are found at the
// line that it names or at exactly one other: a defect never lands somewhere else
// because the sources have moved on.
func (d *defect) apply(root string) (map[string][]byte, error) {
	sources := map[string][]byte{}
	for _, file := range d.files {
		path := changed(file)
		before, err := os.ReadFile(filepath.Join(root, path))
		switch {
		case file.IsNew && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("defect %s does not apply: %w", d.Name, err)
		case file.IsNew:
			return nil, fmt.Errorf("defect %s does not apply: %s is there already", d.Name, path)
		}
		after, err := change(before, file.TextFragments)
		if err != nil {
			return nil, fmt.Errorf("defect %s does not apply: %s: %w", d.Name, path, err)
		}
		sources[path] = after
	}
	return sources, nil
}

// change applies fragments to a file.
func change(before []byte, fragments []*gitdiff.TextFragment) ([]byte, error) {
	lines := bytes.SplitAfter(before, []byte("\n"))
	var moved []*gitdiff.TextFragment
	for _, one := range fragments {
		fragment := *one
		if fragment.OldPosition > 0 {
			at, err := locate(lines, &fragment)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", fragment.Header(), err)
			}
			fragment.OldPosition = at
		}
		moved = append(moved, &fragment)
	}
	var after bytes.Buffer
	if err := gitdiff.Apply(&after, bytes.NewReader(before), &gitdiff.File{TextFragments: moved}); err != nil {
		return nil, err
	}
	return after.Bytes(), nil
}

// locate is the line, counted from 1, from which on the fragment's old lines stand.
func locate(lines [][]byte, fragment *gitdiff.TextFragment) (int64, error) {
	var old [][]byte
	for _, line := range fragment.Lines {
		if line.Old() {
			old = append(old, []byte(line.Line))
		}
	}
	var found []int64
	for at := 0; at+len(old) <= len(lines); at++ {
		fits := true
		for i := range old {
			if fits = bytes.Equal(lines[at+i], old[i]); !fits {
				break
			}
		}
		if fits && int64(at+1) == fragment.OldPosition {
			return fragment.OldPosition, nil
		}
		if fits {
			found = append(found, int64(at+1))
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, errors.New("its lines are not there")
	}
	return 0, fmt.Errorf("its lines are at %v, and none of these is where they were", found)
}
