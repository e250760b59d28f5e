package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

// devices are the only parts of the host's /dev that the cluster sees.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// makeRoot replaces everything this process can see by a file system in memory
// that holds the state folder, which is the working directory, and what the
// kernel provides. The host's files are out of reach afterwards, so nothing can
// be written outside the state folder whatever a component thinks of doing.
func makeRoot(programs map[string]string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return step("mount", fmt.Errorf("take mounts for ourselves: %w", err))
	}
	root := layout.Root // relative: the folder's parents may be closed to us
	if err := unix.Mount("meshproof", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return step("mount", fmt.Errorf("mount a root: %w", err))
	}
	for _, dir := range []string{"proc", "sys", "dev", "dev/shm", "dev/pts", layout.State, "tmp", "run", "etc", "bin", "var/lib", "var/log", "var/run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("make folder in root: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return fmt.Errorf("open /tmp: %w", err)
	}
	type mount struct {
		step, source, target, kind string
		flags                      uintptr
		data                       string
	}
	mounts := []mount{
		{"mount", ".", layout.State, "", unix.MS_BIND, ""},
		// Before the host's /proc goes out of sight: the kernel gives a new one
		// only to those who see a whole one.
		{"proc", "proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"mount", "/sys", "sys", "", unix.MS_BIND | unix.MS_REC, ""},
		{"mount", "shm", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mount", "devpts", "dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"},
	}
	for _, device := range devices {
		target := filepath.Join("dev", device)
		if err := os.WriteFile(filepath.Join(root, target), nil, 0o666); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		mounts = append(mounts, mount{"mount", "/" + target, target, "", unix.MS_BIND, ""})
	}
	for name, path := range programs {
		mounts = append(mounts, mount{"mount", path, filepath.Join(layout.State, layout.Bin, name), "", unix.MS_BIND, ""})
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, filepath.Join(root, m.target), m.kind, m.flags, m.data); err != nil {
			return step(m.step, fmt.Errorf("mount %s: %w", m.target, err))
		}
	}
	if err := os.Symlink("pts/ptmx", filepath.Join(root, "dev/ptmx")); err != nil {
		return fmt.Errorf("link ptmx: %w", err)
	}
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n" + layout.NodeIP.String() + " " + layout.NodeName + "\n",
		"resolv.conf": "nameserver " + layout.DNS.String() + "\nsearch " + layout.ClusterDomain + "\n",
		"passwd":      "root:x:0:0:root:/:/bin/false\n",
		"group":       "root:x:0:\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write /etc/%s: %w", name, err)
		}
	}
	return enter(root)
}

// enter makes root the root and detaches everything else.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	// The old root ends up on top of the new one and is taken away from there.
	if err := unix.PivotRoot(".", "."); err != nil {
		return step("mount", fmt.Errorf("change root: %w", err))
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return step("mount", fmt.Errorf("let go of the host's files: %w", err))
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	// /sys cannot be written by this user anyway; say so to everybody.
	err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		return step("mount", fmt.Errorf("make /sys read-only: %w", err))
	}
	return nil
}
