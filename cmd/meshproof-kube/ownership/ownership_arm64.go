package ownership

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

var ownershipCalls = []uint32{unix.SYS_FCHOWN, unix.SYS_FCHOWNAT}
