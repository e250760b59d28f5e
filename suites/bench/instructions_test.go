package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/internal/proxytest"
)

const (
	// mostMore is what a change may add to the instructions of a request (P15).
	mostMore = 1.03
	// tries are made before a change is blamed: when the proxy collects garbage is
	// chance, and moves the count by a hundredth or two.
	tries = 3
	// calls are made by the longer of two runs, first by the shorter one; what the
	// start costs falls out of their difference.
	calls, first = 2000, 300
)

// Instructions are counted by valgrind, which runs the proxy some fifty times
// slower than a processor and says the same on a busy machine.
func TestAChangeCostsARequestFewInstructions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Skip("cannot tell: valgrind is not installed (package valgrind)")
	}
	before, version := buildBefore(t)
	now := build(t)
	for _, protocol := range []load.Protocol{load.HTTP1, load.Frames} {
		t.Run(string(protocol), func(t *testing.T) {
			for range tries {
				was, is := perCall(t, before, protocol), perCall(t, now, protocol)
				t.Logf("%.0f instructions per request, %.0f at %s: %+.1f %%", is, was, version, 100*(is/was-1))
				if is <= mostMore*was {
					return
				}
			}
			t.Errorf("a request takes more than %.2f times the instructions, %d times measured", mostMore, tries)
		})
	}
}

func perCall(t *testing.T, program string, protocol load.Protocol) float64 {
	t.Helper()
	few, all := instructions(t, program, protocol, first), instructions(t, program, protocol, calls)
	if all <= few {
		t.Fatalf("%d calls took %d instructions, %d took %d", first, few, calls, all)
	}
	return float64(all-few) / (calls - first)
}

var counted = regexp.MustCompile(`I\s+refs:\s+([0-9,]+)`)

// instructions of a proxy from its start to its end, with n calls in between.
func instructions(t *testing.T, program string, protocol load.Protocol, n int) int64 {
	t.Helper()
	w, err := newWorld(t.Context(), program, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	app := netip.MustParseAddrPort(w.sink[protocol])
	var said bytes.Buffer
	proxy, err := w.plane.Start(t.Context(), proxytest.Options{Program: program, Apps: []netip.AddrPort{app}, Env: []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1"}, Stderr: &said,
		Wrap: []string{"valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=" + os.DevNull}})
	if err != nil {
		// Fifty times slower, on a busy machine it is not there in time. That it starts
		// at all is for others to test.
		t.Skipf("cannot tell: %v", err)
	}
	if err = proxy.Apply(t.Context(), app.Port(), enforced()); err == nil {
		err = load.Repeat(t.Context(), load.Plan{Protocol: protocol, Address: proxy.Pairs[0].String(), From: neighbour, Payload: message}, n)
	}
	proxy.Stop()
	found := counted.FindSubmatch(said.Bytes())
	if err != nil || found == nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
	count, err := strconv.ParseInt(strings.ReplaceAll(string(found[1]), ",", ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// buildBefore builds the proxy of the last commit, or, where nothing has been
// changed since, of the one before.
func buildBefore(t *testing.T) (program, version string) {
	t.Helper()
	git := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", "../.."}, args...)...)
		return cmd.Output()
	}
	changed, err := git("status", "--porcelain", "--", "internal/mesh", "go.mod")
	if err != nil {
		t.Skipf("cannot tell: no earlier version to compare with: %v", err)
	}
	version = "HEAD"
	if len(changed) == 0 {
		version = "HEAD~1"
	}
	archive, err := git("archive", version)
	if err != nil {
		t.Skipf("cannot tell: no earlier version to compare with: %v", err)
	}
	dir := t.TempDir()
	unpack := exec.Command("tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(archive)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", version, err, out)
	}
	program = filepath.Join(dir, proxytest.Program)
	compile := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-tags", "grpcnotrace", "-o", program, "./internal/proxytest/standalone")
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		t.Skipf("cannot tell: %s does not build: %v\n%s", version, err, out)
	}
	return program, version
}
