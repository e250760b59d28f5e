package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/mesh/revision"
)

const (
	// eventPatience is how long events are waited for before the API server is asked.
	// It is longer than they take, so that who is a little behind causes no lists.
	eventPatience = 250 * time.Millisecond
	// relistPause is the least time between two lists of a kind that questions cause,
	// and presentPause that between two questions to the API server: proxies can ask
	// for anything.
	relistPause  = time.Second
	presentPause = 100 * time.Millisecond
	// presentTimeout is what the API server gets to answer.
	presentTimeout = 5 * time.Second
)

// errOlder says that this process will not know a kind before it is started anew.
var errOlder = errors.New("is served now and was not when this controller started")

// Reach returns once the index is as new as least asks for. The kinds of which it
// asks for a version that the cluster has never had, or does not have any more, are
// void: of these nothing can be waited for. It ends with an error when ctx does, when
// the API server cannot be asked, and when a kind will never be known here (C-30).
//
// Quiet kinds have no events that would show how new they are. They are listed anew,
// and what is in force stays so meanwhile.
func (w *Watcher) Reach(ctx context.Context, least revision.Least) (void []string, err error) {
	wanted := map[Kind]uint64{}
	for name, version := range least {
		kind := Kind(name)
		switch known, err := w.knows(ctx, kind); {
		case err != nil:
			return nil, err
		case known:
			wanted[kind] = version
		default:
			void = append(void, name)
		}
	}
	for patience := eventPatience; ; patience = relistPause {
		err := w.within(ctx, patience, wanted)
		if err == nil || ctx.Err() != nil {
			slices.Sort(void)
			return void, err
		}
		behind, _ := w.Marks.behind(wanted)
		for _, kind := range behind {
			f := w.feed(kind)
			present, err := f.present(ctx)
			switch {
			case err != nil:
				return nil, err
			case present < wanted[kind]:
				slog.Warn("somebody asks for a version beyond the cluster's present one: its store was set back", "kind", kind, "asked", wanted[kind], "present", present)
				void = append(void, string(kind))
				delete(wanted, kind)
			case f.mayList():
				w.Refresh(kind)
			}
		}
	}
}

// within waits for the marks, so long at most.
func (w *Watcher) within(ctx context.Context, patience time.Duration, wanted map[Kind]uint64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.Marks.Await(ctx, wanted)
}

// knows reports whether the kind is watched. A kind that is not, and that the API
// server serves, is an error; one of which this version has never heard is not.
func (w *Watcher) knows(ctx context.Context, kind Kind) (bool, error) {
	if w.Watched(kind) {
		return true, nil
	}
	all := optionals(w.index.Config())
	at := slices.IndexFunc(all, func(o optional) bool { return o.kind == kind })
	if at < 0 {
		return false, nil
	}
	served, err := discover(ctx, w.clients.Core, []schema.GroupResource{all[at].resource})
	if err == nil && len(served) > 0 {
		err = fmt.Errorf("%s %w", kind, errOlder)
	}
	return false, err
}

// feed is that of a kind that is watched.
func (w *Watcher) feed(kind Kind) *feed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.feeds[slices.IndexFunc(w.feeds, func(f *feed) bool { return f.kind == kind })]
}

// present asks the API server which version the kind has now. All who ask while a
// question is under way share the next one, which begins after they asked.
func (f *feed) present(ctx context.Context) (uint64, error) {
	for {
		q, mine := f.asking.join()
		if mine {
			f.asking.lead(ctx, q, f.version)
		}
		select {
		case <-q.answered:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if !q.left || ctx.Err() != nil {
			return q.version, q.err
		}
	}
}

// version is a consistent read of as little as possible.
func (f *feed) version(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, presentTimeout)
	defer cancel()
	list, err := cache.ToListerWatcherWithContext(f.lists).ListWithContext(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("ask for the present version of %s: %w", f.kind, err)
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return 0, fmt.Errorf("ask for the present version of %s: %w", f.kind, err)
	}
	return ParseVersion(m.GetResourceVersion())
}

// mayList reports whether a question may cause a list now, and if so counts it.
func (f *feed) mayList() bool {
	f.asking.mu.Lock()
	defer f.asking.mu.Unlock()
	if time.Since(f.asking.listed) < relistPause {
		return false
	}
	f.asking.listed = time.Now()
	return true
}

// asking lets many share one question.
type asking struct {
	mu sync.Mutex
	// next has not begun yet; nil when nobody has asked for it.
	next *question
	// turn is held by who asks; asked is when it last began.
	turn  sync.Mutex
	asked time.Time
	// listed is when a question last caused a list.
	listed time.Time
}

type question struct {
	// answered is closed when version and err are final.
	answered chan struct{}
	version  uint64
	err      error
	// left says that who asked for all was no longer interested.
	left bool
}

// join returns the next question, and whether the caller is who must ask it.
func (a *asking) join() (q *question, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next, mine = &question{answered: make(chan struct{})}, true
	}
	return a.next, mine
}

func (a *asking) lead(ctx context.Context, q *question, ask func(context.Context) (uint64, error)) {
	a.turn.Lock()
	defer a.turn.Unlock()
	defer close(q.answered)
	pause := time.NewTimer(presentPause - time.Since(a.asked))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	a.next = nil
	a.mu.Unlock()
	a.asked = time.Now()
	q.version, q.err = ask(ctx)
	q.left = ctx.Err() != nil
}
