package generated

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/internal/fuzz"
)

// What a finding must be made small to.
const (
	mostObjects = 5
	mostSteps   = 3
)

// stopGrace is how long a program that is told to stop gets to give back its
// cluster.
const stopGrace = time.Minute

// Exit codes of meshproof.
const (
	passed  = 0
	finding = 1
)

// hunt has generated scenarios look for a defect of the gauntlet, and holds what
// they find against the right mesh. It returns a line about it.
func hunt(ctx context.Context, name string) (string, error) {
	root, runs, bin, err := found()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(runs, "generated", name)
	if err := os.RemoveAll(folder); err != nil {
		return "", err
	}
	broken := filepath.Join(folder, "bin")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	if code, err := run(ctx, root, filepath.Join(folder, "build.log"), "go", "run", "./suites/gauntlet", "build", "-bin", bin, name, broken); err != nil || code != passed {
		return "", fmt.Errorf("build the mesh with the defect: exit code %d, see %s: %w", code, filepath.Join(folder, "build.log"), err)
	}
	meshproof := filepath.Join(broken, "meshproof")
	log := filepath.Join(folder, "fuzz.log")
	code, err := run(ctx, root, log, meshproof, "fuzz", "--seed", fmt.Sprint(*seed), "--for", lasting.String(), "--output-dir", folder)
	if err != nil {
		return "", err
	}
	summary, err := fuzz.ReadSummary(filepath.Join(folder, "latest"))
	if err != nil {
		return "", fmt.Errorf("see %s: %w", log, err)
	}
	if code != finding || len(summary.Findings) == 0 {
		return "", fmt.Errorf("%d edits in %.0fs have found nothing (exit code %d), see %s", summary.Edits, summary.Seconds, code, log)
	}
	for _, found := range summary.Findings {
		if found.File == "" {
			continue
		}
		line := fmt.Sprintf("%s after %.1fs (seed %d, scenario %d), made small in %.1fs and %d attempts: %d objects, %d steps", found.Kind, found.Found, summary.Seed, found.Scenario,
			found.Took, found.Attempts, found.Objects, found.Steps)
		if found.Objects > mostObjects || found.Steps > mostSteps {
			return "", errors.New("it was not made small: " + line)
		}
		file := filepath.Join(folder, "latest", found.File)
		for _, judged := range []struct {
			mesh, bin string
			want      int
		}{{"the defective mesh", broken, finding}, {"the right mesh", bin, passed}} {
			log := filepath.Join(folder, fmt.Sprintf("%s.log", filepath.Base(judged.bin)+fmt.Sprint(judged.want)))
			code, err := run(ctx, root, log, filepath.Join(judged.bin, "meshproof"), "run", file, "--output-dir", filepath.Join(folder, "again"))
			if err != nil || code != judged.want {
				return "", fmt.Errorf("%s: %s with %s: exit code %d, want %d, see %s: %w", line, file, judged.mesh, code, judged.want, log, err)
			}
		}
		return line + "; it fails with the defect and passes without: " + file, nil
	}
	return "", errors.New("nothing that was found was made small, see " + log)
}

// run runs a program, with what it prints in a file, and returns its exit code.
func run(ctx context.Context, dir, log, program string, args ...string) (int, error) {
	file, err := os.Create(log)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, file, file
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, stopGrace
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", filepath.Base(program), err)
	}
	return 0, nil
}
