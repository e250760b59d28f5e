package abuse

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What is told to hold has been tried: these tests are about the suite itself.

// again runs this binary with other flags, and returns how it ended and its last line.
func again(t *testing.T, flags ...string) (failed bool, last string) {
	t.Helper()
	out, err := exec.Command(os.Args[0], append([]string{"-program=" + *program}, flags...)...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return err != nil, lines[len(lines)-1]
}

func TestACaseOfWhichAPartWasLeftOutDoesNotHold(t *testing.T) {
	const whole, parts = "TestAbuse/^24$", "TestAbuse/^24$/none"
	if failed, last := again(t, "-test.run="+whole); failed || last != "1 of 80" {
		t.Errorf("%s: failed %v, %q", whole, failed, last)
	}
	if failed, last := again(t, "-test.run="+parts); !failed || last != "0 of 80" {
		t.Errorf("%s: failed %v, %q", parts, failed, last)
	}
	if failed, last := again(t, "-test.run="+whole, "-test.skip=TestAbuse/24/wildcard"); !failed || last != "0 of 80" {
		t.Errorf("without one part: failed %v, %q", failed, last)
	}
}

func TestWithoutAProxyNothingHolds(t *testing.T) {
	for _, missing := range []string{"no-such-program", "/bin/true"} {
		if failed, last := again(t, "-program="+missing, "-test.run=TestAbuse/^(7|77)$"); !failed || last != "0 of 80" {
			t.Errorf("%s: failed %v, %q", missing, failed, last)
		}
	}
}

func TestATestThatIsNotThereShowsNothing(t *testing.T) {
	const folder = "internal/x"
	shown := map[string][]string{folder: {"TestA"}}
	for name, tt := range map[string]struct {
		ended map[string]string
		holds bool
	}{
		"all passed":                     {map[string]string{folder + " ": "pass", folder + " TestA": "pass", folder + " TestA/part": "pass"}, true},
		"another test has failed":        {map[string]string{folder + " ": "fail", folder + " TestA": "pass", folder + " TestB": "fail"}, true},
		"renamed or removed":             {map[string]string{folder + " ": "pass", folder + " TestAA": "pass"}, false},
		"of another package":             {map[string]string{folder + " ": "pass", "internal/y TestA": "pass"}, false},
		"nothing was built":              {map[string]string{folder + " ": "fail"}, false},
		"nothing ran":                    {nil, false},
		"skipped":                        {map[string]string{folder + " ": "pass", folder + " TestA": "skip"}, false},
		"a part was skipped":             {map[string]string{folder + " ": "pass", folder + " TestA": "pass", folder + " TestA/part": "skip"}, false},
		"failed":                         {map[string]string{folder + " ": "fail", folder + " TestA": "fail"}, false},
		"the package left something":     {map[string]string{folder + " ": "fail", folder + " TestA": "pass"}, false},
		"the package did not even end":   {map[string]string{folder + " TestA": "pass"}, false},
		"it began and has not ended":     {map[string]string{folder + " ": "fail", folder + " TestB": "pass"}, false},
		"a part failed and was forgiven": {map[string]string{folder + " ": "pass", folder + " TestA": "pass", folder + " TestA/part": "fail"}, false},
	} {
		if wrong := unshown(shown, tt.ended); (len(wrong) == 0) != tt.holds {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}

func TestATableCountsNumbersAndNotRows(t *testing.T) {
	held, failed := &note{held: true}, &note{held: true, failed: true}
	one, two := Case{Number: 1, Title: "one"}, Case{Number: 2, Title: "two"}
	for name, tt := range map[string]struct {
		all   []Case
		notes map[int]*note
		state string
	}{
		"held":                    {[]Case{one, two}, map[int]*note{1: held}, "ok"},
		"another one held":        {[]Case{one, two}, map[int]*note{2: held}, "not run"},
		"there twice":             {[]Case{one, one}, map[int]*note{1: held}, "missing"},
		"not there":               {[]Case{two}, map[int]*note{1: held}, "missing"},
		"failed":                  {[]Case{one}, map[int]*note{1: failed}, "FAIL"},
		"it began, and ended not": {[]Case{one}, map[int]*note{1: {}}, "FAIL"},
	} {
		if state, row := rated(1, tt.all, tt.notes); state != tt.state || !strings.Contains(row, state) {
			t.Errorf("%s: %q in %q, want %q", name, state, row, tt.state)
		}
	}
}
