// Package state is where this user's clusters are remembered between processes:
// one folder for each cluster, with a lock that whoever owns the cluster holds.
//
// Providers make, find and remove folders through it, and keep processes from
// using one cluster at the same time. What is in a folder is the provider's. The
// kernel releases a lock when its holder ends, however that happens: a folder
// whose lock is free has lost its owner.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

// DirVariable overrides where clusters are kept.
const DirVariable = "MESHPROOF_STATE_DIR"

// Names in a cluster's folder.
const (
	record = "cluster.json"
	lock   = "alive.lock"
)

// namePattern is what a cluster may be called: a DNS label, because it becomes
// part of names.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$`)

// ValidName reports whether a cluster may be called that.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// CheckName is nil when a cluster may be called that. Error: cluster.ErrName.
func CheckName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("create cluster %q: %w: it has up to 50 lower-case letters, digits and dashes", name, cluster.ErrName)
	}
	return nil
}

// Dir is the folder that this user's clusters are kept in.
func Dir() (string, error) {
	if dir := os.Getenv(DirVariable); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "meshproof"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &cluster.SetupError{Cause: "find a folder for clusters", Remedy: "set HOME or " + DirVariable, Err: err}
	}
	return filepath.Join(home, ".local", "state", "meshproof"), nil
}

// Folder is one cluster's folder.
type Folder string

// Path is that of something in the folder.
func (f Folder) Path(elements ...string) string {
	return filepath.Join(append([]string{string(f)}, elements...)...)
}

// Name is that of the cluster.
func (f Folder) Name() string { return filepath.Base(string(f)) }

// WriteRecord keeps what a provider knows about the cluster, as JSON. A reader
// sees the record before or this one, never half of it.
func (f Folder) WriteRecord(value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record of cluster %s: %w", f.Name(), err)
	}
	temporary := f.Path(record + ".new")
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write record of cluster %s: %w", f.Name(), err)
	}
	if err := os.Rename(temporary, f.Path(record)); err != nil {
		return fmt.Errorf("write record of cluster %s: %w", f.Name(), err)
	}
	return nil
}

// ReadRecord reads what WriteRecord kept.
func (f Folder) ReadRecord(value any) error {
	data, err := os.ReadFile(f.Path(record))
	if err != nil {
		return fmt.Errorf("read record of cluster %s: %w", f.Name(), err)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("read record of cluster %s: %w", f.Name(), err)
	}
	return nil
}

// Lock takes the lock that a cluster's owner holds while it lives; it reports
// false when somebody else holds it. The lock belongs to the returned file, and
// to whoever inherits its descriptor.
func (f Folder) Lock() (*os.File, bool, error) {
	return flock(f.Path(lock), unix.LOCK_NB)
}

// RemoveOwn deletes the folder if it is still the one whose lock the caller
// holds: somebody may have deleted the cluster, and made another of its name.
func (f Folder) RemoveOwn(held *os.File) error {
	if !is(held, f.Path(lock)) {
		return nil
	}
	return f.Remove()
}

// Owned reports whether somebody holds the folder's lock.
func (f Folder) Owned() bool {
	if _, err := os.Stat(f.Path(lock)); err != nil {
		return false
	}
	file, free, err := f.Lock()
	if err == nil && free {
		file.Close()
	}
	return err == nil && !free
}

func flock(path string, how int) (*os.File, bool, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, true, nil
}

// Remove deletes the folder. Pods may have left folders that their owner, who
// is this user, has no write permission for.
func (f Folder) Remove() error {
	if err := os.RemoveAll(string(f)); err == nil {
		return nil
	}
	_ = filepath.WalkDir(string(f), func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
			if err != nil { // it could not be read before
				entries, _ := os.ReadDir(path)
				for _, e := range entries {
					_ = Folder(filepath.Join(path, e.Name())).Remove()
				}
			}
		}
		return nil
	})
	if err := os.RemoveAll(string(f)); err != nil {
		return fmt.Errorf("remove cluster's folder: %w", err)
	}
	return nil
}

// Registry is the folder of all clusters of one kind.
type Registry string

// Folder is that of a cluster, which need not exist.
func (r Registry) Folder(name string) Folder { return Folder(filepath.Join(string(r), name)) }

// Guard keeps two processes from making or removing clusters' folders at the
// same time, and makes the registry when it is missing. The returned function
// lets go.
func (r Registry) Guard() (func(), error) {
	remedy := "set " + DirVariable + " to a folder you can write to"
	if err := os.MkdirAll(string(r), 0o700); err != nil {
		return nil, &cluster.SetupError{Cause: "make a folder for clusters", Remedy: remedy, Err: err}
	}
	file, _, err := flock(filepath.Join(string(r), ".lock"), 0)
	if err != nil {
		return nil, &cluster.SetupError{Cause: "use the folder of clusters", Remedy: remedy, Err: err}
	}
	return func() { file.Close() }, nil
}

// Reserve makes the folder of a new cluster and takes its lock. A folder whose
// lock is free is replaced when gone allows it; nil allows always. Error:
// cluster.ErrExists.
func (r Registry) Reserve(name string, gone func(Folder) error) (Folder, *os.File, error) {
	release, err := r.Guard()
	if err != nil {
		return "", nil, err
	}
	defer release()
	f := r.Folder(name)
	err = os.Mkdir(string(f), 0o700)
	if errors.Is(err, fs.ErrExist) {
		lock, free, lockErr := f.Lock()
		if lockErr != nil {
			return "", nil, lockErr
		}
		if !free {
			return "", nil, fmt.Errorf("create cluster %s: %w", name, cluster.ErrExists)
		}
		var removeErr error
		if gone != nil {
			removeErr = gone(f)
		}
		if removeErr == nil {
			removeErr = f.Remove()
		}
		lock.Close()
		if removeErr != nil {
			return "", nil, removeErr
		}
		err = os.Mkdir(string(f), 0o700)
	}
	if err != nil {
		return "", nil, fmt.Errorf("make folder of cluster %s: %w", name, err)
	}
	lock, free, err := f.Lock()
	if err == nil && !free {
		err = fmt.Errorf("lock new folder %s: %w", f, cluster.ErrExists)
	}
	if err != nil {
		return "", nil, errors.Join(err, f.Remove())
	}
	return f, lock, nil
}

// Names lists the clusters that have a folder, sorted.
func (r Registry) Names() ([]string, error) {
	entries, err := os.ReadDir(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && ValidName(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
