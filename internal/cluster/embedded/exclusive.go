package embedded

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

var _ cluster.Exclusive = (*Provider)(nil)

const (
	// holdSuffix ends the names of the files whose lock a cluster's user holds.
	holdSuffix = ".hold"
	// holdPoll is how often a lock is tried for that another process holds.
	holdPoll = 200 * time.Millisecond
)

// Exclusive implements cluster.Exclusive by a file beside the cluster's folder.
// The kernel lets go of it when this process ends, however that happens.
func (p *Provider) Exclusive(ctx context.Context, name string, waiting func()) (release func(), err error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("use cluster %q: %w", name, cluster.ErrName)
	}
	unguard, err := p.clusters.guard() // makes the folder, too
	if err != nil {
		return nil, err
	}
	unguard()
	path := filepath.Join(string(p.clusters), name+holdSuffix)
	for told := false; ; {
		file, free, err := flock(path, unix.LOCK_NB)
		if err != nil {
			return nil, fmt.Errorf("use cluster %s: %w", name, err)
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
			return nil, fmt.Errorf("wait for cluster %s to be free: %w", name, context.Cause(ctx))
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

// removeHolds removes the files that killed holders have left.
func (r registry) removeHolds() error {
	entries, err := os.ReadDir(string(r))
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
