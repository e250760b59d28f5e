// Package tamper is an application that tries what must not be possible to it:
// to get its traffic around the proxy of its pod.
//
// One attempt comes in by name; "taken" with exit code 0 goes out when the
// kernel let it pass, "refused: " and the kernel's reason with 1 when it did
// not. What was taken is undone where that is possible. It is run inside a
// container, by the suite, and harms nothing outside it: no attempt touches
// anything but the network namespace it runs in.
package tamper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// interceptionTable is what the pod's redirection is called.
const interceptionTable = "linkerd"

// ErrRefused is returned when the kernel did not let an attempt pass.
var ErrRefused = errors.New("refused")

// attempts are what an application might try, by name.
var attempts = map[string]func() error{
	"mark":  markSocket,
	"flush": deleteTable,
	"rule":  addTable,
	"raw":   rawSocket,
}

// Main is the role tamper; its argument names the attempt.
func Main(_ context.Context, args []string) error {
	names := slices.Sorted(maps.Keys(attempts))
	if len(args) != 1 || attempts[args[0]] == nil {
		return fmt.Errorf("name one attempt of %s", strings.Join(names, ", "))
	}
	if err := attempts[args[0]](); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	fmt.Fprintln(os.Stdout, "taken")
	return nil
}

// markSocket sets a mark on a socket, by which the proxy's own traffic may be
// exempt from redirection. Any value takes the same right.
func markSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1)
}

// deleteTable removes the redirection.
func deleteTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		conn.DelTable(&nftables.Table{Name: interceptionTable, Family: family})
	}
	return conn.Flush()
}

// addTable adds a table of its own, which could turn the redirection around.
func addTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "tamper", Family: nftables.TableFamilyIPv4})
	if err := conn.Flush(); err != nil {
		return err
	}
	conn.DelTable(table)
	return conn.Flush()
}

// rawSocket opens a socket that no redirection of TCP would see.
func rawSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
