package containerinit

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Apply makes the calling OS thread what c says, and this thread only: the
// caller has locked it and never gives it back. Capabilities go first where
// the change of uid would take the right to drop them.
func (c Credentials) Apply() error {
	for capability := range 64 {
		if c.Bounding&(1<<capability) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the last capability of this kernel
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", capability, err)
		}
	}
	// Only raw calls: the ones of package syscall change every thread.
	if !c.KeepGroups {
		var list unsafe.Pointer
		if len(c.Groups) > 0 {
			list = unsafe.Pointer(&c.Groups[0])
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.Groups)), uintptr(list), 0); errno != 0 {
			return fmt.Errorf("set supplementary groups %v: %w", c.Groups, errno)
		}
	}
	gid, uid := uintptr(c.GID), uintptr(c.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set gid %d: %w", c.GID, errno)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities across the change of uid: %w", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set uid %d: %w", c.UID, errno)
	}
	if err := c.capset(); err != nil {
		return err
	}
	if c.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

func (c Credentials) capset() error {
	half := func(set uint64, i int) uint32 { return uint32(set >> (32 * i)) }
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{Effective: half(c.Bounding, i), Permitted: half(c.Bounding, i), Inheritable: half(c.Ambient, i)}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities to %#x: %w", c.Bounding, err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for capability := range 64 {
		if c.Ambient&(1<<capability) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(capability), 0, 0); err != nil {
			return fmt.Errorf("make capability %d ambient: %w", capability, err)
		}
	}
	return nil
}
