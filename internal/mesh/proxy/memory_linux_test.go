package proxy

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// programMapping is where the program's constants are in memory: the largest of
// its read-only mappings.
func programMapping(t *testing.T) (from, to int64) {
	t.Helper()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		var low, high int64
		if n, _ := fmt.Sscanf(line, "%x-%x r--p", &low, &high); n == 2 && strings.HasSuffix(strings.TrimSpace(line), path) && high-low > to-from {
			from, to = low, high
		}
	}
	if from == to {
		t.Fatalf("%s is not mapped:\n%s", path, maps)
	}
	return from, to
}

// resident is how many bytes of files are mapped and present.
func resident(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

func TestProgramPagesThatAreNotUsedAreGivenBack(t *testing.T) {
	from, to := programMapping(t)
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	read := func() string {
		data, err := io.ReadAll(io.NewSectionReader(memory, from, to-from))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	whole := read()
	before := resident(t)
	dropProgramPages()
	if after := resident(t); before-after < (to-from)/2 {
		t.Errorf("of %d bytes of files, %d of them the program's constants, %d are left", before, to-from, after)
	}
	if read() != whole {
		t.Error("the program has changed")
	}
}

func TestProxyThatComputesIsNotIdle(t *testing.T) {
	const burn = 100 * time.Millisecond
	idle := sinceNow()
	for began := processorTime(); processorTime() < began+burn; {
	}
	if idle() {
		t.Errorf("idle after %s of computing", burn)
	}
}
