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

var program = flag.String("program", filepath.Join("..", "..", "bin", proxytest.Program), "the proxy to attack; built when it is not there")

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

type note struct {
	mu    sync.Mutex
	text  string
	state string
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

// Run is a part of a case.
func (t *T) Run(name string, part func(*T)) {
	t.Helper()
	t.T.Run(name, func(inner *testing.T) {
		inner.Helper()
		part(&T{T: inner, note: t.note})
	})
}

func (n *note) set(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.text == "" {
		n.text, _, _ = strings.Cut(text, "\n")
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
			n := &note{state: "FAIL"}
			notesMu.Lock()
			notes[c.Number] = n
			notesMu.Unlock()
			inner.Cleanup(func() { // the last of its clean-ups, after the oracle
				if !inner.Failed() && !inner.Skipped() {
					n.state = "ok"
				}
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
	if _, err := os.Stat(*program); err != nil {
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

func table() {
	const width = 150
	held := 0
	fmt.Println()
	for _, c := range all() {
		state, text := "not run", ""
		if n := notes[c.Number]; n != nil {
			state, text = n.state, n.text
		}
		if state == "ok" {
			held++
		}
		row := fmt.Sprintf("%2d  %-7s  %s", c.Number, state, c.Title)
		if text != "" {
			row += ": " + text[:min(len(text), width)]
		}
		fmt.Println(row)
	}
	fmt.Printf("%d of %d\n", held, cases)
}
