package tamper

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnUnknownAttemptIsNoRefusal(t *testing.T) {
	for _, args := range [][]string{nil, {"nothing"}, {"mark", "flush"}} {
		if err := Main(context.Background(), args); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

// Whether the kernel takes the harmless attempts depends on the rights of who
// runs the test; the verdict must agree with them.
func TestTheVerdictIsTheKernels(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err == nil {
		unix.Close(fd)
	}
	if got := Main(context.Background(), []string{"raw"}); (got == nil) != (err == nil) || got != nil && !errors.Is(got, ErrRefused) {
		t.Errorf("the kernel says %v, the attempt says %v", err, got)
	}
}
