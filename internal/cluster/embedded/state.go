package embedded

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

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

func readRecord(f state.Folder) (record, error) {
	var r record
	err := f.ReadRecord(&r)
	return r, err
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
