// Package cli is the command line: verbs, flags, output and exit codes.
//
// One file per verb. A verb turns arguments into a call of another package and
// that call's result into text and an exit code; it holds no logic of its own.
// Nothing in here ends the process or touches its standard streams: both are
// handed in.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/interrupt"
)

// IOStreams are where a verb reads and writes.
type IOStreams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Exit codes, the same for every verb.
const (
	ExitOK           = 0
	ExitFinding      = 1
	ExitInconclusive = 2
	ExitSetup        = 3
	ExitUsage        = 4
	ExitRegression   = 5
	ExitInternal     = 70
	ExitInterrupted  = 130
	ExitTerminated   = 143
)

// exitPipe is what a shell shows of a process that nobody listened to any more.
const exitPipe = 128 + int(syscall.SIGPIPE)

// ExitError is an error that has decided on its exit code.
type ExitError struct {
	Code int
	// Err is printed unless it is nil.
	Err error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// usageError marks what the user typed wrongly.
func usageError(format string, args ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// Main runs the verb that the arguments name and returns the exit code. A
// first SIGINT or SIGTERM cancels the verb's context, a second one ends the
// process at once.
func Main(args []string, streams IOStreams) int {
	ctx, stop := interrupt.Context(context.Background(), streams.Err)
	defer stop()
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	told := code == exitPipe || code >= ExitInterrupted && errors.Is(err, context.Canceled)
	if err != nil && !told {
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Err != nil {
			fmt.Fprintf(streams.Err, "meshproof: %v\n", err)
		}
	}
	return code
}

// exitCode maps what a verb returned. An error of no known type is a bug of
// ours until somebody has given it a type.
func exitCode(ctx context.Context, err error) int {
	var exit *ExitError
	var setup *cluster.SetupError
	var option *cluster.OptionError
	var refused syscall.Errno
	var stopped *interrupt.Signal
	switch {
	case errors.As(context.Cause(ctx), &stopped) && err != nil:
		return stopped.ExitCode()
	case err == nil:
		return ExitOK
	case errors.Is(err, syscall.EPIPE):
		return exitPipe
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &setup), errors.Is(err, cluster.ErrNotReady):
		return ExitSetup
	case errors.As(err, &option), errors.Is(err, cluster.ErrExists), errors.Is(err, cluster.ErrNotFound), errors.Is(err, cluster.ErrName):
		return ExitUsage
	case errors.As(err, &refused):
		return ExitSetup // the operating system's word: a full disk, a folder of somebody else's
	}
	return ExitInternal
}

const exitCodesHelp = `Exit codes: 0 passed, 1 finding, 2 inconclusive or nothing ran, 3 could not set up,
4 bad input, 5 regression, 70 internal error, 130/143 interrupted.`

// newRoot is the root command with every verb.
func newRoot(streams IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:           "meshproof",
		Short:         "Prove what mesh policies allow",
		Long:          "meshproof brings up a cluster with a mesh, keeps clients calling while policies change,\nand judges every answer.\n\n" + exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &ExitError{Code: ExitUsage, Err: err} })
	root.CompletionOptions.DisableDefaultCmd = true
	for _, verb := range verbs {
		root.AddCommand(verb(streams))
	}
	// An unknown verb is bad input; cobra has no type for it.
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError("unknown command %q; see meshproof --help", args[0])
		}
		return nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return root
}

// verbs is the table of commands, one file each.
var verbs = []func(IOStreams) *cobra.Command{
	newRun,
	newList,
	newLint,
	newSchema,
	newFuzz,
	newReplay,
	newNightly,
	newCluster,
	newInstall,
	newUninstall,
	newInject,
	newViz,
	newCheck,
	newAuthz,
	newDiagnostics,
	newExplain,
	newMatrix,
	newOrder,
	newRules,
	newJudge,
	newReport,
	newCompare,
	newCalibrate,
	newGen,
	newRetrieve,
	newImages,
	newCleanup,
	newVersion,
	newNode,
}

// exactArgs is cobra.ExactArgs with our exit code.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		return nil
	}
}
