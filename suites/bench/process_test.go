package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A process that spins uses as much as the clock says, and so does its child.
func TestProcessorTimeIsThatOfAProcessAndItsChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(while :; do :; done) & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, pid := range family(cmd.Process.Pid) {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
			}
		}
		cmd.Wait()
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		used, err := usageOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if used.cpu > 20*time.Millisecond && used.resident > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v and %d processes, want a child that spins", used, len(family(cmd.Process.Pid)))
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAnErrorOfAProgramComesWithWhatItSaid(t *testing.T) {
	var greeting map[string]string
	_, err := launch(t.Context(), &greeting, nil, "sh", "-c", "echo out of luck >&2; exit 1")
	if err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("%v", err)
	}
}
