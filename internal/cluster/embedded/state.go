package embedded

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// StateDirVariable overrides where clusters are kept.
const StateDirVariable = "MESHPROOF_STATE_DIR"

// namePattern is what a cluster may be called: a DNS label, because it becomes
// part of names.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$`)

// StateDir is the folder that this user's clusters are kept in.
func StateDir() (string, error) {
	if dir := os.Getenv(StateDirVariable); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "meshproof"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &cluster.SetupError{Cause: "find a folder for clusters", Remedy: "set HOME or " + StateDirVariable, Err: err}
	}
	return filepath.Join(home, ".local", "state", "meshproof"), nil
}

// record is what is kept about a cluster in its folder.
type record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Server  string    `json:"server"`
	// Standing is true when no process owns the cluster.
	Standing  bool `json:"standing"`
	SingleUID bool `json:"singleUID"`
	// PID of the first process as the host sees it, and when it started in
	// clock ticks after the machine did: together they name one process.
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`
}

// folder is one cluster's state folder.
type folder string

func (f folder) path(elements ...string) string {
	return filepath.Join(append([]string{string(f)}, elements...)...)
}

func (f folder) writeRecord(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record of cluster %s: %w", r.Name, err)
	}
	temporary := f.path(layout.Record + ".new")
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write record of cluster %s: %w", r.Name, err)
	}
	if err := os.Rename(temporary, f.path(layout.Record)); err != nil {
		return fmt.Errorf("write record of cluster %s: %w", r.Name, err)
	}
	return nil
}

func (f folder) readRecord() (record, error) {
	var r record
	data, err := os.ReadFile(f.path(layout.Record))
	if err != nil {
		return r, fmt.Errorf("read record of cluster %s: %w", filepath.Base(string(f)), err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read record of cluster %s: %w", filepath.Base(string(f)), err)
	}
	return r, nil
}

// lock takes the lock that a cluster's processes hold while they live; it
// reports false when somebody else holds it. The lock belongs to the returned
// file, and to whoever inherits its descriptor.
func (f folder) lock() (*os.File, bool, error) {
	return flock(f.path(layout.Lock), unix.LOCK_NB)
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

// remove deletes the folder. Pods may have left folders that their owner, who
// is this user, has no write permission for.
func (f folder) remove() error {
	if err := os.RemoveAll(string(f)); err == nil {
		return nil
	}
	_ = filepath.WalkDir(string(f), func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
			if err != nil { // it could not be read before
				entries, _ := os.ReadDir(path)
				for _, e := range entries {
					_ = folder(filepath.Join(path, e.Name())).remove()
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

// registry is the folder of all clusters.
type registry string

func (r registry) folder(name string) folder { return folder(filepath.Join(string(r), name)) }

// guard keeps two processes from making or removing clusters' folders at the
// same time. The returned function lets go.
func (r registry) guard() (func(), error) {
	remedy := "set " + StateDirVariable + " to a folder you can write to"
	if err := os.MkdirAll(string(r), 0o700); err != nil {
		return nil, &cluster.SetupError{Cause: "make a folder for clusters", Remedy: remedy, Err: err}
	}
	file, _, err := flock(filepath.Join(string(r), ".lock"), 0)
	if err != nil {
		return nil, &cluster.SetupError{Cause: "use the folder of clusters", Remedy: remedy, Err: err}
	}
	return func() { file.Close() }, nil
}

// reserve makes the folder of a new cluster and takes its lock. A folder whose
// cluster is gone is replaced.
func (r registry) reserve(name string) (folder, *os.File, error) {
	release, err := r.guard()
	if err != nil {
		return "", nil, err
	}
	defer release()
	f := r.folder(name)
	err = os.Mkdir(string(f), 0o700)
	if errors.Is(err, fs.ErrExist) {
		lock, free, lockErr := f.lock()
		if lockErr != nil {
			return "", nil, lockErr
		}
		if !free {
			return "", nil, fmt.Errorf("create cluster %s: %w", name, cluster.ErrExists)
		}
		removeErr := f.remove()
		lock.Close()
		if removeErr != nil {
			return "", nil, removeErr
		}
		err = os.Mkdir(string(f), 0o700)
	}
	if err != nil {
		return "", nil, fmt.Errorf("make folder of cluster %s: %w", name, err)
	}
	lock, free, err := f.lock()
	if err == nil && !free {
		err = fmt.Errorf("lock new folder %s: %w", f, cluster.ErrExists)
	}
	if err != nil {
		return "", nil, errors.Join(err, f.remove())
	}
	return f, lock, nil
}

// names lists the clusters that have a folder, sorted.
func (r registry) names() ([]string, error) {
	entries, err := os.ReadDir(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && namePattern.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// startTime reads when a process started; zero when there is none.
func startTime(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command name may hold anything, but its closing bracket is the last.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const startField = 19 // the 22nd field, counted after the name
	if len(fields) <= startField {
		return 0
	}
	value, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	if err != nil {
		return 0
	}
	return value
}

// link makes source available as target without copying it, and reports false
// when that cannot be, or when others could not execute it.
func link(source, target string) bool {
	if os.Link(source, target) != nil {
		return false
	}
	if info, err := os.Stat(target); err == nil && info.Mode().Perm()&0o005 == 0o005 {
		return true
	}
	_ = os.Remove(target) // or whoever makes it next says so
	return false
}

// copyProgram copies source to target.
func copyProgram(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("copy program %s: %w", source, err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy program %s: %w", source, err)
	}
	return nil
}

// checkStatic reports whether a program runs where there is nothing but it.
func checkStatic(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read program %s: %w", path, err)
	}
	defer file.Close()
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP {
			return &cluster.SetupError{Cause: "the program " + path + " needs shared libraries", Remedy: "run make build, or build it with CGO_ENABLED=0"}
		}
	}
	return nil
}

// give hands a tree to the user that the cluster's processes run as.
func give(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("hand %s to the cluster's user: %w", path, err)
		}
		if err := os.Lchown(path, uid, uid); err != nil {
			return fmt.Errorf("hand over to the cluster's user: %w", err)
		}
		return nil
	})
}
