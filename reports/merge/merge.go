// Package merge puts the results of several runs together to that of one.
//
// Result trees flow in, one flows out; nothing is read, written or judged
// again. Its verdict follows from the claims of all parts by the rules of every
// run (result.Run.Conclude), not from the verdicts of the parts. A claim that
// stands in two runs is refused, and so are parts of different plans; a part of
// a plan that is missing makes the merged run an error that names it.
package merge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// MismatchError says that runs are not parts of one.
type MismatchError struct{ Problem string }

func (e *MismatchError) Error() string { return e.Problem }

// Runs merges the runs into one with the given ID. They may be the shards of
// one plan, or runs of different scenarios. The runs that were given are not
// changed. The error is a *MismatchError or wraps a *result.DuplicateError.
func Runs(id string, runs ...*result.Run) (*result.Run, error) {
	if len(runs) == 0 {
		return nil, &MismatchError{"there is no run to merge"}
	}
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b *result.Run) int { return cmp.Compare(index(a), index(b)) })
	missing, err := fit(runs)
	if err != nil {
		return nil, err
	}
	first := runs[0]
	out := &result.Run{SchemaVersion: result.SchemaVersion, ID: id, Seed: first.Seed, Started: first.Started, Finished: first.Finished}
	where := map[string]string{}
	for _, run := range runs {
		part := partOf(run)
		out.Parts = append(out.Parts, part)
		if run.Started.Before(out.Started) {
			out.Started = run.Started
		}
		if run.Finished.After(out.Finished) {
			out.Finished = run.Finished
		}
		if run.Seed != out.Seed {
			out.Seed = 0 // the parts tell theirs
		}
		for _, scenario := range run.Scenarios {
			if other, twice := where[scenario.Name]; twice {
				return nil, &MismatchError{fmt.Sprintf("scenario %s is in %s and in %s; merge runs of different scenarios", scenario.Name, other, part)}
			}
			where[scenario.Name] = part.String()
			out.Scenarios = append(out.Scenarios, scenario)
		}
		for _, timing := range run.Timings {
			out.Timings = append(out.Timings, result.Timing{Name: part.String() + ": " + timing.Name, Seconds: timing.Seconds})
		}
	}
	out.Timings = append(out.Timings, result.Timing{Name: "total", Seconds: out.Finished.Sub(out.Started).Seconds()})
	if _, _, err := out.Index(); err != nil {
		return nil, err
	}
	// The order of the plan is that of the files.
	slices.SortStableFunc(out.Scenarios, func(a, b result.Scenario) int {
		return cmp.Or(strings.Compare(a.Source.File, b.Source.File), cmp.Compare(a.Source.Line, b.Source.Line))
	})
	out.Noise = noisiest(runs) // before it concludes anything
	out.Tool, out.Cluster, out.Mesh = tool(runs), oneCluster(runs), oneMesh(runs)
	out.Figures, out.Features, out.WallTime = figures(runs), features(runs), wallTime(runs)
	conclude(out, runs, missing)
	return out, nil
}

// wallTime is the parts' time one after the other, by phase: side by side they may
// have been on machines of their own.
func wallTime(runs []*result.Run) []result.Spent {
	var out []result.Spent
	for _, run := range runs {
		for _, one := range run.WallTime {
			at := slices.IndexFunc(out, func(other result.Spent) bool { return other.On == one.On })
			if at < 0 {
				out = append(out, one)
				continue
			}
			out[at].Seconds += one.Seconds
			out[at].Work += one.Work
		}
	}
	return out
}

// noisiest is the noise of the part whose machine can tell least; nil when none has
// any.
func noisiest(runs []*result.Run) *result.Noise {
	var worst *result.Noise
	for _, run := range runs {
		if run.Noise != nil && (worst == nil || run.Noise.Floor > worst.Floor) {
			worst = run.Noise
		}
	}
	return worst
}

