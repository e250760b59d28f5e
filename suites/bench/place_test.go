package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheTargetSharesItsProcessorWithNobody(t *testing.T) {
	for _, test := range []struct {
		of   []int
		want places
	}{
		{nil, places{}},
		{[]int{3}, places{}},
		{[]int{0, 1}, places{load: []int{0}, sink: []int{0}, target: []int{1}}},
		{[]int{2, 4, 6, 8}, places{load: []int{2, 4}, sink: []int{6}, target: []int{8}}},
	} {
		if diff := cmp.Diff(test.want, placesOn(test.of), cmp.AllowUnexported(places{})); diff != "" {
			t.Errorf("%v: %s", test.of, diff)
		}
	}
}

func TestAProcessRunsWhereItWasPut(t *testing.T) {
	all := processors()
	if len(all) < 2 {
		t.Skip("cannot tell: there is one processor only")
	}
	last := all[len(all)-1:]
	var p *process
	if err := on(last, func() (err error) {
		p, err = launch(t.Context(), nil, nil, "sleep", "60")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if got, want := allowed(t, filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status")), strconv.Itoa(last[0]); got != want {
		t.Errorf("it may run on %s, want %s", got, want)
	}
	if diff := cmp.Diff(all, processors()); diff != "" {
		t.Errorf("the thread that started it has other processors than before: %s", diff)
	}
}

func TestAllThreadsOfThisProcessMove(t *testing.T) {
	all := processors()
	if len(all) < 2 {
		t.Skip("cannot tell: there is one processor only")
	}
	defer move(os.Getpid(), all)
	if err := move(os.Getpid(), all[:1]); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		if got, want := allowed(t, task), strconv.Itoa(all[0]); got != want {
			t.Errorf("%s may run on %s, want %s", task, got, want)
		}
	}
}

// allowed is what a status file says of processors.
func allowed(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
