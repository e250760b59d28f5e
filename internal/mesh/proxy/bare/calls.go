package bare

import (
	"syscall"
	"unsafe"
)

// usual is which call is made in the usual way. So many others, of 64 KiB at most in the
// relays, take some milliseconds: as long as the monitor lets a goroutine go on anyway.
const usual = 256

// Calls are the system calls of one direction of a connection, by one goroutine at a
// time. Its zero value is ready.
type Calls struct{ made uint16 }

// Read reads once from a descriptor that does not block. EINTR is not seen; 0 without
// an error is the end, or an empty p.
func (c *Calls) Read(fd uintptr, p []byte) (int, error) {
	return c.call(syscall.SYS_READ, syscall.Read, fd, p)
}

// Write writes once, perhaps a part only. EINTR is not seen.
func (c *Calls) Write(fd uintptr, p []byte) (int, error) {
	return c.call(syscall.SYS_WRITE, syscall.Write, fd, p)
}

func (c *Calls) call(trap uintptr, ordinary func(int, []byte) (int, error), fd uintptr, p []byte) (n int, err error) {
	for {
		if c.made = (c.made + 1) % usual; c.made == 0 || len(p) == 0 {
			n, err = ordinary(int(fd), p)
		} else if done, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))); errno != 0 {
			n, err = 0, errno
		} else {
			n, err = int(done), nil
		}
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
