package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/internal/interrupt"
	"github.com/meshproof/meshproof/suites/bench/control"
)

// Exit codes, those of meshproof.
const (
	exitOK          = 0
	exitFinding     = 1
	exitSetup       = 3
	exitUsage       = 4
	exitInterrupted = 130
)

// loadGarbage is Go's GOGC for the load and the applications, in percent: their
// heaps are small, and while they are collected the targets wait.
const loadGarbage = 800

func main() {
	ctx, stop := interrupt.Context(context.Background(), os.Stderr)
	code, err := do(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// do is the program: a measurement, or one of the roles that it starts itself in.
func do(ctx context.Context, args []string, out io.Writer) (int, error) {
	switch {
	case len(args) == 1 && args[0] == roleSink:
		return codeOf(serveSinks(ctx, out))
	case len(args) == 1 && args[0] == roleControl:
		return codeOf(control.Role(ctx, os.Stdin, out))
	case len(args) == 3 && args[0] == roleReverse:
		sinks := map[load.Protocol]string{}
		if err := json.Unmarshal([]byte(args[2]), &sinks); err != nil {
			return exitUsage, err
		}
		return codeOf(reverse(ctx, out, args[1], sinks))
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "how many rounds; medians are over them")
	per := flags.Duration("for", time.Second, "how long each load is counted")
	warm := flags.Duration("warm", 300*time.Millisecond, "how long it flows before")
	only := flags.String("only", "", "these loads, by id, separated by commas, or controller; default all")
	small := flags.Bool("small", false, "measure the controller with a tenth of the objects and 500 streams")
	against := flags.String("targets", "", "these targets, by name, separated by commas; default all that are installed")
	anywhere := flags.Bool("anywhere", false, "leave it to the kernel which processors the parts run on")
	dir := flags.String("out", "artifacts", "folder for bench.json and bench.md")
	harness := flags.String("harness", "bin/meshproof", "program of the harness")
	standalone := flags.String("proxy", "bin/meshproof-standalone", "program of the proxy")
	readme := flags.String("readme", "", "measure nothing, but write the table of bench.json into this page")
	profiles := flags.Bool("profiles", false, "take processor profiles of the hot paths, or of the loads of -only, instead of measuring")
	page := flags.String("page", "", "with -profiles: write them into this page")
	if err := flags.Parse(args); err != nil {
		return exitUsage, err
	}
	if *readme != "" {
		report, err := readReport(*dir)
		if err == nil {
			err = insert(*readme, markFigures, report.Readme())
		}
		return codeOf(err)
	}
	if flags.NArg() > 0 || *rounds < 1 || *per <= 0 || *warm < 0 {
		return exitUsage, errors.New("bench takes flags with positive values and nothing else")
	}
	chosen, controller, err := choose(*only)
	if err != nil {
		return exitUsage, err
	}
	needed := words(*against)
	if *profiles {
		needed = []string{nameOurs}
	}
	programs, err := installed(targets, needed)
	if err != nil {
		return exitSetup, err
	}
	report := Report{SchemaVersion: 1, Began: time.Now().UTC(), Machine: thisMachine(), Rounds: *rounds, Seconds: per.Seconds()}
	where := placesOn(processors())
	if *anywhere {
		where = places{}
	}
	w, err := newWorld(ctx, *standalone, where.sink)
	if err != nil {
		return exitSetup, fmt.Errorf("set up: %w", err)
	}
	defer w.close()
	if err := move(os.Getpid(), where.load); err != nil {
		return exitSetup, fmt.Errorf("set up: %w", err)
	}
	r := &runner{settings: settings{*rounds, *warm, *per}, world: w, where: where, running: map[string]instance{}, started: map[string]func(context.Context) (instance, error){}, talk: os.Stderr, failures: map[string]error{}}
	defer r.stop()
	if *profiles {
		err := r.profiles(ctx, *dir, pathsOf(*only, chosen))
		if err == nil && *page != "" {
			err = insertFile(*page, markProfiles, filepath.Join(*dir, profilesFile))
		}
		return codeOf(err)
	}
	for _, t := range targets {
		program, ok := programs[t.name]
		if !ok {
			continue
		}
		r.started[t.name] = func(ctx context.Context) (i instance, err error) {
			err = on(where.target, func() (err error) { i, err = t.start(ctx, w, program); return err })
			return i, err
		}
		running, err := r.started[t.name](ctx)
		if err != nil {
			return exitSetup, fmt.Errorf("start %s: %w", t.name, err)
		}
		r.running[t.name] = running
	}
	usual := debug.SetGCPercent(loadGarbage)
	measured, err := r.all(ctx, chosen)
	debug.SetGCPercent(usual) // the controller's 10,000 proxies are in this process, too
	if err == nil && controller {
		size := control.Full
		if *small {
			size = control.Small
		}
		err = r.controller(ctx, size, measured)
	}
	rows := judge(measured)
	if err == nil && *only == "" {
		r.byTests(ctx, rows)
		n := policiesOf
		if *small {
			n = fewPolicies
		}
		if err := r.policies(ctx, *harness, n, rows); err != nil {
			r.failures["policies"] = err
		}
	}
	report.Rows = append(rows, sideBySide(measured, chosen)...)
	if controller {
		report.Rows = append(report.Rows, asides(measured)...)
	}
	for what, err := range r.failures {
		if report.Failures == nil {
			report.Failures = map[string]string{}
		}
		report.Failures[what] = err.Error()
	}
	if writeErr := report.write(*dir); writeErr != nil {
		return exitSetup, fmt.Errorf("write the report: %w", writeErr)
	}
	if err != nil {
		return exitInterrupted, err
	}
	fmt.Fprintf(out, "%s\n%s\n%s\n", report.Judged().Markdown(), report.SideBySide(chosen), report.Verdict())
	if len(r.failures) > 0 {
		return exitFinding, fmt.Errorf("%d loads could not be made; %s/bench.json says why", len(r.failures), *dir)
	}
	return exitOK, nil
}

func (r *runner) stop() {
	for _, running := range r.running {
		running.stop()
	}
}

func codeOf(err error) (int, error) {
	if err != nil {
		return exitFinding, err
	}
	return exitOK, nil
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// choose returns the loads that were asked for, and whether the controller was.
func choose(only string) (chosen []scenario, controller bool, err error) {
	names := words(only)
	if len(names) == 0 {
		return scenarios, true, nil
	}
	for _, name := range names {
		at := slices.IndexFunc(scenarios, func(s scenario) bool { return s.id == name })
		switch {
		case name == scenarioController:
			controller = true
		case at < 0:
			return nil, false, fmt.Errorf("no load %q", name)
		default:
			chosen = append(chosen, scenarios[at])
		}
	}
	return chosen, controller, nil
}

// installed returns the programs of the targets. Those that are required and
// missing are an error that names what to install.
func installed(targets []target, only []string) (map[string]string, error) {
	programs := map[string]string{}
	var missing []string
	for _, t := range targets {
		if len(only) > 0 && !slices.Contains(only, t.name) {
			continue
		}
		if t.program == nil {
			programs[t.name] = ""
			continue
		}
		program, err := t.program()
		switch {
		case err == nil:
			programs[t.name] = program
		case !t.optional:
			missing = append(missing, t.packages...)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("nothing to compare with: install %s", strings.Join(missing, " "))
	}
	return programs, nil
}
