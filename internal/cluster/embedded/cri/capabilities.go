package cri

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// capabilities are the names that security contexts use, without CAP_.
var capabilities = map[string]int{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"FOWNER": unix.CAP_FOWNER, "FSETID": unix.CAP_FSETID, "KILL": unix.CAP_KILL, "SETGID": unix.CAP_SETGID,
	"SETUID": unix.CAP_SETUID, "SETPCAP": unix.CAP_SETPCAP, "LINUX_IMMUTABLE": unix.CAP_LINUX_IMMUTABLE,
	"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_BROADCAST": unix.CAP_NET_BROADCAST,
	"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW, "IPC_LOCK": unix.CAP_IPC_LOCK,
	"IPC_OWNER": unix.CAP_IPC_OWNER, "SYS_MODULE": unix.CAP_SYS_MODULE, "SYS_RAWIO": unix.CAP_SYS_RAWIO,
	"SYS_CHROOT": unix.CAP_SYS_CHROOT, "SYS_PTRACE": unix.CAP_SYS_PTRACE, "SYS_PACCT": unix.CAP_SYS_PACCT,
	"SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_BOOT": unix.CAP_SYS_BOOT, "SYS_NICE": unix.CAP_SYS_NICE,
	"SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "SYS_TIME": unix.CAP_SYS_TIME, "SYS_TTY_CONFIG": unix.CAP_SYS_TTY_CONFIG,
	"MKNOD": unix.CAP_MKNOD, "LEASE": unix.CAP_LEASE, "AUDIT_WRITE": unix.CAP_AUDIT_WRITE,
	"AUDIT_CONTROL": unix.CAP_AUDIT_CONTROL, "SETFCAP": unix.CAP_SETFCAP, "MAC_OVERRIDE": unix.CAP_MAC_OVERRIDE,
	"MAC_ADMIN": unix.CAP_MAC_ADMIN, "SYSLOG": unix.CAP_SYSLOG, "WAKE_ALARM": unix.CAP_WAKE_ALARM,
	"BLOCK_SUSPEND": unix.CAP_BLOCK_SUSPEND, "AUDIT_READ": unix.CAP_AUDIT_READ, "PERFMON": unix.CAP_PERFMON,
	"BPF": unix.CAP_BPF, "CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
}

// defaultCapabilities is what a container gets that asks for nothing: the
// customary set without NET_RAW and NET_BIND_SERVICE. A pod shares its network
// with the proxy that guards it, so nothing that touches the network is given
// unasked.
const defaultCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_SYS_CHROOT |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_AUDIT_WRITE | 1<<unix.CAP_SETFCAP

// allCapabilities is every capability that the server itself has; bits past
// the kernel's last one are not set.
func allCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read own capabilities: %w", err)
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted), nil
}

// capabilitySets computes the bounding and the ambient set of a container. As
// in other runtimes adding ALL is applied first, then dropping ALL, then single
// additions and single drops.
func capabilitySets(config *runtimeapi.LinuxContainerSecurityContext) (bounding, ambient uint64, err error) {
	all, err := allCapabilities()
	if err != nil {
		return 0, 0, err
	}
	if config.GetPrivileged() {
		return all, 0, nil
	}
	addAll, add, err := parseCapabilities(config.GetCapabilities().GetAddCapabilities())
	if err != nil {
		return 0, 0, err
	}
	dropAll, drop, err := parseCapabilities(config.GetCapabilities().GetDropCapabilities())
	if err != nil {
		return 0, 0, err
	}
	_, ambient, err = parseCapabilities(config.GetCapabilities().GetAddAmbientCapabilities())
	if err != nil {
		return 0, 0, err
	}
	bounding = defaultCapabilities
	if addAll {
		bounding = all
	}
	if dropAll {
		bounding = 0
	}
	bounding = (bounding | add | ambient) &^ drop & all
	return bounding, ambient & bounding, nil
}

func parseCapabilities(names []string) (all bool, set uint64, err error) {
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if short == "ALL" {
			all = true
			continue
		}
		bit, ok := capabilities[short]
		if !ok {
			return false, 0, fmt.Errorf("capability %q does not exist", name)
		}
		set |= 1 << bit
	}
	return all, set, nil
}
