package text

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
)

func TestAMergedRunTellsOfItsParts(t *testing.T) {
	var out strings.Builder
	run := &result.Run{Seed: 7, Parts: []result.Part{
		{Run: "r1", Shard: &result.Shard{Index: 1, Count: 2}, Outcome: result.Passed, Claims: 3, Seconds: 61.23, Seed: 7},
		{Run: "r2", Shard: &result.Shard{Index: 2, Count: 2}, Outcome: result.Failed, Claims: 4, Seconds: 5, Seed: 8}}}
	if err := Summary(&out, run, "report.html"); err != nil {
		t.Fatal(err)
	}
	want := "✓ shard 1 of 2  passed, 3 claims in 1m1.2s, run r1\n✗ shard 2 of 2  failed, 4 claims in 5s, run r2, seed 8\n"
	if !strings.Contains(out.String(), want) {
		t.Errorf("the summary lacks\n%s:\n%s", want, out.String())
	}
}
