// Command fuzz runs the native fuzz targets of this tree, one after the other, for
// a time each.
//
// The table of targets goes in, each with the property that it holds; out comes a
// line for each and a last one that says how many ran clean. A target is clean when
// it was built, tried inputs for its time and found none for which the property
// does not hold. One that was not built, is missing, or tried nothing is not.
//
// An input that is found stays in the tree, where go test writes it: from then on
// every run of the package's tests tries it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/interrupt"
)

// Exit codes, those of meshproof.
const (
	exitOK          = 0
	exitFinding     = 1
	exitUsage       = 4
	exitInterrupted = 130
)

const usage = `usage: go run ./suites/fuzz [-for 5m] [-only NAME,...] [-parallel N]

It runs in the root of the tree. -parallel is how many inputs are tried at a time,
by default as many as there are processors.
`

func main() {
	ctx, stop := interrupt.Context(context.Background(), os.Stderr)
	code, err := do(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func do(ctx context.Context, args []string, out io.Writer) (int, error) {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	length := flags.Duration("for", 5*time.Minute, "")
	only := flags.String("only", "", "")
	parallel := flags.Int("parallel", 0, "")
	if err := flags.Parse(args); err != nil {
		return exitUsage, fmt.Errorf("%w\n%s", err, usage)
	}
	if flags.NArg() > 0 || *length <= 0 || *parallel < 0 {
		return exitUsage, errors.New(usage)
	}
	chosen, err := choose(strings.FieldsFunc(*only, func(r rune) bool { return r == ',' || r == ' ' }))
	if err != nil {
		return exitUsage, err
	}
	run := runner{Dir: ".", Length: *length, Parallel: *parallel}
	clean := 0
	for _, t := range chosen {
		result := run.run(ctx, t)
		if ctx.Err() != nil {
			return exitInterrupted, nil
		}
		fmt.Fprintln(out, result.line(t))
		if result.State == ranClean {
			clean++
		}
	}
	fmt.Fprintf(out, "%d of %d targets clean\n", clean, len(chosen))
	if clean < len(chosen) {
		return exitFinding, nil
	}
	return exitOK, nil
}

// choose are the targets of these names, all for none.
func choose(names []string) ([]target, error) {
	if len(names) == 0 {
		return targets, nil
	}
	var chosen []target
	for _, name := range names {
		before := len(chosen)
		for _, t := range targets {
			if t.Name == name {
				chosen = append(chosen, t)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no fuzz target %q", name)
		}
	}
	return chosen, nil
}
