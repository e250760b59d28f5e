package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
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
	cancel(&interruption{syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(context.Background())
	cancel(&interruption{syscall.SIGTERM})
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
		{"an error that nobody knows is a bug", context.Background(), errors.New("what"), 70},
		{"an interruption", interrupted, fmt.Errorf("wait: %w", context.Canceled), 130},
		{"a termination", terminated, fmt.Errorf("wait: %w", context.Canceled), 143},
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
