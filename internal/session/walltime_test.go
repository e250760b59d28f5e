package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// slow is a provider whose clusters take so long not to come about.
type slow struct {
	cluster.Provider
	takes time.Duration
}

func (slow) Kind() string { return "slow" }

func (slow) Cleanup(context.Context) ([]string, error) { return nil, nil }

func (s slow) Create(context.Context, cluster.Options) (cluster.Cluster, error) {
	time.Sleep(s.takes)
	return nil, errors.New("no room")
}

func TestWhatTheTimeWentIntoAddsUpToTheWholeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 5 * time.Second
		out := Run(context.Background(), &scenarios.Plan{Set: &scenarios.Set{}}, Options{Provider: slow{takes: takes}})
		if d := cmp.Diff([]result.Spent{{On: "cluster", Seconds: takes.Seconds()}}, out.WallTime); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if d := cmp.Diff([]result.Timing{{Name: "total", Seconds: takes.Seconds()}}, out.Timings); d != "" {
			t.Errorf("timings (-want +got):\n%s", d)
		}
	})
}
