package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// hotPath is what a profile is taken of, by the load that takes it.
type hotPath struct{ load, name string }

// hotPaths are those of the page.
var hotPaths = []hotPath{
	{"http1", "HTTP/1 relay"},
	{"frames", "HTTP/2 frame relay"},
}

// profileFor is how long a profile is: a hundred samples a second.
const profileFor = 8 * time.Second

// profilesFile has the tables of all profiles.
const profilesFile = "profiles.md"

// pathsOf are the loads that were asked for, or those of the page.
func pathsOf(only string, chosen []scenario) []hotPath {
	if only == "" {
		return hotPaths
	}
	var paths []hotPath
	for _, s := range chosen {
		paths = append(paths, hotPath{s.id, s.name})
	}
	return paths
}

// profiles leaves a profile of each path in dir, and their tables.
func (r *runner) profiles(ctx context.Context, dir string, paths []hotPath) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var text strings.Builder
	for _, path := range paths {
		file := filepath.Join(dir, "profile-"+path.load+".pprof")
		used, err := r.profile(ctx, scenarios[scenarioAt(path.load)], file)
		if err != nil {
			return fmt.Errorf("profile the %s: %w", path.name, err)
		}
		flat, err := top(ctx, r.world.standalone, file, "-flat")
		if err != nil {
			return err
		}
		whole, err := top(ctx, r.world.standalone, file, "-cum", "-show=^github.com/meshproof/meshproof/internal/")
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "### %s\n\n%.1f µs of processor time per request, load `%s`. By what a function uses itself:\n\n%s\n", path.name, used, path.load, table15(flat))
		fmt.Fprintf(&text, "By what the proxy's own functions use, with all that they call (what is not theirs counts for the caller):\n\n%s\n", table15(whole))
		fmt.Fprintf(r.talk, "%s: %s\n", path.name, file)
	}
	return os.WriteFile(filepath.Join(dir, profilesFile), []byte(strings.TrimSpace(text.String())+"\n"), 0o644)
}

// profile writes the profile of a load into a file, and returns the processor
// time of a request in microseconds.
func (r *runner) profile(ctx context.Context, s scenario, file string) (float64, error) {
	target, err := r.profiled(ctx)
	if err != nil {
		return 0, err
	}
	defer target.stop()
	plan := s.load
	plan.Address, plan.Authority, plan.From, plan.Warm, plan.For = target.address(s.service()), "bench.example", neighbour, r.warm, profileFor
	if s.mesh {
		plan.TLS = r.world.client
	}
	r.workers(plan)
	type answer struct {
		profile []byte
		err     error
	}
	answers := make(chan answer, 1)
	done := make(chan struct{})
	time.AfterFunc(plan.Warm, func() {
		defer close(done)
		body, err := target.(ours).profile(ctx, fmt.Sprintf("profile?seconds=%d", int(profileFor.Seconds())-1))
		answers <- answer{body, err}
	})
	got, err := loaded(ctx, plan, target)
	<-done
	a := <-answers
	if err = errors.Join(err, a.err); err != nil {
		return 0, err
	}
	return got.CPU, os.WriteFile(file, a.profile, 0o644)
}

func scenarioAt(id string) int {
	for i, s := range scenarios {
		if s.id == id {
			return i
		}
	}
	return -1
}

// mostLines of a profile are worth reading.
const mostLines = 15

// top is what the toolchain makes of a profile.
func top(ctx context.Context, program, file string, how ...string) ([]line, error) {
	args := append([]string{"tool", "pprof", "-top", fmt.Sprintf("-nodecount=%d", mostLines)}, how...)
	cmd := exec.CommandContext(ctx, "go", append(args, program, file)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w\n%s", file, err, said.String())
	}
	return linesOf(string(out)), nil
}

// line is a function of a profile: what it used itself, what it used with all
// that it called, both in hundredths of everything.
type line struct{ flat, cum, function string }

// lineForm is one of `go tool pprof -top`: flat, flat %, sum %, cum, cum %, name.
var lineForm = regexp.MustCompile(`^\s*[0-9.]+m?s?\s+([0-9.]+%)\s+[0-9.]+%\s+[0-9.]+m?s?\s+([0-9.]+%)\s+(.+)$`)

func linesOf(text string) []line {
	var lines []line
	for each := range strings.SplitSeq(text, "\n") {
		if m := lineForm.FindStringSubmatch(each); m != nil {
			function := strings.TrimSuffix(m[3], " (inline)")
			function = strings.TrimPrefix(function, "github.com/meshproof/meshproof/internal/mesh/")
			lines = append(lines, line{m[1], m[2], strings.TrimPrefix(function, "github.com/meshproof/meshproof/")})
		}
	}
	return lines
}

func table15(lines []line) string {
	var b strings.Builder
	b.WriteString("| itself | with all it calls | function |\n|---|---|---|\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", l.flat, l.cum, l.function)
	}
	return b.String()
}
