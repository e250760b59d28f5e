package containerinit

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotFound is the cause when a command does not exist in the container.
var ErrNotFound = errors.New("no such executable in the container")

// Enter changes into the working directory and finds the command. The calling
// thread is in the container's mount namespace.
func (p Process) Enter() (path string, err error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return "", errors.New("neither the pod nor the image names a command")
	}
	if err := unix.Chdir(p.Dir); errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(p.Dir, 0o755); err != nil {
			return "", fmt.Errorf("make working directory: %w", err)
		}
		if err := unix.Chdir(p.Dir); err != nil {
			return "", fmt.Errorf("enter working directory %q: %w", p.Dir, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("enter working directory %q: %w", p.Dir, err)
	}
	return lookUp(p.Args[0], p.Env)
}

// lookUp resolves a command as a shell would, in the root and directory that
// the calling thread has.
func lookUp(command string, env []string) (string, error) {
	if strings.Contains(command, "/") {
		if err := executable(command); err != nil {
			return "", fmt.Errorf("exec %q: %w", command, err)
		}
		return command, nil
	}
	list := ""
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			list = value
		}
	}
	for directory := range strings.SplitSeq(list, ":") {
		if directory == "" {
			directory = "."
		}
		if path := directory + "/" + command; executable(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("exec %q: %w (PATH is %q)", command, ErrNotFound, list)
}

func executable(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return ErrNotFound
	} else if err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Mode&0o111 == 0 {
		return unix.EACCES
	}
	return nil
}
