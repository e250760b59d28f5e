package kind

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	kindlog "sigs.k8s.io/kind/pkg/log"

	"github.com/meshproof/meshproof/internal/cluster"
)

// Components that are awaited.
const (
	nodesMade    = "node containers"
	controlPlane = "control plane"
)

// steps are kind's own words for what it does, by their beginnings, and ours for
// what is awaited.
var steps = []struct{ theirs, ours string }{
	{"Ensuring node image", "node image"},
	{"Preparing nodes", nodesMade},
	{"Configuring the external load balancer", "load balancer"},
	{"Writing configuration", "configuration"},
	{"Starting control-plane", controlPlane},
	{"Installing CNI", "pod network"},
	{"Installing StorageClass", "storage class"},
	{"Joining more control-plane nodes", "more control planes"},
	{"Joining worker nodes", "worker nodes"},
}

// progress tells what is awaited and remembers how long it took.
type progress struct {
	begun  time.Time
	notify func(cluster.Event)

	mu      sync.Mutex
	timings []cluster.Timing
	step    string // the last one that began
}

func (p *progress) tell(component string, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	event := cluster.Event{Component: component, Done: done, Elapsed: time.Since(p.begun)}
	if done {
		p.timings = append(p.timings, cluster.Timing{Component: component, Elapsed: event.Elapsed})
	} else {
		p.step = component
	}
	if p.notify != nil {
		p.notify(event)
	}
}

// now is what is being done.
func (p *progress) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.step
}

func (p *progress) all() []cluster.Timing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timings
}

// logger makes progress of what kind's library logs. Everything else that it
// says is repeated in its errors, or of no interest.
type logger struct {
	progress *progress
	// after is called when a step is over; nil: nobody.
	after func(component string, ok bool)
}

var _ kindlog.Logger = (*logger)(nil)

func (*logger) Warn(string)           {}
func (*logger) Warnf(string, ...any)  {}
func (*logger) Error(string)          {}
func (*logger) Errorf(string, ...any) {}

// V implements kindlog.Logger.
func (l *logger) V(level kindlog.Level) kindlog.InfoLogger { return info{l, level} }

type info struct {
	*logger
	level kindlog.Level
}

// Enabled is true for the levels of kind's steps.
func (i info) Enabled() bool { return i.level == 0 }

func (i info) Infof(format string, args ...any) { i.Info(fmt.Sprintf(format, args...)) }

// Info understands lines such as " • Preparing nodes 📦  ..." and
// " ✓ Preparing nodes 📦 ".
func (i info) Info(message string) {
	if !i.Enabled() {
		return
	}
	mark, rest, _ := strings.Cut(strings.TrimSpace(message), " ")
	component := componentOf(rest)
	switch mark {
	case "•":
		if strings.HasSuffix(strings.TrimSpace(rest), "...") {
			i.progress.tell(component, false)
		}
	case "✓", "✗":
		if mark == "✓" {
			i.progress.tell(component, true)
		}
		if i.after != nil {
			i.after(component, mark == "✓")
		}
	}
}

func componentOf(text string) string {
	for _, step := range steps {
		if strings.HasPrefix(text, step.theirs) {
			return step.ours
		}
	}
	plain := strings.Map(func(r rune) rune {
		if r > unicode.MaxLatin1 {
			return -1
		}
		return r
	}, strings.TrimSuffix(strings.TrimSpace(text), "..."))
	return strings.TrimSpace(plain)
}
