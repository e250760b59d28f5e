package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// smallerFor bounds how long an input is made smaller; go test's own minute would
	// be most of a short run.
	smallerFor = 5 * time.Second
	// beyond is how much longer than it should a target may take: it has to be built,
	// and to try all inputs of earlier runs.
	beyond = 10 * time.Minute
	// stopping is how long output is waited for when everything was ended.
	stopping = 10 * time.Second
)

type state int

const (
	notRun state = iota
	ranClean
	found
)

// result is what became of a target.
type result struct {
	State state
	// Inputs counts those that were tried beyond what was known before.
	Inputs int
	// Input is the file with the input that was found, or the name of a seed.
	Input string
	// Why is what go test said of an input, or of not running.
	Why string
}

// line is for people; what go test said follows in lines of its own.
func (r result) line(t target) string {
	name := path.Base(t.Package) + "." + t.Name
	switch r.State {
	case ranClean:
		return fmt.Sprintf("clean    %-32s %9d inputs  %s", name, r.Inputs, t.Holds)
	case found:
		return fmt.Sprintf("FINDING  %-32s %s\n%s", name, r.Input, indented(r.Why))
	}
	return fmt.Sprintf("NOT RUN  %-32s in %s\n%s", name, t.Package, indented(r.Why))
}

// whyLines bounds what is shown of an output; its end says most.
const whyLines = 40

func indented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-whyLines):]
	return "         " + strings.Join(lines, "\n         ")
}

// runner has go test run targets.
type runner struct {
	// Dir is the root of the tree.
	Dir    string
	Length time.Duration
	// Parallel is how many inputs are tried at a time; 0 leaves it to go test.
	Parallel int
}

// run gives the target its time. On a busy machine that can go by while what
// earlier runs have kept is tried again; then it gets, once, so much more as that takes.
func (r runner) run(ctx context.Context, t target) result {
	out, err := r.goTest(ctx, t, r.Length)
	if more := missing(out, r.Length); more > 0 && ctx.Err() == nil {
		out, err = r.goTest(ctx, t, r.Length+more)
	}
	return judge(t, out, err)
}

func (r runner) goTest(ctx context.Context, t target, length time.Duration) (out string, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+beyond)
	defer cancel()
	args := []string{"test", "-run=^$", "-fuzz=^" + t.Name + "$", "-fuzztime=" + length.String(), "-fuzzminimizetime=" + smallerFor.String()}
	if r.Parallel > 0 {
		args = append(args, "-parallel="+strconv.Itoa(r.Parallel))
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+t.Package)...)
	cmd.Dir, cmd.WaitDelay = r.Dir, stopping
	// What go test has started would outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("not done %s after its time", beyond)
	}
	return said.String(), err
}

// missing is what it took, or would have, to try all that was kept, when length was
// too short for that; 0 when it was not. It is told generously: kept inputs differ.
func missing(out string, length time.Duration) time.Duration {
	tried, all := again(out)
	if tried >= all {
		return 0
	}
	return min(2*length*time.Duration(all)/time.Duration(max(tried, 1)), beyond)
}

// again is how many of the inputs that were known before have been tried.
func again(out string) (tried, all int) {
	for _, m := range kept.FindAllStringSubmatch(out, -1) {
		tried, _ = strconv.Atoi(m[1])
		all, _ = strconv.Atoi(m[2])
	}
	return tried, all
}

var (
	// kept is word of the inputs that are tried first: seeds and what earlier runs
	// have found worth keeping.
	kept     = regexp.MustCompile(`(?m)^fuzz: elapsed: \S+, (?:gathering baseline coverage|testing seed corpus): (\d+)/(\d+) completed`)
	progress = regexp.MustCompile(`(?m)^fuzz: elapsed: .*, execs: (\d+) `)
	written  = regexp.MustCompile(`(?m)^\s*Failing input written to (\S+)`)
	seeded   = regexp.MustCompile(`(?m)^failure while testing seed corpus entry: (\S+)`)
	// outOfTime is a target that found nothing: go test tells the end of its time as a
	// failure when it comes at a bad moment (golang/go#75804).
	outOfTime = regexp.MustCompile(`(?m)^--- FAIL: .*\n\s+context deadline exceeded\n\s*FAIL$`)
)

// judge reads what go test printed. err is how it ended.
func judge(t target, out string, err error) result {
	r := result{Why: out}
	if all := progress.FindAllStringSubmatch(out, -1); all != nil {
		r.Inputs, _ = strconv.Atoi(all[len(all)-1][1])
	}
	// What was known before is among them, and is nothing new.
	tried, known := again(out)
	r.Inputs = max(0, r.Inputs-tried)
	if m := written.FindStringSubmatch(out); m != nil {
		r.State, r.Input = found, path.Join(t.Package, m[1])
		return r
	}
	if m := seeded.FindStringSubmatch(out); m != nil {
		r.State, r.Input = found, seedOf(t, m[1])
		return r
	}
	switch {
	case r.Inputs == 0 || tried < known:
	case err == nil || outOfTime.MatchString(out):
		r.State, r.Why = ranClean, ""
	case strings.Contains(out, "--- FAIL: "+t.Name):
		r.State, r.Input = found, "an input that was not kept"
	}
	if r.State == notRun {
		r.Why = strings.TrimSpace(fmt.Sprintf("%s\n%v", out, err))
		if err == nil {
			r.Why = strings.TrimSpace(out + "\nno inputs were tried")
		}
	}
	return r
}

// seedOf is where a seed stands: FuzzX/seed#3 in the code, others in files.
func seedOf(t target, name string) string {
	if strings.Contains(name, "/seed#") {
		return name + " in " + t.Package
	}
	return path.Join(t.Package, "testdata", "fuzz", name)
}
