package fuzz

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// shrinkBudget is how long a finding is made smaller at most; what there is then
	// is written.
	shrinkBudget = 3 * time.Minute
	// shrinkMost is how many findings of a run are made smaller, the first of each
	// kind before further ones of a kind.
	shrinkMost = 4
	// confirmations is how often the smallest scenario is carried out once more.
	confirmations = 3
)

// smaller makes the findings smaller and writes them.
func (f *Fuzz) smaller(ctx context.Context, b bench) error {
	most := shrinkMost
	if !f.KeepGoing {
		most = 1
	}
	all := slices.DeleteFunc(f.Findings(), func(found *Finding) bool { return found.Kind == Unlike })
	for i, found := range foremost(all) {
		if i >= most || ctx.Err() != nil {
			break
		}
		f.tell("making %s smaller", found.Case.Scenario.Metadata.Name)
		if err := f.shrink(ctx, b, found); err != nil {
			return err
		}
		size := generate.SizeOf(found.Small)
		f.tell("%s: %d objects and %d steps after %d attempts in %.1fs; it recurred %d of %d times: %s", found.Case.Scenario.Metadata.Name, size.Objects, size.Steps,
			found.Shrunk.Attempts, found.Shrunk.Took.Seconds(), found.Shrunk.Again, found.Shrunk.Of, found.File)
	}
	return nil
}

// foremost has the first finding of each kind before further ones, in the order of
// Kinds: what one call shows recurs for certain and says most.
func foremost(all []*Finding) []*Finding {
	var first, more []*Finding
	for _, kind := range Kinds() {
		seen := false
		for _, one := range all {
			switch {
			case one.Kind != kind:
			case seen:
				more = append(more, one)
			default:
				first, seen = append(first, one), true
			}
		}
	}
	return append(first, more...)
}

// shrinking is one finding while it is made smaller.
type shrinking struct {
	f     *Fuzz
	b     bench
	found *Finding
	// best is the smallest scenario in which the finding recurred, and last what it
	// told there.
	best *scenarios.Scenario
	last *Finding
	// needed are the details, by what they are, without which it did not recur; they
	// are not tried again. Objects are: one may be needed only for another.
	needed map[string]bool
}

// shrink makes one finding smaller for as long as that is worth it, and writes it.
func (f *Fuzz) shrink(ctx context.Context, b bench, found *Finding) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, shrinkBudget)
	defer cancel()
	s := &shrinking{f: f, b: b, found: found, best: found.Case.Scenario, last: found, needed: map[string]bool{}}
	s.coarse(bounded)
	for again := true; again && bounded.Err() == nil; {
		for s.together(bounded, generate.Fine) {
		}
		again = false
		for s.together(bounded, generate.Fields) {
			again = true
		}
	}
	for bounded.Err() == nil && s.first(bounded, []generate.Reduction{{What: "half the traffic", Do: generate.Halve}}) {
	}
	found.Small = s.best
	s.confirm(ctx)
	found.Shrunk.Took = time.Since(began)
	return f.write(found, s.last)
}

// coarse takes the boldest reduction that keeps the finding.
func (s *shrinking) coarse(ctx context.Context) {
	planned, _, err := generate.Plan(s.best)
	if err != nil {
		return
	}
	s.first(ctx, generate.Coarse(generate.FocusOf(planned, s.found.Step, s.found.Claim)))
}

// first takes the first of the reductions that keeps the finding. All are tried at
// once.
func (s *shrinking) first(ctx context.Context, reductions []generate.Reduction) bool {
	kept := s.try(ctx, singly(reductions))
	for i := range reductions {
		if kept[i] != nil {
			s.take(kept[i])
			return true
		}
	}
	return false
}

// together finds out which of the reductions keep the finding each, and takes as
// many of them together as do. It reports whether it took any.
func (s *shrinking) together(ctx context.Context, list func(*scenarios.Scenario) []generate.Reduction) bool {
	reductions := slices.DeleteFunc(list(s.best), func(r generate.Reduction) bool { return s.needed[r.What] })
	kept := s.try(ctx, singly(reductions))
	var good []generate.Reduction
	var alone *attempt
	for i, one := range kept {
		if one == nil {
			s.needed[reductions[i].What] = !reductions[i].Whole
			continue
		}
		good = append(good, reductions[i])
		if alone == nil {
			alone = one
		}
	}
	if len(good) == 0 || ctx.Err() != nil {
		return false
	}
	// What can go alone cannot always go with others.
	var sets [][]generate.Reduction
	for n := len(good); n > 1; n = (n + 1) / 2 {
		sets = append(sets, good[:n])
		if n == 2 {
			break
		}
	}
	for i, one := range s.try(ctx, sets) {
		if one != nil && i < len(sets) {
			s.take(one)
			return true
		}
	}
	s.take(alone)
	return true
}

