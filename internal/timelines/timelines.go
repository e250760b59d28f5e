// Package timelines makes of a run's history what a page shows besides the
// result tree: the time line of each scenario with traffic, how long changes
// took, and which parts of the policy space were seen.
//
// A run's folder flows in; result.Run.Evidence and result.Run.Samples flow out.
// Recordings are judged by internal/transition, as the engine judges them, so
// that the page shows the findings of the run's verdict and none of its own. Log
// lines are taken from the evidence that a scenario has left, within bounds. It
// writes no files.
package timelines

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

// Attach adds to a run what the history in its folder tells, and what those of
// its scenarios tell that have folders of their own. What is missing adds nothing.
// What could be made stays also when an error is returned.
func Attach(dir string, run *result.Run) error {
	of := map[string]map[string]evidence{} // scenarios by folder
	var errs []error
	var files fs.FS
	switch root, err := os.OpenRoot(dir); { // what is named in a run leads nowhere out of its folder
	case err == nil:
		defer root.Close()
		files = root.FS()
	case !errors.Is(err, fs.ErrNotExist):
		errs = append(errs, fmt.Errorf("read what was kept: %w", err))
	}
	bundles := 0
	for _, s := range run.Scenarios {
		if s.Bundle != "" {
			bundles++
		}
	}
	for _, s := range run.Scenarios {
		if of[s.Folder] == nil {
			of[s.Folder] = map[string]evidence{}
		}
		of[s.Folder][s.Name] = evidence{files: files, bundle: filepath.ToSlash(s.Bundle), outcome: s.Outcome, room: mostLogs / max(bundles, 1)}
	}
	a := &attaching{run: run, evidence: &timeline.Evidence{}, cover: newCover(run), samples: newSamples()}
	found := false
	for _, folder := range slices.Sorted(maps.Keys(of)) {
		if folder != "" && !filepath.IsLocal(folder) {
			continue
		}
		h, err := history.Open(filepath.Join(dir, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read what happened: %w", err))
			continue
		}
		found = true
		errs = append(errs, a.add(h, of[folder]))
	}
	if found {
		errs = append(errs, a.done())
	}
	return errors.Join(errs...)
}

// attaching collects what goes into a run.
type attaching struct {
	run      *result.Run
	evidence *timeline.Evidence
	cover    *cover
	samples  samples
	// later are the time lines of scenarios that passed, which are drawn when there
	// is room; requests counts those that are drawn.
	later    []*maker
	requests int
}

// mostRequests is how many requests a page holds: what a browser opens at once and
// a mail carries. Scenarios that have not passed are drawn whatever their number.
const mostRequests = 100_000

func (a *attaching) passed(scenario string) bool {
	return slices.ContainsFunc(a.run.Scenarios, func(s result.Scenario) bool { return s.Name == scenario && s.Outcome == result.Passed })
}

// draw makes a time line.
func (a *attaching) draw(one *maker) error {
	line, err := one.make()
	if err != nil {
		return fmt.Errorf("draw %s: %w", one.r.Scenario, err)
	}
	a.requests += len(one.r.Requests)
	a.evidence.Timelines = append(a.evidence.Timelines, *line)
	return nil
}

// add takes what a history tells of some scenarios.
func (a *attaching) add(h *history.History, of map[string]evidence) error {
	for _, q := range h.Questions {
		a.cover.question(q)
	}
	var errs []error
	for _, recording := range h.Recordings {
		kept, asked := of[recording.Scenario]
		if !asked {
			continue
		}
		v, err := transition.Judge(recording, h.Worlds, oracle.DefaultRules())
		if err != nil {
			errs = append(errs, fmt.Errorf("judge %s: %w", recording.Scenario, err))
			continue
		}
		one := &maker{r: recording, v: v, texts: map[string]int{}, kept: kept}
		if a.passed(recording.Scenario) && len(v.Findings) == 0 {
			a.later = append(a.later, one)
		} else {
			errs = append(errs, a.draw(one))
		}
		a.evidence.Changes = append(a.evidence.Changes, one.changes()...)
		a.samples.recording(recording, v)
		if err := a.cover.recording(recording, v); err != nil {
			errs = append(errs, fmt.Errorf("what %s covers: %w", recording.Scenario, err))
		}
	}
	return errors.Join(errs...)
}

// done puts the collected into the run.
func (a *attaching) done() error {
	var errs []error
	for _, one := range a.later {
		if a.requests+len(one.r.Requests) > mostRequests {
			a.evidence.Omitted++
			continue
		}
		errs = append(errs, a.draw(one))
	}
	a.evidence.Coverage = a.cover.table()
	a.run.Evidence, a.run.Samples = a.evidence, a.samples.list()
	return errors.Join(errs...)
}
