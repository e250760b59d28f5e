package again

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// JournalFile is what a run calls its journal, in its folder.
const JournalFile = "journal.jsonl"

// Journal remembers the scenarios of a run that have a verdict. It is safe for
// concurrent use.
type Journal struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

// Begun is the first line of a journal: what was asked for.
type Begun struct {
	// Note tells people what the file is.
	Note string `json:"note"`
	Run  string `json:"run"`
	Seed int64  `json:"seed"`
	// Select are the arguments that choose what is run.
	Select []string `json:"select"`
}

const note = "journal of a meshproof run: one line for each scenario that has a verdict; meshproof run --resume FOLDER goes on from here"

// entry is any line.
type entry struct {
	Begun    *Begun           `json:"begun,omitempty"`
	Scenario *result.Scenario `json:"scenario,omitempty"`
}

// Begin begins a journal in a run's folder, with the scenarios that have a verdict
// already.
func Begin(dir string, begun Begun, settled []result.Scenario) (*Journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, JournalFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("begin the journal: %w", err)
	}
	j := &Journal{file: file}
	begun.Note = note
	j.add(entry{Begun: &begun})
	for i := range settled {
		j.Add(&settled[i])
	}
	return j, nil
}

// Add remembers a scenario, unless it was kept from being judged. An error stays
// until Close.
func (j *Journal) Add(s *result.Scenario) {
	if s.Outcome == result.Error {
		return
	}
	j.add(entry{Scenario: s})
}

func (j *Journal) add(e entry) {
	text, err := json.Marshal(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.file.Write(append(text, '\n'))
	}
	j.err = errors.Join(j.err, err)
}

// Close ends the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := errors.Join(j.err, j.file.Close()); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// Read reads the journal in a run's folder. A last line that was cut off by a
// crash is left out. The error wraps fs.ErrNotExist where there is none.
func Read(dir string) (*Begun, []result.Scenario, error) {
	path := filepath.Join(dir, JournalFile)
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the journal: %w", err)
	}
	defer file.Close() // read only: nothing can be lost
	var begun *Begun
	var settled []result.Scenario
	for reader, number := bufio.NewReader(file), 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // without an end, the line was cut off
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the journal %s: %w", path, err)
		}
		var e entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, nil, fmt.Errorf("read the journal %s:%d: %w", path, number, err)
		}
		switch {
		case e.Begun != nil:
			begun = e.Begun
		case e.Scenario != nil:
			settled = append(settled, *e.Scenario)
		}
	}
	if begun == nil {
		return nil, nil, fmt.Errorf("read the journal %s: it does not begin with what was asked for", path)
	}
	return begun, settled, nil
}

// Earlier is the folder, below that of a run that was resumed, to which the
// evidence of the run before it was copied.
func Earlier(run string) string { return "earlier/" + run }

// Join puts the scenarios of an earlier run before those of the run that has
// resumed it, in the order of the plan, and concludes it anew.
func Join(out *result.Run, plan *scenarios.Plan, settled []result.Scenario) {
	have := map[string]result.Scenario{}
	for _, s := range append(settled, out.Scenarios...) {
		have[s.Name] = s
	}
	out.Scenarios = nil
	for _, p := range plan.Scenarios {
		if s, done := have[p.Metadata.Name]; done {
			out.Scenarios = append(out.Scenarios, s)
		}
	}
	out.Again()
}
