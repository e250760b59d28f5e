package control

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const roleWord = "role-of-the-test"

// TestMain makes the test's program the role.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == roleWord {
		if err := Role(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestEveryFigureIsTaken(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := Program{Path: self, Args: []string{roleWord}, CPU: func(pid int) (time.Duration, error) {
		var ts unix.Timespec
		err := unix.ClockGettime(int32(^pid<<3|2), &ts)
		return time.Duration(ts.Nano()), err
	}}
	figures, err := Measure(t.Context(), p, Size{Pods: 200, Servers: 20, Authorizations: 100, Streams: 50})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if _, taken := figures[name]; !taken && name != InForceMillis {
			t.Errorf("%s was not taken", name)
		}
	}
	// What does not depend on how busy the machine is.
	if figures[NoOp] != 0 {
		t.Errorf("updates that change nothing brought %v messages", figures[NoOp])
	}
	if figures[Burst] != 0 {
		t.Error("the policy after a burst is not that of all its objects")
	}
	t.Log(figures)
}
