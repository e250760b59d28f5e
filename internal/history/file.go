package history

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// FileName is what a run calls its history, in its folder.
const FileName = "history.jsonl.gz"

// line is one line of the file: a world, a question, all of a recording but its
// requests, or some of these.
type line struct {
	World    *World    `json:"world,omitempty"`
	Question *Question `json:"question,omitempty"`
	// Recording takes the place of an earlier one of the same scenario.
	Recording *Recording `json:"recording,omitempty"`
	Requests  *packed    `json:"requests,omitempty"`
}

// Writer writes the history of a run. It is safe for concurrent use. A nil
// Writer forgets everything.
type Writer struct {
	mu     sync.Mutex
	file   *os.File
	zip    *gzip.Writer
	worlds map[string]bool
	err    error
}

// Create begins a history in a file that must not exist.
func Create(path string) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("begin the history: %w", err)
	}
	return &Writer{file: file, zip: gzip.NewWriter(file), worlds: map[string]bool{}}, nil
}

// NewWorld is a world with its ID, slimmed down to what the rules ask for.
func NewWorld(dialect string, world oracle.World, pods []*corev1.Pod) (*World, error) {
	w := &World{Dialect: dialect, World: world}
	for _, pod := range pods {
		w.Pods = append(w.Pods, Slim(pod))
	}
	text, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode a world: %w", err)
	}
	sum := sha256.Sum256(text)
	w.ID = hex.EncodeToString(sum[:8])
	return w, nil
}

// Add writes questions that were asked in a world, and the world unless it was
// written before. What it returns was flushed to the file. An error stays.
func (w *Writer) Add(world *World, questions ...*Question) error {
	if w == nil || len(questions) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	encoder := json.NewEncoder(w.zip)
	if !w.worlds[world.ID] {
		w.worlds[world.ID] = true
		w.err = encoder.Encode(line{World: world})
	}
	for _, q := range questions {
		q.World, q.world = world.ID, world
		w.err = errors.Join(w.err, encoder.Encode(line{Question: q}))
	}
	// A crash leaves all that was flushed.
	if w.err = errors.Join(w.err, w.zip.Flush()); w.err != nil {
		w.err = fmt.Errorf("write the history: %w", w.err)
	}
	return w.err
}

// Record writes a recording as it is so far, with the worlds that it names and
// its requests from a place to another. What it returns was flushed to the file.
func (w *Writer) Record(r *Recording, worlds map[string]*World, from, to int) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	encoder := json.NewEncoder(w.zip)
	named := []string{r.Base}
	for _, one := range r.Writes {
		named = append(named, one.World)
	}
	for _, one := range r.Proxies {
		named = append(named, one.World)
	}
	for _, id := range named {
		if world := worlds[id]; world != nil && !w.worlds[id] {
			w.worlds[id] = true
			w.err = errors.Join(w.err, encoder.Encode(line{World: world}))
		}
	}
	w.err = errors.Join(w.err, encoder.Encode(line{Recording: r}))
	if from < to {
		w.err = errors.Join(w.err, encoder.Encode(line{Requests: pack(r, from, to)}))
	}
	if w.err = errors.Join(w.err, w.zip.Flush()); w.err != nil {
		w.err = fmt.Errorf("write the history: %w", w.err)
	}
	return w.err
}

// Close ends the file.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.zip.Close(), w.file.Close())
}

// History is what was read.
type History struct {
	// Worlds by their IDs.
	Worlds map[string]*World
	// Questions in the order in which they were asked.
	Questions []*Question
	// Recordings of scenarios with traffic, in the order in which they began.
	Recordings []*Recording
	// Cut says that the file ends in the middle: its run did not come to its end.
	Cut bool
}

// Open reads the history in a run's folder. The error is os.ErrNotExist where the
// run left none.
func Open(folder string) (*History, error) { return Read(filepath.Join(folder, FileName)) }

// Read reads the history of a run. A file that was cut off by a crash is read as
// far as it goes.
func Read(path string) (*History, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer file.Close() // read only: nothing can be lost
	h := &History{Worlds: map[string]*World{}}
	zip, err := gzip.NewReader(bufio.NewReader(file))
	if errors.Is(err, io.EOF) {
		h.Cut = true
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history %s: %w", path, err)
	}
	recordings := map[string]*Recording{}
	for decoder := json.NewDecoder(zip); ; {
		var one line
		err := decoder.Decode(&one)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			h.Cut = true
			return h, nil
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("read the history %s: %w", path, err)
		case one.World != nil:
			h.Worlds[one.World.ID] = one.World
		case one.Question != nil:
			if one.Question.world = h.Worlds[one.Question.World]; one.Question.world == nil {
				return nil, fmt.Errorf("read the history %s: a question of claim %s is about the world %s, which does not stand before it", path, one.Question.Claim, one.Question.World)
			}
			h.Questions = append(h.Questions, one.Question)
		case one.Recording != nil:
			known := recordings[one.Recording.Scenario]
			if known == nil {
				h.Recordings = append(h.Recordings, one.Recording)
				recordings[one.Recording.Scenario] = one.Recording
				continue
			}
			one.Recording.Requests = known.Requests
			*known = *one.Recording
		case one.Requests != nil:
			into := recordings[one.Requests.Scenario]
			if into == nil {
				return nil, fmt.Errorf("read the history %s: requests of %s stand before its recording", path, one.Requests.Scenario)
			}
			if err := one.Requests.unpack(into); err != nil {
				return nil, fmt.Errorf("read the history %s: %w", path, err)
			}
		}
	}
}

// Turned lists the claims that say that they show the rule which is negated, and
// that by the negation are at odds with what was observed: each once, in the
// order of asking. What is at odds with the rules as they are, as an answer that
// came too early is, tells nothing of a negation.
func (h *History) Turned(n oracle.Negation) ([]string, error) {
	rules := oracle.DefaultRules()
	n.Apply(&rules)
	var turned []string
	for _, q := range h.Questions {
		if !slices.Contains(q.Shows, n.Rule) || slices.Contains(turned, q.Claim) {
			continue
		}
		asWas, err := q.AsItWas()
		if err != nil {
			return nil, err
		}
		if len(asWas) > 0 {
			continue
		}
		differences, err := q.Judge(rules)
		if err != nil {
			return nil, err
		}
		if len(differences) > 0 {
			turned = append(turned, q.Claim)
		}
	}
	return turned, nil
}
