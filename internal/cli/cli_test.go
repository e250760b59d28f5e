package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/interrupt"
)

// runLine runs a command line with a state folder of its own.
func runLine(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	t.Setenv("MESHPROOF_STATE_DIR", filepath.Join(t.TempDir(), "state"))
	var stdout, stderr bytes.Buffer
	code = Main(args, IOStreams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(context.Background())
	cancel(&interrupt.Signal{Signal: syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(context.Background())
	cancel(&interrupt.Signal{Signal: syscall.SIGTERM})
	for _, c := range []struct {
		claim string
		ctx   context.Context
		err   error
		want  int
	}{
		{"no error", context.Background(), nil, 0},
		{"an error that has decided", context.Background(), fmt.Errorf("run: %w", &ExitError{Code: ExitFinding}), 1},
		{"the machine stands in the way", context.Background(), fmt.Errorf("create: %w", &cluster.SetupError{Cause: "no namespaces"}), 3},
		{"a cluster that did not become ready", context.Background(), fmt.Errorf("%w: slow", cluster.ErrNotReady), 3},
		{"no such cluster", context.Background(), fmt.Errorf("delete: %w", cluster.ErrNotFound), 4},
		{"a cluster of that name", context.Background(), fmt.Errorf("create: %w", cluster.ErrExists), 4},
		{"a full disk", context.Background(), fmt.Errorf("report: %w", &fs.PathError{Op: "write", Path: "run.json", Err: syscall.ENOSPC}), 3},
		{"an error that nobody knows is a bug", context.Background(), errors.New("what"), 70},
		{"an interruption", interrupted, fmt.Errorf("wait: %w", context.Canceled), 130},
		{"a termination", terminated, fmt.Errorf("wait: %w", context.Canceled), 143},
		{"a pipe without a reader", context.Background(), fmt.Errorf("print: %w", syscall.EPIPE), 141},
		{"a verb that finished in spite of an interruption", interrupted, nil, 0},
	} {
		if got := exitCode(c.ctx, c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.claim, got, c.want)
		}
	}
}

func TestBadUsageIsSaidOnStderrAndExits4(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"cluster", "create", "--nonsense"}, {"cluster", "list", "extra"}, {"cluster", "nonsense"},
		{"cluster", "list", "-o", "nonsense"}, {"cluster", "delete", "--name", "absent"}, {"cluster", "create", "--name", "Not/A/Name"}, {"cleanup", "extra"}} {
		code, out, errOut := runLine(t, args...)
		if code != ExitUsage || out != "" || !strings.HasPrefix(errOut, "meshproof: ") || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestParallelHasAShortForm(t *testing.T) {
	if code, _, errOut := runLine(t, "run", "--dry-run", "-p", "2", "walk-through"); code != ExitOK {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

func TestWhatCannotRunIsSaidInOneLine(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run", "-l", "DOC-27 &&"}, ExitUsage, `label filter "DOC-27 &&": Unexpected EOF.`},
		{[]string{"run", "-l", "nobody"}, ExitInconclusive, "nothing ran: no claim is selected"},
		{[]string{"run", "walk-trough"}, ExitUsage, `no scenario or folder of the library is called "walk-trough"`},
		{[]string{"run", "absent.yaml"}, ExitUsage, "absent.yaml: no such file"},
		{[]string{"run", "walk-through", "absent.yaml"}, ExitUsage, "not both"},
		{[]string{"run", "--output-dir", filepath.Join(blocked, "artifacts"), "walk-through"}, ExitUsage, "make the run's folder"},
		{[]string{"run", "--cluster", "cloud", "walk-through"}, ExitUsage, `--cluster: no kind of cluster is called "cloud"`},
		{[]string{"report", blocked}, ExitUsage, "read a run"},
	} {
		code, out, errOut := runLine(t, c.args...)
		if code != c.code || out != "" || !strings.HasPrefix(errOut, "meshproof: ") || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, out, errOut)
		}
	}
}

func TestHelpNamesTheExitCodes(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}} {
		code, out, errOut := runLine(t, args...)
		if code != ExitOK || errOut != "" || !strings.Contains(out, "3 could not set up") || strings.Contains(out, "\n  node ") {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestListingWithoutClusters(t *testing.T) {
	if code, out, errOut := runLine(t, "cluster", "list", "-o", "json"); code != ExitOK || out != "[]\n" || errOut != "" {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errOut)
	}
	if code, out, errOut := runLine(t, "cleanup"); code != ExitOK || out != "" || errOut != "" {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errOut)
	}
}
