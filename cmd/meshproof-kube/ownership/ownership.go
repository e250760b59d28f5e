// Package ownership lets the kubelet believe that it can give files away where
// there is nobody to give them to.
//
// Nothing flows through: it changes what the kernel answers to this process. It
// refuses nothing, and is not to be used where there is more than one user.
package ownership

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SingleUID reports whether this process's user namespace knows one user only,
// as that of an ordinary user without setuid helpers does.
func SingleUID() (bool, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false, fmt.Errorf("read the map of user ids: %w", err)
	}
	fields := strings.Fields(string(text))
	return len(fields) == 3 && fields[2] == "1", nil
}

// Pretend lets every change of a file's owner in this process succeed
// without effect. The kubelet gives projected tokens to the user that a pod
// runs as; where there is one user only, that user has them already, but the
// call fails and no pod with a token and a user of its own would ever start.
func Pretend() error {
	filter := []unix.SockFilter{
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArch),
		jump(auditArch, 1, 0),
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNumber),
	}
	for i, number := range ownershipCalls {
		// On a match skip the remaining comparisons and the allowance.
		filter = append(filter, jump(number, uint8(len(ownershipCalls)-i), 0))
	}
	filter = append(filter,
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO)) // errno 0 is success
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	// TSYNC: the runtime has threads already, and all of them must obey.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("filter changes of ownership: %w", errno)
	}
	return nil
}

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
)

func statement(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jump(equals uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: equals}
}
