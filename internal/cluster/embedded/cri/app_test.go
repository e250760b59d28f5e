package cri

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// app is the program in the tests' containers. Its status is 0 unless told.
func app(args []string) int {
	if len(args) == 0 {
		args = []string{"wait"}
	}
	say := func(err error, what string) int {
		if err != nil {
			fmt.Printf("%s: %v\n", what, err)
			return 1
		}
		return 0
	}
	switch args[0] {
	case "wait": // until SIGTERM, and then in peace
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("waiting")
		<-signals
		fmt.Println("terminated")
	case "ignore": // everything but SIGKILL
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ignoring")
		forever()
	case "exit":
		code, _ := strconv.Atoi(args[1])
		fmt.Fprintln(os.Stderr, "exiting")
		return code
	case "print":
		fmt.Print(strings.Join(args[1:], " "))
	case "long":
		fmt.Println(strings.Repeat("x", 3*maxLogLine+5))
	case "env":
		for _, variable := range os.Environ() {
			fmt.Println(variable)
		}
	case "cat":
		text, err := os.ReadFile(args[1])
		fmt.Print(string(text))
		return say(err, "cat")
	case "write":
		return say(os.WriteFile(args[1], []byte(args[2]), 0o644), "write")
	case "ls":
		entries, err := os.ReadDir(args[1])
		for _, entry := range entries {
			fmt.Println(entry.Name())
		}
		return say(err, "ls")
	case "descriptors": // without the poller's and the listing's own
		entries, err := os.ReadDir("/proc/self/fd")
		var kinds []string
		for _, entry := range entries {
			target, err := os.Readlink("/proc/self/fd/" + entry.Name())
			if kind, _, _ := strings.Cut(target, ":"); err == nil && kind != "anon_inode" {
				kinds = append(kinds, kind)
			}
		}
		fmt.Println(strings.Join(kinds, " "))
		return say(err, "descriptors")
	case "id":
		groups, _ := os.Getgroups()
		slices.Sort(groups)
		directory, _ := os.Getwd()
		host, _ := os.Hostname()
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "groups", groups, "pid", os.Getpid(), "dir", directory, "host", host)
	case "mark":
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_MARK, 1)
		}
		return say(err, "mark")
	case "nft":
		connection, err := nftables.New()
		if err == nil {
			connection.AddTable(&nftables.Table{Name: "test", Family: nftables.TableFamilyIPv4})
			err = connection.Flush()
		}
		return say(err, "nft")
	case "in-user-namespace": // where a process has every capability
		child, err := os.StartProcess("/proc/self/exe", append([]string{"/app"}, args[1:]...), &os.ProcAttr{
			Files: []*os.File{nil, os.Stdout, os.Stderr},
			Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}},
		})
		if err != nil {
			return say(err, "make user namespace")
		}
		state, err := child.Wait()
		if err != nil {
			return say(err, "wait")
		}
		return state.ExitCode()
	case "serve": // echoes, after a greeting
		listener, err := net.Listen("tcp", args[1])
		if err != nil {
			return say(err, "serve")
		}
		fmt.Println("serving")
		for {
			connection, err := listener.Accept()
			if err != nil {
				return say(err, "accept")
			}
			go func() {
				fmt.Fprint(connection, "hello ")
				_, _ = io.Copy(connection, connection)
				connection.Close()
			}()
		}
	case "echo": // standard input to standard output
		_, err := io.Copy(os.Stdout, os.Stdin)
		return say(err, "echo")
	case "tty":
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		name, _ := os.Readlink("/proc/self/fd/0")
		fmt.Println("terminal", err == nil, name)
	case "spawn": // a child that outlives its parent's patience
		child, err := os.StartProcess("/proc/self/exe", []string{"/app", "ignore"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			return say(err, "spawn")
		}
		fmt.Println("spawned", child.Pid)
		forever()
	case "status":
		text, err := os.ReadFile("/proc/self/status")
		fmt.Print(string(text))
		return say(err, "status")
	default:
		fmt.Fprintf(os.Stderr, "unknown command %q\n", args)
		return 64
	}
	return 0
}

// forever waits in a way that Go does not take for a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}
