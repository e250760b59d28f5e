// Package sockopt holds the two socket options on which interception rests:
// the mark by which the rules know the proxy's own traffic, and the address a
// redirected connection was meant for.
//
// It opens nothing by itself and knows no rules; those are built in the parent
// package.
package sockopt

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepAlive finds a peer that vanished; far below the kernel's two hours.
const keepAlive = 30 * time.Second

// Dialer returns a dialer whose sockets carry mark, name look-ups over TCP
// included. Mark 0 sets none: the traffic is then exempt by its user id.
// Without NET_RAW or NET_ADMIN every dial with a mark fails with EPERM.
func Dialer(mark int) *net.Dialer {
	d := &net.Dialer{KeepAlive: keepAlive}
	if mark == 0 {
		return d
	}
	d.Control = control(mark)
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{Control: control(mark)}).DialContext(ctx, network, address)
	}}
	return d
}

func control(mark int) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return fmt.Errorf("mark the socket to %s with %#x: %w", address, mark, err)
		}
		return nil
	}
}

// originalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which share a number.
const originalDst = 80

// OriginalDst tells where the peer of a redirected connection meant to go. For
// a connection that was not redirected the kernel knows no translation and the
// local address is returned, as it is then the same thing.
func OriginalDst(conn *net.TCPConn) (netip.AddrPort, error) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: local address is a %T", conn.LocalAddr())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", err)
	}
	var dst netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		if local.AddrPort().Addr().Unmap().Is4() {
			dst, failed = originalDst4(fd)
		} else {
			dst, failed = originalDst6(fd)
		}
	})
	if err == nil {
		err = failed
	}
	if err == unix.ENOENT || err == unix.ENOPROTOOPT {
		own := local.AddrPort()
		return netip.AddrPortFrom(own.Addr().Unmap(), own.Port()), nil
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", err)
	}
	return dst, nil
}

func originalDst4(fd uintptr) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, originalDst,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), networkOrder(&sa.Port)), nil
}

func originalDst6(fd uintptr) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IPV6, originalDst,
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), networkOrder(&sa.Port)), nil
}

// networkOrder reads a port that the kernel wrote big-endian into a uint16.
func networkOrder(port *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(port))
	return uint16(b[0])<<8 | uint16(b[1])
}
