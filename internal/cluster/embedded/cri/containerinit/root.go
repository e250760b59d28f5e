package containerinit

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// devices are the nodes every container has. A user namespace cannot make
// device nodes, so that they are borrowed.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// links are the customary names of a process's own descriptors.
var links = [][2]string{
	{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
}

// tree is a cloned mount that is not yet anywhere.
type tree struct {
	fd        int
	directory bool
	target    string
}

// enterRoot makes the root of spec and leaves the calling process in it, with
// nothing of the old root reachable. Sources are opened before the change of
// root and targets after it, so that no symbolic link inside a volume can lead
// either of them out of the container.
func enterRoot(spec *Spec) error {
	// Receive, but never send: what is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mount namespace: %w", err)
	}
	if err := unix.Mount("root", spec.Staging, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount the container's root at %q: %w", spec.Staging, err)
	}
	trees, err := openTrees(spec)
	if err != nil {
		return err
	}
	if err := unix.Chdir(spec.Staging); err != nil {
		return fmt.Errorf("enter %q: %w", spec.Staging, err)
	}
	for _, directory := range []string{"proc", "dev", "dev/pts", "dev/shm", "etc", "tmp", "run", "var"} {
		if err := unix.Mkdir(directory, 0o755); err != nil {
			return fmt.Errorf("make /%s: %w", directory, err)
		}
	}
	if err := unix.Chmod("tmp", 0o1777); err != nil {
		return fmt.Errorf("open /tmp to all: %w", err)
	}
	// The kernel lets a user namespace mount proc only while it can see a
	// proc that hides nothing: the old root's.
	if err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc (is part of the host's /proc hidden?): %w", err)
	}
	if err := unix.Mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	// With both names the same, the old root ends up on top of the new one,
	// and one umount uncovers it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root to %q: %w", spec.Staging, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return furnish(spec, trees)
}

func openTrees(spec *Spec) ([]tree, error) {
	trees := make([]tree, 0, len(devices)+len(spec.Mounts))
	for _, name := range devices {
		device := Mount{Source: "/dev/" + name, Target: "/dev/" + name, Device: true}
		opened, err := openTree(device)
		if err != nil {
			return nil, err
		}
		trees = append(trees, opened)
	}
	for _, mount := range spec.Mounts {
		opened, err := openTree(mount)
		if err != nil {
			return nil, err
		}
		trees = append(trees, opened)
	}
	return trees, nil
}

func openTree(mount Mount) (tree, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, mount.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return tree{}, fmt.Errorf("mount %q at %q: open: %w%s", mount.Source, mount.Target, err, oldKernel(err))
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return tree{}, fmt.Errorf("mount %q at %q: inspect: %w", mount.Source, mount.Target, err)
	}
	all := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if mount.Receive {
		all.Propagation = unix.MS_SLAVE
	}
	if !mount.Device {
		all.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if mount.ReadOnly && mount.Recursive {
		all.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &all); err != nil {
		return tree{}, fmt.Errorf("mount %q at %q: set attributes: %w%s", mount.Source, mount.Target, err, oldKernel(err))
	}
	if mount.ReadOnly && !mount.Recursive {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return tree{}, fmt.Errorf("mount %q at %q: make read-only: %w", mount.Source, mount.Target, err)
		}
	}
	return tree{fd: fd, directory: stat.Mode&unix.S_IFMT == unix.S_IFDIR, target: mount.Target}, nil
}

func oldKernel(err error) string {
	if errors.Is(err, unix.ENOSYS) {
		return " (Linux 5.12 or newer is needed)"
	}
	return ""
}

// furnish fills the new root, which the process is in already.
func furnish(spec *Spec, trees []tree) error {
	for _, text := range spec.Texts {
		if err := os.MkdirAll(path.Dir(text.Path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(text.Path, []byte(text.Content), 0o644); err != nil {
			return err
		}
	}
	for _, link := range links {
		if err := unix.Symlink(link[0], link[1]); err != nil {
			return fmt.Errorf("link %s: %w", link[1], err)
		}
	}
	for _, mount := range trees {
		if err := mount.attach(); err != nil {
			return err
		}
	}
	for _, hidden := range spec.Masked {
		if err := mask(hidden); err != nil {
			return err
		}
	}
	for _, protected := range spec.ReadOnlyPaths {
		if err := protect(protected); err != nil {
			return err
		}
	}
	if spec.ReadOnlyRoot {
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

func (t tree) attach() error {
	defer unix.Close(t.fd)
	if t.directory {
		if err := os.MkdirAll(t.target, 0o755); err != nil {
			return fmt.Errorf("mount at %q: %w", t.target, err)
		}
	} else {
		if err := os.MkdirAll(path.Dir(t.target), 0o755); err != nil {
			return fmt.Errorf("mount at %q: %w", t.target, err)
		}
		fd, err := unix.Open(t.target, unix.O_CREAT|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
		switch {
		case err == nil:
			unix.Close(fd)
		case !exists(t.target):
			return fmt.Errorf("mount at %q: make mount point: %w", t.target, err)
		}
	}
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return fmt.Errorf("mount at %q: %w", t.target, err)
	}
	return nil
}

func exists(name string) bool {
	var stat unix.Stat_t
	return unix.Stat(name, &stat) == nil
}

// mask hides a file behind /dev/null and a directory behind an empty one.
func mask(name string) error {
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil {
		return nil // nothing to hide in this kernel
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Mount("mask", name, "tmpfs", unix.MS_RDONLY, "size=0k"); err != nil {
			return fmt.Errorf("hide %q: %w", name, err)
		}
		return nil
	}
	if err := unix.Mount("/dev/null", name, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hide %q: %w", name, err)
	}
	return nil
}

func protect(name string) error {
	cloned, err := openTree(Mount{Source: name, Target: name, ReadOnly: true, Recursive: true})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(cloned.fd)
	if err := unix.MoveMount(cloned.fd, "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("protect %q: %w", name, err)
	}
	return nil
}

// setOOMScore is best effort: lowering it needs a privilege over the host.
func setOOMScore(score int) {
	if score != 0 {
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
	}
}
