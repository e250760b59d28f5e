package abuse

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/proxytest"
)

// cases is how many there are.
const cases = 80

// soon is far more than anything on loopback takes.
const soon = 10 * time.Second

var program = flag.String("program", "", "the proxy to attack; built from this tree when empty")

// Case is one numbered abuse.
type Case struct {
	Number int
	// Title is what is tried, and what must come of it.
	Title string
	// Waits marks cases that mostly wait for the proxy's time-outs; they run beside others.
	Waits bool
	// Shown are Go tests that show the case, or a part of it, by folder: all must run and pass.
	Shown map[string][]string
	// Run may be nil when Shown is not.
	Run func(*T)
}

// all are the cases by topic.
func all() []Case {
	return slices.Concat(pathCases(), identityCases(), detectionCases(), framingCases(), http2Cases(), resourceCases(), planeCases())
}

// T notes the first failure of its case, for the table.
type T struct {
	*testing.T
	note *note
}

// note is what became of a case; one that is run again keeps what went wrong first.
type note struct {
	mu     sync.Mutex
	text   string
	failed bool
	held   bool
}

// Errorf fails the case.
func (t *T) Errorf(format string, args ...any) {
	t.Helper()
	t.note.set(fmt.Sprintf(format, args...))
	t.T.Errorf(format, args...)
}

// Fatalf fails and ends the case.
func (t *T) Fatalf(format string, args ...any) {
	t.Helper()
	t.note.set(fmt.Sprintf(format, args...))
	t.T.Fatalf(format, args...)
}

// Run is a part of a case. One that a filter leaves out, or that is skipped, fails
// the case: it does not hold by what was not tried.
func (t *T) Run(name string, part func(*T)) {
	t.Helper()
	began := false
	t.T.Run(name, func(inner *testing.T) {
		inner.Helper()
		began = true
		one := &T{T: inner, note: t.note}
		inner.Cleanup(func() {
			if inner.Skipped() {
				one.Errorf("%s was skipped", name)
			}
		})
		part(one)
	})
	if !began {
		t.Errorf("%s was left out", name)
	}
}

func (n *note) set(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.text == "" {
		n.text, _, _ = strings.Cut(text, "\n")
	}
}

// state is for the table.
func (n *note) state() string {
	switch {
	case n == nil:
		return "not run"
	case n.held && !n.failed:
		return "ok"
	default:
		return "FAIL"
	}
}

var (
	notesMu sync.Mutex
	notes   = map[int]*note{}
)

func TestAbuse(t *testing.T) {
	for _, c := range all() {
		t.Run(fmt.Sprintf("%02d", c.Number), func(inner *testing.T) {
			if c.Waits {
				inner.Parallel()
			}
			notesMu.Lock()
			n := notes[c.Number]
			if n == nil {
				n = &note{}
				notes[c.Number] = n
			}
			notesMu.Unlock()
			inner.Cleanup(func() { // the last of its clean-ups, after the oracle
				if inner.Failed() || inner.Skipped() {
					n.failed = true
				}
				n.held = true
			})
			one := &T{T: inner, note: n}
			if c.Run != nil {
				c.Run(one)
			}
			goTests(one, c.Shown)
		})
	}
}

func TestEveryCaseIsThereOnce(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range all() {
		if seen[c.Number] || c.Number < 1 || c.Number > cases || c.Title == "" || c.Run == nil && len(c.Shown) == 0 {
			t.Errorf("case %d %q: want 1 to %d once, with a title and something to do", c.Number, c.Title, cases)
		}
		seen[c.Number] = true
	}
	if len(seen) != cases {
		t.Errorf("%d cases, want %d", len(seen), cases)
	}
}

// TestMain prints the table after the cases; what did not run does not hold.
func TestMain(m *testing.M) {
	flag.Parse()
	if *program == "" {
		built, err := build()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer os.RemoveAll(filepath.Dir(built))
		*program = built
	}
	code := m.Run()
	if len(notes) > 0 {
		table()
	}
	os.Exit(code)
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "meshproof-abuse-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, proxytest.Program)
	command := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../../internal/proxytest/standalone")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the proxy: %w\n%s", err, out)
	}
	return path, nil
}

// table has a row for each number; a case that is missing, or there twice, does
// not hold.
func table() {
	held := 0
	fmt.Println()
	for number := 1; number <= cases; number++ {
		state, row := rated(number, all(), notes)
		if state == "ok" {
			held++
		}
		fmt.Println(row)
	}
	fmt.Printf("%d of %d\n", held, cases)
}

// rowWidth bounds what a row says of a failure.
const rowWidth = 150

// rated is the state of a case and its row.
func rated(number int, all []Case, notes map[int]*note) (state, row string) {
	of := slices.DeleteFunc(slices.Clone(all), func(c Case) bool { return c.Number != number })
	if len(of) != 1 {
		return "missing", fmt.Sprintf("%2d  %-7s  %d cases have this number", number, "missing", len(of))
	}
	n := notes[number]
	state = n.state()
	row = fmt.Sprintf("%2d  %-7s  %s", number, state, of[0].Title)
	if n != nil && n.text != "" {
		row += ": " + n.text[:min(len(n.text), rowWidth)]
	}
	return state, row
}