func singly(reductions []generate.Reduction) [][]generate.Reduction {
	sets := make([][]generate.Reduction, len(reductions))
	for i := range reductions {
		sets[i] = reductions[i : i+1]
	}
	return sets
}

// attempt is a smaller scenario that was carried out and showed the finding.
type attempt struct {
	scenario *scenarios.Scenario
	found    *Finding
}

func (s *shrinking) take(a *attempt) { s.best, s.last = a.scenario, a.found }

// try carries out the scenarios that sets of reductions lead to, several at a
// time, and returns for each set the attempt that showed the finding, or nil.
func (s *shrinking) try(ctx context.Context, sets [][]generate.Reduction) []*attempt {
	out := make([]*attempt, len(sets))
	slots := make(chan struct{}, s.f.Parallel)
	var group sync.WaitGroup
	done := map[string]int{}
	for i, set := range sets {
		smaller, err := generate.Reduced(s.best, set...)
		if err != nil {
			continue
		}
		// Different reductions can lead to the same scenario.
		text, err := generate.Write(smaller)
		if err != nil || ctx.Err() != nil {
			continue
		}
		if _, twice := done[string(text)]; twice {
			continue
		}
		done[string(text)] = i
		name := s.name()
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = s.carry(ctx, smaller, name)
		})
	}
	group.Wait()
	return out
}

// name is that of the next attempt: namespaces of earlier ones may still stand.
func (s *shrinking) name() string {
	s.found.Shrunk.Attempts++
	return fmt.Sprintf("%s-s%d", s.found.Case.Scenario.Metadata.Name, s.found.Shrunk.Attempts)
}

// carry has a scenario carried out under a name, and returns it when it shows the
// same kind of finding.
func (s *shrinking) carry(ctx context.Context, one *scenarios.Scenario, name string) *attempt {
	if ctx.Err() != nil {
		return nil
	}
	named := *one
	named.Metadata.Name = name
	planned, _, err := generate.Plan(&named)
	if err != nil {
		return nil
	}
	res := s.b.Try(ctx, planned)
	found := find(res, s.found.Case)
	if res.Outcome == result.Error || found == nil || found.Kind != s.found.Kind || ctx.Err() != nil {
		return nil
	}
	return &attempt{one, found}
}

// confirm carries out the smallest scenario a few times more.
func (s *shrinking) confirm(ctx context.Context) {
	var group sync.WaitGroup
	var mu sync.Mutex
	for range confirmations {
		name := s.name()
		group.Go(func() {
			again := s.carry(ctx, s.best, name)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			s.found.Shrunk.Of++
			if again != nil {
				s.found.Shrunk.Again++
			}
		})
	}
	group.Wait()
}

// FindingsFolder holds the smallest scenarios, in the run's folder.
const FindingsFolder = "findings"

// write writes the smallest scenario of a finding with what it is about.
func (f *Fuzz) write(found, last *Finding) error {
	small := *found.Small
	c := found.Case
	small.Metadata.Name = fmt.Sprintf("found-%d-%d", c.Seed, c.Index)
	small.Spec.Summary = fmt.Sprintf("%s: %s", found.Kind, last.Name)
	size := generate.SizeOf(&small)
	about := []string{
		fmt.Sprintf("Found by meshproof fuzz --seed %d (scenario %d, generator %d): %s.", c.Seed, c.Index, generate.Version, found.Kind),
		told(last),
		fmt.Sprintf("Made smaller in %d attempts, to %d objects and %d steps; it recurred %d of %d times.", found.Shrunk.Attempts, size.Objects, size.Steps, found.Shrunk.Again, found.Shrunk.Of),
		"The rules say what is expected. To see it again: meshproof run THIS-FILE",
	}
	text, err := generate.Write(&small, about...)
	if err != nil {
		return err
	}
	if f.Dir == "" {
		return nil
	}
	found.File = filepath.Join(f.Dir, FindingsFolder, fmt.Sprintf("%s-%d-%d.yaml", found.Kind, c.Seed, c.Index))
	if err := os.MkdirAll(filepath.Dir(found.File), 0o755); err != nil {
		return fmt.Errorf("write the finding: %w", err)
	}
	if err := os.WriteFile(found.File, text, 0o644); err != nil {
		return fmt.Errorf("write the finding: %w", err)
	}
	return nil
}

// told is what a finding says, in lines.
func told(f *Finding) string {
	var lines []string
	for _, field := range []struct{ name, value string }{{"claim", f.Name}, {"expected", f.Expected}, {"observed", f.Observed}, {"reason", f.Reason}} {
		if field.value != "" {
			lines = append(lines, fmt.Sprintf("%-9s %s", field.name, field.value))
		}
	}
	return strings.Join(lines, "\n")
}
