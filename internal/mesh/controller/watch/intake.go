package watch

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

const (
	// gatherFor is how long events are gathered after a transaction, and thus the
	// longest that an event waits for others. The first one after a quiet time does
	// not wait.
	gatherFor = 5 * time.Millisecond
	// gatherMost is how many events are gathered at most; whoever has more waits
	// until these have been taken.
	gatherMost = 1000
)

// intake is the one way into the index. What feeds bring is taken in the order in
// which it came, whatever its kind, as transactions of all that has been gathered:
// a storm of events costs a few computations instead of one per event, and a
// change in quiet times waits for nothing.
type intake struct {
	index *index.Index
	// spans are those of all kinds that have been listed, by kind. Only run uses them.
	spans revision.Revision

	mu     sync.Mutex
	queue  []entry
	events int
	// room is closed, and replaced, when the queue has been taken.
	room chan struct{}

	// more holds a token while there may be something that was not looked at, full
	// one while gatherMost has been reached.
	more, full chan struct{}
}

// entry is an event, a list, or word of how far the feed is.
type entry struct {
	// seen is what the entry says of the kind's completeness.
	seen sight
	// change is nil where nothing changes.
	change func(*index.Tx)
	// taken, when not nil, is called when the change, and all before it, is in force.
	taken func()
}

func newIntake(x *index.Index) *intake {
	return &intake{index: x, room: make(chan struct{}), more: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// put hands an entry over. It waits while the queue is full, for which run must be
// running.
func (in *intake) put(e entry) {
	in.mu.Lock()
	for e.change != nil && in.events >= gatherMost {
		room := in.room
		in.mu.Unlock()
		<-room
		in.mu.Lock()
	}
	in.queue = append(in.queue, e)
	if e.change != nil {
		in.events++
	}
	full := in.events >= gatherMost
	in.mu.Unlock()
	wake(in.more)
	if full {
		wake(in.full)
	}
}

// wake leaves a token where none is.
func wake(tokens chan<- struct{}) {
	select {
	case tokens <- struct{}{}:
	default:
	}
}

// run takes what comes until end is closed, and then what is left. Nobody may put
// anything after that.
func (in *intake) run(end <-chan struct{}) {
	gathering := time.NewTimer(0)
	defer gathering.Stop()
	var spare []entry
	var last time.Time
	for {
		select {
		case <-in.more:
		case <-end:
			in.take(nil)
			return
		}
		if in.changes() {
			gathering.Reset(gatherFor - time.Since(last))
			select {
			case <-gathering.C:
			case <-in.full:
			case <-end:
			}
		}
		var changed bool
		if spare, changed = in.take(spare); changed {
			last = time.Now()
		}
	}
}

// changes reports whether there is anything but word of how far feeds are, which
// need not wait.
func (in *intake) changes() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.events > 0
}

// take takes all that is there, as one transaction. spare becomes the next queue;
// what take returns can be the next spare.
func (in *intake) take(spare []entry) (used []entry, changed bool) {
	in.mu.Lock()
	batch, events := in.queue, in.events
	in.queue, in.events = spare[:0], 0
	close(in.room)
	in.room = make(chan struct{})
	select {
	case <-in.full: // it was about what is taken here
	default:
	}
	in.mu.Unlock()
	stamped := false
	for _, e := range batch {
		stamped = in.see(e.seen) || stamped
	}
	if events > 0 || stamped {
		in.index.Update(func(tx *index.Tx) {
			if stamped {
				// What is published belongs to all of the batch.
				tx.Stamp(slices.Clone(in.spans))
			}
			for _, e := range batch {
				if e.change != nil {
					e.change(tx)
					tx.Settle()
				}
			}
		})
	}
	for _, e := range batch {
		if e.taken != nil {
			e.taken()
		}
	}
	clear(batch)
	return batch, events > 0
}

// sight is a resourceVersion at which a kind was seen. The zero value says nothing.
type sight struct {
	kind    Kind
	version uint64
	how     seen
}

// seen is how.
type seen int

const (
	// seenComplete is word that everything up to the version has come: a bookmark.
	seenComplete seen = iota
	// seenEvent is a change; events of one kind come in the order of their versions.
	seenEvent
	// seenList takes the place of all that was known. What has gone since the list
	// before it leaves no version, so it counts as a change. A lower version than was
	// known is the truth all the same: a consistent list is never behind, unless the
	// store was set back.
	seenList
)

// see notes a sight, and reports whether it says anything new.
func (in *intake) see(s sight) bool {
	if s.kind == "" {
		return false
	}
	at, known := slices.BinarySearchFunc(in.spans, s.kind, func(part revision.Part, kind Kind) int { return cmp.Compare(part.Kind, string(kind)) })
	if !known {
		in.spans = slices.Insert(in.spans, at, revision.Part{Kind: string(s.kind)})
	}
	span, before := &in.spans[at].Span, in.spans[at].Span
	switch s.how {
	case seenList:
		*span = revision.Span{From: s.version, To: s.version}
	case seenEvent:
		span.From, span.To = max(span.From, s.version), max(span.To, s.version)
	case seenComplete:
		span.To = max(span.To, s.version)
	}
	return !known || *span != before
}
