// Package bare reads and writes TCP connections without telling Go's scheduler of
// each system call.
//
// The scheduler wants to know of a system call because one may last, and then the
// processor is somebody else's. It pays for that most where there is least to do: in a
// process that has been asleep the first call after each wake-up also wakes the
// runtime's monitor, a thread that then looks every 20 µs whether the call still lasts.
// A sidecar that is asked 2,000 times a second would spend as much on its monitor as
// on its requests.
//
// A socket that does not block has no calls that last. What flows through are bytes as
// they are: Conn stands for a *net.TCPConn, and who waits in it waits in Go's poller
// with the same deadlines and the same errors. One call in so many is made in the usual
// way, so that the monitor is awake whenever somebody keeps a processor for long, which
// only the monitor can take away again.
//
// It refuses nothing, and it is not for bytes that the kernel can copy by itself:
// io.Copy between two *net.TCPConn does that, between two of these it does as well, but
// has nothing to gain.
package bare
