package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/incluster"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// sharding is which part of a plan a run carries out, and whom it tells.
type sharding struct {
	asked   string
	publish bool
	// self is set when the result is published, shard when this is a part.
	self  *incluster.Self
	shard *result.Shard
}

func addShardFlags(cmd *cobra.Command) *sharding {
	s := &sharding{}
	cmd.Flags().StringVar(&s.asked, "shard", "", "run part `I/N` of the plan, such as 2/3; auto/N is the part of this pod of an Indexed Job")
	cmd.Flags().BoolVar(&s.publish, "publish", false, "hand the result over to meshproof retrieve, as a pod of an Indexed Job")
	return s
}

// of is the part of the plan that is asked for: all of it when none is.
func (s *sharding) of(plan *scenarios.Plan) (*scenarios.Plan, error) {
	if s.publish {
		var err error
		if s.self, err = incluster.Myself(os.Getenv); err != nil {
			return nil, usageError("--publish: %w", err)
		}
		if s.asked == "" {
			return nil, usageError("--publish: say with --shard auto/N how many shards there are")
		}
	}
	if s.asked == "" {
		return plan, nil
	}
	index, count, err := parseShard(s.asked)
	if err != nil {
		return nil, err
	}
	s.shard = &result.Shard{Index: index, Count: count, Plan: plan.Digest(), Claims: len(plan.Claims())}
	if s.self != nil {
		s.shard.Group = string(s.self.UID)
	}
	return scenarios.Shard(plan, index-1, count), nil
}

// parseShard reads I/N, counted from 1.
func parseShard(text string) (index, count int, err error) {
	first, second, cut := strings.Cut(text, "/")
	count, err = strconv.Atoi(second)
	if !cut || err != nil || count < 1 {
		return 0, 0, usageError("--shard %q: want I/N with I from 1 to N, or auto/N", text)
	}
	if first == "auto" {
		if index, err = incluster.Index(os.Getenv); err != nil {
			return 0, 0, usageError("--shard %s: %w", text, err)
		}
		if index > count {
			return 0, 0, usageError("--shard %s: this pod is shard %d: completions of the Job must be %d", text, index, count)
		}
		return index, count, nil
	}
	if index, err = strconv.Atoi(first); err != nil || index < 1 || index > count {
		return 0, 0, usageError("--shard %q: want I/N with I from 1 to N, or auto/N", text)
	}
	return index, count, nil
}

// identify gives a run that begins now its ID, and its seed when the user gave
// none: the shards of one Job have the same.
func (s *sharding) identify(now time.Time) (id string, seed int64) {
	if s.self == nil {
		return session.NewID(now), now.UnixNano()
	}
	return incluster.RunID(now, s.self.UID, s.self.Shard), incluster.Seed(s.self.UID)
}

// run runs the part. An empty one needs no cluster and passes.
func (s *sharding) run(ctx context.Context, part *scenarios.Plan, options session.Options) *result.Run {
	if s.shard == nil {
		return session.Run(ctx, part, options)
	}
	if len(part.Scenarios) > 0 {
		out := session.Run(ctx, part, options)
		out.Shard = s.shard
		return out
	}
	now := time.Now()
	out := &result.Run{SchemaVersion: result.SchemaVersion, ID: options.ID, Tool: result.Tool{Version: options.Version}, Seed: options.Seed,
		Started: now, Finished: now, Shard: s.shard}
	out.Conclude(nil, false)
	return out
}

// hand publishes the result, when that is asked for.
func (s *sharding) hand(ctx context.Context, out *result.Run) error {
	if s.self == nil {
		return nil
	}
	provider, err := kubeconfig.New(kubeconfig.Options{InCluster: true})
	if err != nil {
		return err
	}
	config, err := provider.Config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if err := s.self.Publish(ctx, client, out); err != nil {
		return &cluster.SetupError{Cause: "hand over the result", Err: err}
	}
	return nil
}
