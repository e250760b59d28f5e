package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients/agent/control"
)

// envAgent makes this test's program be the agent, which it is but for the
// testing package.
const envAgent = "MESHPROOF_TEST_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(envAgent) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// agentCommand is this program as the agent.
func agentCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Args[0] = "meshproof-agent"
	cmd.Env = append(os.Environ(), envAgent+"=1")
	return cmd
}

const (
	// initBytes and initAllocations bound what all packages together allocate before
	// main: it is done by every process of every pod, whatever its role. Half as much
	// again as what it came to when this was written.
	initBytes       = 2_400_000
	initAllocations = 18_000
)

func TestWhatPackagesDoBeforeMainStaysSmall(t *testing.T) {
	bytes, allocations, worst := 0, 0, []string(nil)
	for _, one := range inits(t) {
		bytes, allocations = bytes+one.bytes, allocations+one.allocations
		worst = append(worst, fmt.Sprintf("%8d bytes %6d allocations %s", one.bytes, one.allocations, one.path))
	}
	if bytes == 0 {
		t.Fatal("the runtime has told of no package that does anything before main")
	}
	if bytes > initBytes || allocations > initAllocations {
		slices.Sort(worst)
		slices.Reverse(worst)
		t.Errorf("%d bytes in %d allocations before main, want at most %d in %d; most of it by\n%s", bytes, allocations, initBytes, initAllocations, strings.Join(worst[:10], "\n"))
	}
	t.Logf("%d bytes in %d allocations", bytes, allocations)
}

// initialized is what one package did before main.
type initialized struct {
	path               string
	took               time.Duration
	bytes, allocations int
}

// inits has the runtime of an agent tell of its packages.
func inits(t testing.TB) []initialized {
	t.Helper()
	cmd := agentCommand() // without a role it prints its usage
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	text, _ := cmd.CombinedOutput()
	var out []initialized
	for line := range bytes.Lines(text) {
		var one initialized
		var at, ms float64
		if n, _ := fmt.Sscanf(string(line), "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &one.path, &at, &ms, &one.bytes, &one.allocations); n == 5 {
			one.took = time.Duration(ms * float64(time.Millisecond))
			out = append(out, one)
		}
	}
	return out
}

// BenchmarkStart says how long an agent takes until its client role can be asked,
// beside a Go program that does nothing, taken in turns: what a machine that is busy
// adds it adds to both. The CPU time is what the machine cannot add to.
func BenchmarkStart(b *testing.B) {
	empty := filepath.Join(b.TempDir(), "empty")
	source := empty + ".go"
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println() }\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", empty, source).CombinedOutput(); err != nil {
		b.Fatalf("build a program that does nothing: %v\n%s", err, out)
	}
	var agents, empties, cpus, ratios []float64
	for b.Loop() {
		nothing, _ := start(b, exec.Command(empty), "")
		cmd := agentCommand("client", "-listen", "127.0.0.1:0")
		agent, cpu := start(b, cmd, control.Announcement(0)[:len(control.Announcement(0))-1])
		agents, empties, cpus, ratios = append(agents, agent), append(empties, nothing), append(cpus, cpu), append(ratios, agent/nothing)
	}
	inInit := time.Duration(0)
	for _, one := range inits(b) {
		inInit += one.took
	}
	b.ReportMetric(median(agents), "ms/start")
	b.ReportMetric(median(cpus), "cpu-ms/start")
	b.ReportMetric(median(empties), "ms/empty")
	b.ReportMetric(median(ratios), "x-empty")
	b.ReportMetric(float64(inInit.Microseconds())/1000, "ms/init")
}

// start runs a program until its first line, which must begin as given, and returns
// how many milliseconds that took and how many of CPU time.
func start(b *testing.B, cmd *exec.Cmd, begins string) (ms, cpu float64) {
	b.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	began := time.Now()
	err = cmd.Start()
	write.Close()
	if err != nil {
		b.Fatal(err)
	}
	line, _ := bufio.NewReader(read).ReadString('\n')
	ms = float64(time.Since(began).Microseconds()) / 1000
	_ = cmd.Process.Kill() // what it used up to here is what counts
	_ = cmd.Wait()
	if !strings.HasPrefix(line, begins) {
		b.Fatalf("%s said %q", cmd, line)
	}
	return ms, float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds()) / 1000
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
