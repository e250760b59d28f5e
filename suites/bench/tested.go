package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// tested are figures that a test of this tree takes: it runs as `make test` runs
// it, and the figures are read from what it says.
var tested = []struct {
	what, pkg, test string
	// figures are of the rows, in their order, from the test's output; false when
	// there are none in it.
	rows    []string
	figures func(output string) ([]float64, bool)
}{
	{"instructions per request", "./suites/bench", "TestAChangeCostsARequestFewInstructions", []string{"P15/http1", "P15/grpc"}, instructionsIn},
	{"random histories of the index", "./internal/mesh/controller/index", "TestRandomHistoriesAreAsARecomputeOfEverythingHasThem", []string{"C10"}, noneIfPassed},
}

// byTests runs the tests and fills in their rows. A test that cannot tell on this
// machine leaves them empty; one that could not be run is a failure.
func (r *runner) byTests(ctx context.Context, rows []Row) {
	for _, t := range tested {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^"+t.test+"$", t.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		err := on(slices.Concat(r.where.load, r.where.target), func() (err error) { out, err = cmd.CombinedOutput(); return err })
		values, there := t.figures(string(out))
		if err == nil && strings.Contains(string(out), "--- SKIP: "+t.test) {
			fmt.Fprintf(r.talk, "  %s: %s cannot tell here\n", t.what, t.test)
			continue
		}
		if !there || len(values) != len(t.rows) {
			r.failures[t.what] = fmt.Errorf("%s says no figure (%v): %s", t.test, err, out[max(len(out)-tailLength, 0):])
			continue
		}
		for i, id := range t.rows {
			fill(rows, id, values[i])
		}
		fmt.Fprintf(r.talk, "%s\n", t.what)
	}
}

// noneIfPassed is for tests that end with the first difference.
func noneIfPassed(output string) ([]float64, bool) {
	return []float64{0}, strings.Contains(output, "\nPASS\n")
}

var perRequest = regexp.MustCompile(`([0-9]+) instructions per request, ([0-9]+) at`)

// instructionsIn is the last try of each of the two loads.
func instructionsIn(output string) ([]float64, bool) {
	var values []float64
	for part := range strings.SplitSeq(output, "=== RUN") {
		all := perRequest.FindAllStringSubmatch(part, -1)
		if len(all) == 0 {
			continue
		}
		is, _ := strconv.ParseFloat(all[len(all)-1][1], 64)
		was, _ := strconv.ParseFloat(all[len(all)-1][2], 64)
		values = append(values, is/was)
	}
	return values, len(values) == 2
}

func fill(rows []Row, id string, v float64) {
	at := slices.IndexFunc(rows, func(row Row) bool { return row.ID == id })
	rows[at].Measured, rows[at].Rounds = &v, 1
	rows[at].hold()
}
