// Command meshproof proves what mesh policies allow: it brings up a cluster
// with a mesh, keeps clients calling while policies change, and judges every
// answer.
//
// All it does itself is to connect the command line in package cli to the
// process: arguments, streams, signals and the exit code.
package main

import (
	"os"
	"runtime"

	"github.com/meshproof/meshproof/internal/cli"
	"github.com/meshproof/meshproof/internal/cluster/embedded/cri"
)

// A cluster's first process is this program, and what ties it to its creator
// belongs to its first thread; main must be able to let go of that tie.
func init() { runtime.LockOSThread() }

func main() {
	// In an embedded cluster containers start as this program, too.
	cri.InitMain()
	os.Exit(cli.Main(os.Args[1:], cli.IOStreams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
