package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheReadmeHasEveryRow(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "<!-- "+markFigures+" -->")
	section, _, found := strings.Cut(rest, "<!-- end of "+markFigures+" -->")
	if !found {
		t.Fatal("README.md has no place for the figures")
	}
	for _, row := range judge(nil) {
		if !strings.Contains(section, "\n| "+row.ID+" | "+row.Name+" |") {
			t.Errorf("README.md lacks %s: bin/bench -readme README.md", row.ID)
		}
	}
}

func TestAMissedTopFigureHasItsReason(t *testing.T) {
	no, yes := false, true
	half := 0.5
	for _, test := range []struct {
		row  Row
		want string
	}{
		{Row{ID: "P11/idle", Measured: &half, GateMet: &yes, TopMet: &yes}, ""},
		{Row{ID: "P11/idle", Measured: &half, GateMet: &yes, TopMet: &no}, "misses the top figure: " + reasons["P11/idle"]},
		{Row{ID: "P11/idle", Measured: &half, GateMet: &no, TopMet: &no}, "**misses the gate**: " + reasons["P11/idle"]},
		{Row{ID: "P0", Measured: &half, TopMet: &no}, "misses the top figure: not yet explained"},
		{Row{ID: "C10", RunBy: byTests}, "by " + byTests},
		{Row{ID: "C1"}, "not measured"},
	} {
		if got := test.row.remark(); got != test.want {
			t.Errorf("%s: %q, want %q", test.row.ID, got, test.want)
		}
	}
	for id := range reasons {
		if !strings.Contains(Report{}.Readme(), "\n| "+id+" |") {
			t.Errorf("a reason for %s, which is no row", id)
		}
	}
}

func TestOnlyWhatIsBetweenTheMarksIsReplaced(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is what the first one left
		if err := insert(page, "x", "new\n\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if want := "before\n<!-- x -->\nnew\n<!-- end of x -->\nafter\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := insert(page, "y", "new"); err == nil {
		t.Error("inserted without a place for it")
	}
}

func TestAProfilesLinesAreRead(t *testing.T) {
	lines := linesOf(`File: p
      flat  flat%   sum%        cum   cum%
     0.45s 66.18% 66.18%      0.45s 66.18%  internal/runtime/syscall/linux.Syscall6
      10ms  1.47% 67.65%      190ms 27.94%  github.com/meshproof/meshproof/internal/mesh/proxy/http1.(*Conn).pass (inline)
         0     0% 67.65%      1.30s 44.12%  github.com/meshproof/meshproof/suites/x.F
`)
	want := []line{{"66.18%", "66.18%", "internal/runtime/syscall/linux.Syscall6"}, {"1.47%", "27.94%", "proxy/http1.(*Conn).pass"}, {"0%", "44.12%", "suites/x.F"}}
	if len(lines) != len(want) {
		t.Fatalf("%v", lines)
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("%v, want %v", lines[i], want[i])
		}
	}
}

func TestInstructionsAreReadOffTheTest(t *testing.T) {
	output := `=== RUN   TestX
=== RUN   TestX/http1
    a_test.go:1: 10500 instructions per request, 10000 at HEAD: +5.0 %
    a_test.go:1: 10100 instructions per request, 10000 at HEAD: +1.0 %
=== RUN   TestX/frames
    a_test.go:1: 990 instructions per request, 1000 at HEAD: -1.0 %
--- PASS: TestX (1.00s)
`
	if got, ok := instructionsIn(output); !ok || len(got) != 2 || got[0] != 1.01 || got[1] != 0.99 {
		t.Errorf("%v, %v", got, ok)
	}
	if _, ok := instructionsIn("--- SKIP: TestX\nPASS\n"); ok {
		t.Error("figures of a test that was skipped")
	}
}

func TestHistoriesThatFailHaveNoFigure(t *testing.T) {
	if got, ok := noneIfPassed("--- PASS: TestY\nPASS\nok  x\n"); !ok || got[0] != 0 {
		t.Errorf("%v, %v", got, ok)
	}
	if _, ok := noneIfPassed("--- FAIL: TestY\nFAIL\n"); ok {
		t.Error("a figure of a test that failed")
	}
}