// features are those of all runs, each once, in the order of the first.
func features(runs []*result.Run) []result.Feature {
	var all []result.Feature
	for _, run := range runs {
		for _, one := range run.Features {
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	return all
}

func index(run *result.Run) int {
	if run.Shard == nil {
		return 0
	}
	return run.Shard.Index
}

// fit checks that the shards are those of one plan, and names those that are
// missing.
func fit(runs []*result.Run) (missing []*result.Shard, err error) {
	var first *result.Run
	have := map[int]*result.Run{}
	for _, run := range runs {
		s := run.Shard
		switch {
		case s == nil:
			continue
		case s.Count < 1 || s.Index < 1 || s.Index > s.Count:
			return nil, &MismatchError{fmt.Sprintf("run %s says that it is %s", run.ID, s)}
		case first == nil:
			first = run
		case s.Count != first.Shard.Count:
			return nil, &MismatchError{fmt.Sprintf("run %s is %s and run %s is %s", first.ID, first.Shard, run.ID, s)}
		case s.Plan != first.Shard.Plan:
			return nil, &MismatchError{fmt.Sprintf("%s and %s are of different plans: choose the same scenarios, with the same version, for all of them", first.Shard, s)}
		case s.Group != first.Shard.Group:
			return nil, &MismatchError{fmt.Sprintf("%s and %s are of different runs, %s and %s", first.Shard, s, first.Shard.Group, s.Group)}
		}
		if other := have[s.Index]; other != nil {
			return nil, &MismatchError{fmt.Sprintf("runs %s and %s are both %s", other.ID, run.ID, s)}
		}
		have[s.Index] = run
	}
	if first == nil {
		return nil, nil
	}
	if len(have) < len(runs) {
		return nil, &MismatchError{fmt.Sprintf("run %s is %s, and another run is none", first.ID, first.Shard)}
	}
	for i := 1; i <= first.Shard.Count; i++ {
		if have[i] == nil {
			one := *first.Shard
			one.Index = i
			missing = append(missing, &one)
		}
	}
	return missing, nil
}

func partOf(run *result.Run) result.Part {
	return result.Part{Run: run.ID, Shard: run.Shard, Outcome: run.Outcome, ExitCode: run.ExitCode, Reason: run.Reason, Seed: run.Seed,
		Claims: run.Count().Total, Seconds: run.Finished.Sub(run.Started).Seconds()}
}

// conclude finds outcome and exit code. What a part could not do, and parts
// that are missing, are reasons of the whole; that a part had nothing to judge
// is none.
func conclude(out *result.Run, runs []*result.Run, missing []*result.Shard) {
	var why, ended causes
	code := 0
	input, internal := false, false
	claims, all := out.Count().Total, 0
	for i, run := range runs {
		if run.Shard != nil {
			all = run.Shard.Claims
		}
		switch {
		case run.ExitCode > 128:
			ended.add(run.Reason, out.Parts[i])
			code = cmp.Or(code, run.ExitCode)
		case run.Outcome == result.Error, run.Outcome == result.Failed && run.Reason != "":
			why.add(run.Reason, out.Parts[i])
			input = input || run.ExitCode == result.ExitInput
			internal = internal || run.ExitCode == result.ExitInternal
		}
	}
	reasons := why.lines()
	for _, shard := range missing {
		reasons = append(reasons, fmt.Sprintf("%s is missing", shard))
	}
	if len(missing) == 0 && claims < all {
		reasons = append(reasons, fmt.Sprintf("the shards have %d of the plan's %d claims", claims, all))
	}
	var end *result.End
	if len(reasons) == 0 && code != 0 {
		end = &result.End{Outcome: result.Inconclusive, ExitCode: code, Reason: strings.Join(ended.lines(), "; ")}
	} else { // to be in error weighs more than to have been ended
		reasons = append(reasons, ended.lines()...)
	}
	out.Reason = strings.Join(reasons, "; ")
	out.Conclude(end, input)
	if internal && out.Outcome == result.Error {
		out.ExitCode = result.ExitInternal
	}
}

// causes are reasons with the parts that share them, in the order of the parts.
type causes struct {
	reasons []string
	parts   map[string][]string
}

func (c *causes) add(reason string, part result.Part) {
	if c.parts == nil {
		c.parts = map[string][]string{}
	}
	if c.parts[reason] == nil {
		c.reasons = append(c.reasons, reason)
	}
	c.parts[reason] = append(c.parts[reason], part.String())
}

func (c *causes) lines() []string {
	var lines []string
	for _, reason := range c.reasons {
		lines = append(lines, strings.Join(c.parts[reason], ", ")+": "+reason)
	}
	return lines
}

// Missing lists the shards that a merged run lacks; nil when it is complete or
// was not made of shards.
func Missing(run *result.Run) []*result.Shard {
	var parts []*result.Run
	for _, part := range run.Parts {
		parts = append(parts, &result.Run{ID: part.Run, Shard: part.Shard})
	}
	missing, err := fit(parts)
	if err != nil {
		return nil
	}
	return missing
}

// common is the value that all runs have, or all their values.
func common(runs []*result.Run, value func(*result.Run) string) string {
	var values []string
	for _, run := range runs {
		if v := value(run); v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return strings.Join(values, ", ")
}

func tool(runs []*result.Run) result.Tool {
	return result.Tool{Version: common(runs, func(r *result.Run) string { return r.Tool.Version }), Go: common(runs, func(r *result.Run) string { return r.Tool.Go })}
}

func oneCluster(runs []*result.Run) result.Cluster {
	out := result.Cluster{
		Provider:   common(runs, func(r *result.Run) string { return r.Cluster.Provider }),
		Name:       common(runs, func(r *result.Run) string { return r.Cluster.Name }),
		Kubernetes: common(runs, func(r *result.Run) string { return r.Cluster.Kubernetes }),
	}
	for _, run := range runs {
		out.Nodes = max(out.Nodes, run.Cluster.Nodes)
		out.Rootless = out.Rootless || run.Cluster.Rootless
	}
	return out
}

func oneMesh(runs []*result.Run) result.Mesh {
	out := result.Mesh{
		Name:          common(runs, func(r *result.Run) string { return r.Mesh.Name }),
		Version:       common(runs, func(r *result.Run) string { return r.Mesh.Version }),
		Proxy:         common(runs, func(r *result.Run) string { return r.Mesh.Proxy }),
		Dialect:       common(runs, func(r *result.Run) string { return r.Mesh.Dialect }),
		DefaultPolicy: common(runs, func(r *result.Run) string { return r.Mesh.DefaultPolicy }),
	}
	for _, run := range runs {
		for _, network := range run.Mesh.ClusterNetworks {
			if !slices.Contains(out.ClusterNetworks, network) {
				out.ClusterNetworks = append(out.ClusterNetworks, network)
			}
		}
	}
	return out
}
