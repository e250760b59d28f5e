package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

func TestAShardIsOneOfAllAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		flag, index  string
		first, count int
	}{
		{"1/1", "", 1, 1}, {"2/3", "", 2, 3}, {"3/3", "", 3, 3}, {"auto/3", "0", 1, 3}, {"auto/3", "2", 3, 3},
		{"", "", 0, 0}, {"0/3", "", 0, 0}, {"4/3", "", 0, 0}, {"1/0", "", 0, 0}, {"1", "", 0, 0}, {"a/3", "", 0, 0}, {"1/3/5", "", 0, 0}, {"-1/3", "", 0, 0},
		{"auto/3", "", 0, 0}, {"auto/3", "3", 0, 0}, {"auto", "0", 0, 0}, {"auto/3", "x", 0, 0},
	} {
		t.Setenv("JOB_COMPLETION_INDEX", c.index)
		index, count, err := parseShard(c.flag)
		if index != c.first || count != c.count || (err != nil) != (c.first == 0) {
			t.Errorf("--shard %q in pod %q: %d of %d, %v", c.flag, c.index, index, count, err)
		}
	}
}

// The shards of a plan list every claim once, and so will the pods of a Job.
func TestShardsOfTheDryRunAreTheWhole(t *testing.T) {
	lines := func(args ...string) []string {
		code, out, talk := runLine(t, append([]string{"run", "--dry-run"}, args...)...)
		if code != ExitOK {
			t.Fatalf("%v: %s", args, talk)
		}
		all := strings.Split(strings.TrimSpace(out), "\n")
		return all[1 : len(all)-1] // without head and count
	}
	ids := func(lines []string) map[string]bool {
		all := map[string]bool{}
		for _, line := range lines {
			all[strings.Fields(line)[0]] = true
		}
		return all
	}
	whole, parts := ids(lines()), map[string]bool{}
	for _, shard := range []string{"1/3", "2/3", "3/3"} {
		for id := range ids(lines("--shard", shard)) {
			if parts[id] || !whole[id] {
				t.Errorf("%s is in shard %s, and elsewhere or not in the plan", id, shard)
			}
			parts[id] = true
		}
	}
	if len(parts) != len(whole) {
		t.Errorf("the shards have %d of %d claims", len(parts), len(whole))
	}
}

func TestBadShardsAreRefusedBeforeAnythingBegins(t *testing.T) {
	t.Setenv("JOB_COMPLETION_INDEX", "")
	for _, args := range [][]string{{"--shard", "4/3"}, {"--shard", "auto/3"}, {"--publish"}, {"--publish", "--shard", "1/2"}} {
		folder := filepath.Join(t.TempDir(), "artifacts")
		code, out, talk := runLine(t, append([]string{"run", "--output-dir", folder, "walk-through"}, args...)...)
		if code != ExitUsage || out != "" || strings.Count(talk, "\n") != 1 {
			t.Errorf("%v: exit code %d, printed %q, said %q", args, code, out, talk)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%v: a folder stays behind", args)
		}
	}
}

// More shards than scenarios leaves some empty; those need no cluster, pass, and
// do not make the whole inconclusive.
func TestAnEmptyShardPassesAndMerges(t *testing.T) {
	folder := t.TempDir()
	args := []string{"run", "--output-dir", folder, "-q", "walk-through", "--shard", "2/2"}
	if code, out, talk := runLine(t, append(args, "--dry-run")...); code != ExitOK || !strings.Contains(out, "0 claims in 0 scenarios") {
		t.Fatalf("shard 2 of 2 is not empty: %s%s", out, talk)
	}
	code, out, talk := runLine(t, args...)
	if code != ExitOK || !strings.Contains(out, "nothing to do: shard 2 of 2 has no claims") {
		t.Fatalf("exit code %d, printed %q, said %q", code, out, talk)
	}
	empty, err := reports.Read(filepath.Join(folder, "latest"))
	if err != nil || empty.Outcome != result.Skipped || empty.Shard == nil || empty.Shard.Claims == 0 {
		t.Fatalf("%+v, %v", empty, err)
	}
	other := runOf("20261122-000000-aaaa", "walk-through", "a=passed")
	other.Shard = &result.Shard{Index: 1, Count: 2, Plan: empty.Shard.Plan, Claims: 1}
	empty.Shard.Claims = 1
	first, second := filepath.Join(t.TempDir(), "1"), filepath.Join(t.TempDir(), "2")
	if err := reports.WriteAll(first, other); err != nil {
		t.Fatal(err)
	}
	if err := reports.WriteAll(second, empty); err != nil {
		t.Fatal(err)
	}
	if code, out, talk := runLine(t, "report", first, second, "--output-dir", t.TempDir()); code != ExitOK || !strings.Contains(out, "outcome passed") {
		t.Errorf("merged: exit code %d, printed %q, said %q", code, out, talk)
	}
}
