// Package mounts is a mounter for the kubelet that runs no program.
//
// Requests of volume plugins flow in, system calls flow out. It knows tmpfs and
// bind mounts, which is what volumes of pods here consist of, and passes on the
// kernel's refusal of everything else.
package mounts

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// mounter mounts by system call what the stock mounter mounts by running
// programs. It does what volumes of pods need: tmpfs and bind mounts.
type mounter struct {
	mount.Interface
}

// New returns the mounter.
func New() mount.Interface {
	// Only the reading half of the stock mounter is used.
	return mounter{Interface: mount.New("")}
}

// mountFlags are the textual options that are flags of the system call; what
// is not listed is data for the file system.
var mountFlags = map[string]uintptr{
	"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "remount": unix.MS_REMOUNT,
	"ro": unix.MS_RDONLY, "rw": 0, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC, "defaults": 0,
}

func (m mounter) Mount(source, target, fstype string, options []string) error {
	var flags uintptr
	var data []string
	for _, option := range options {
		if flag, ok := mountFlags[option]; ok {
			flags |= flag
		} else {
			data = append(data, option)
		}
	}
	if err := unix.Mount(source, target, fstype, flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mount %s of type %q with %v on %s: %w", source, fstype, options, target, err)
	}
	// The kernel ignores "read only" when a bind mount is made.
	if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 && flags&unix.MS_REMOUNT == 0 {
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags&(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), ""); err != nil {
			return fmt.Errorf("make mount %s read-only: %w", target, err)
		}
	}
	return nil
}

func (m mounter) MountSensitive(source, target, fstype string, options, sensitive []string) error {
	return m.Mount(source, target, fstype, append(append([]string(nil), options...), sensitive...))
}

func (m mounter) MountSensitiveWithoutSystemd(source, target, fstype string, options, sensitive []string) error {
	return m.MountSensitive(source, target, fstype, options, sensitive)
}

func (m mounter) MountSensitiveWithoutSystemdWithMountFlags(source, target, fstype string, options, sensitive, _ []string) error {
	return m.MountSensitive(source, target, fstype, options, sensitive)
}

func (m mounter) Unmount(target string) error {
	err := unix.Unmount(target, 0)
	if err == nil || err == unix.EINVAL || os.IsNotExist(err) { // not a mount point: done
		return nil
	}
	return fmt.Errorf("unmount %s: %w", target, err)
}
