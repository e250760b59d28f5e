package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

const (
	// holdSuffix ends the names of the files whose lock a cluster's user holds.
	holdSuffix = ".hold"
	// holdPoll is how often a lock is tried for that another process holds.
	holdPoll = 200 * time.Millisecond
)

// Exclusive is cluster.Exclusive by a file beside the cluster's folder.
func (r Registry) Exclusive(ctx context.Context, name string, waiting func()) (release func(), err error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("use cluster %q: %w", name, cluster.ErrName)
	}
	unguard, err := r.Guard() // makes the registry, too
	if err != nil {
		return nil, err
	}
	unguard()
	release, err = hold(ctx, filepath.Join(string(r), name+holdSuffix), waiting)
	if err != nil {
		return nil, fmt.Errorf("use cluster %s: %w", name, err)
	}
	return release, nil
}

// Turn waits until no other process does the same thing with clusters of this
// kind, and holds the turn until release is called or this process ends.
func (r Registry) Turn(ctx context.Context, what string) (release func(), err error) {
	release, err = hold(ctx, filepath.Join(string(r), "."+what+holdSuffix), func() {})
	if err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	return release, nil
}

// hold takes the lock of a file that is there only while somebody holds it.
func hold(ctx context.Context, path string, waiting func()) (release func(), err error) {
	for told := false; ; {
		file, free, err := flock(path, unix.LOCK_NB)
		if err != nil {
			return nil, err
		}
		if free && is(file, path) {
			return func() { _ = os.Remove(path); file.Close() }, nil
		}
		if free { // its last holder has removed it meanwhile
			file.Close()
			continue
		}
		if !told {
			waiting()
			told = true
		}
		timer := time.NewTimer(holdPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for it to be free: %w", context.Cause(ctx))
		}
	}
}

// is reports whether a path still names the file.
func is(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// RemoveHolds removes the files that killed holders have left.
func (r Registry) RemoveHolds() error {
	entries, err := os.ReadDir(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list clusters: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), holdSuffix) || !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(string(r), entry.Name())
		file, free, err := flock(path, unix.LOCK_NB)
		if err != nil || !free {
			continue // somebody holds it
		}
		err = os.Remove(path)
		file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a killed run left: %w", err)
		}
	}
	return nil
}
