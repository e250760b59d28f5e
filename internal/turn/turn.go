package turn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Durations that all runs on a cluster have to agree on; each Lease tells its
// own lifetime.
const (
	// lifetime is how long a Lease counts that is not renewed.
	lifetime = 15 * time.Second
	// renewInterval is between two renewals.
	renewInterval = 3 * time.Second
	// giveUp is when a run without a renewal stops: before anybody else can
	// take it for dead.
	giveUp = 12 * time.Second
	// lookInterval is between two looks at the others while waiting for them.
	lookInterval = 500 * time.Millisecond
	// requestBudget is for one request.
	requestBudget = 4 * time.Second
)

// Phase is what a run is doing.
type Phase string

// The phases, see the package's comment.
const (
	Waits  Phase = "waits"
	Shared Phase = "shared"
	Wants  Phase = "wants"
	Alone  Phase = "alone"
)

// member is a run's Lease.
type member struct {
	id, holder string
	phase      Phase
	// since is when the run began to want to be alone, by its own clock: it
	// puts those who do in an order that all agree on, and means nothing else.
	since time.Time
	// lifetime is how long it counts unchanged.
	lifetime time.Duration
	// uid and version tell this Lease in this state from every other.
	uid, version string
}

func (m member) String() string { return fmt.Sprintf("run %s of %s", m.id, m.holder) }

// before orders those who want to be alone.
func (m member) before(o member) bool {
	if c := m.since.Compare(o.since); c != 0 {
		return c < 0
	}
	return cmp.Less(m.id, o.id)
}

// store keeps the Leases.
type store interface {
	// list reads all Leases as they are now.
	list(ctx context.Context) ([]member, error)
	// create makes a Lease, and the namespace when it is missing. Errors:
	// errExists, errBusy, *refusedError.
	create(ctx context.Context, m member) error
	// write renews a Lease and says what its run is doing. Errors: errGone,
	// *refusedError.
	write(ctx context.Context, m member) error
	// remove deletes a Lease unless it has changed; one that is gone is fine.
	remove(ctx context.Context, m member) error
}

var (
	errGone   = errors.New("the lease is gone")
	errExists = errors.New("a run of this id is there")
	// errBusy means that the namespace is being deleted.
	errBusy = errors.New("namespace " + Namespace + " is being deleted")
)

// refusedError is an answer that will not change.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// LostError means that a run must stop: others may think that it is gone.
type LostError struct {
	// ID is the run's.
	ID string
	// Err is why its Lease could not be renewed.
	Err error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("run %s has lost its turn on the cluster: its lease could not be renewed for %s: %v", e.ID, giveUp, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Turn is a run's place among those that use a cluster. Join, Alone and Shared
// are called one after the other; the other methods at any time.
type Turn struct {
	store   store
	waiting func(string)

	// writing is held by whoever writes the Lease.
	writing chan struct{}
	// me, renewed (when the last successful write began) and active (others may
	// not think that the run is gone) belong to who holds writing.
	me      member
	renewed time.Time
	active  bool
	failure error

	stop   context.CancelFunc
	done   sync.WaitGroup
	losing sync.Once
	lost   chan struct{}
	err    error // set before lost is closed

	seeing chan struct{}
	// seen is what is known of other Leases, by uid; held by seeing.
	seen map[string]sighting
	told string
}

// sighting is since when a Lease has had a version.
type sighting struct {
	version string
	since   time.Time
}

// Join waits until the run of that id may share the cluster. holder tells
// people whose run it is; waiting is told what is waited for, each time that
// changes. Errors: *LostError, and what the API server refused.
func Join(ctx context.Context, client kubernetes.Interface, id, holder string, waiting func(string)) (*Turn, error) {
	return join(ctx, &leases{client: client}, id, holder, waiting)
}

func join(ctx context.Context, store store, id, holder string, waiting func(string)) (*Turn, error) {
	t := &Turn{store: store, waiting: waiting, writing: make(chan struct{}, 1), seeing: make(chan struct{}, 1), lost: make(chan struct{}),
		seen: map[string]sighting{}, me: member{id: id, holder: holder, lifetime: lifetime}, renewed: time.Now()}
	if waiting == nil {
		t.waiting = func(string) {}
	}
	if err := t.create(ctx); err != nil {
		return nil, fmt.Errorf("join the runs on the cluster: %w", err)
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	t.done.Go(func() { t.renew(renewing) })
	if err := t.Shared(ctx); err != nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestBudget)
		defer cancel()
		return nil, errors.Join(err, t.Leave(leave))
	}
	return t, nil
}

// create makes the Lease for the first time.
func (t *Turn) create(ctx context.Context) error {
	t.me.phase = Waits
	began := time.Now()
	for first := true; ; first = false {
		err := request(ctx, func(ctx context.Context) error { return t.store.create(ctx, t.me) })
		var refused *refusedError
		switch {
		case err == nil, errors.Is(err, errExists) && !first: // an answer may get lost
			t.renewed = time.Now()
			return nil
		case errors.Is(err, errBusy):
			began = time.Now()
			t.tell(meshGone)
		case errors.Is(err, errExists), errors.As(err, &refused), time.Since(began) > giveUp:
			return err
		}
		if pause(ctx, lookInterval) != nil {
			return context.Cause(ctx)
		}
	}
}

// Shared waits until the run may use the mesh as it is.
func (t *Turn) Shared(ctx context.Context) error {
	return t.acquire(ctx, "share the cluster", Shared, Waits, func(o member) bool { return o.phase == Wants || o.phase == Alone })
}

// Alone waits until the run is alone on the cluster, until Shared or Leave.
// Meanwhile it must not use the mesh.
func (t *Turn) Alone(ctx context.Context) error {
	t.hold()
	t.me.since = time.Now()
	mine := t.me
	t.release()
	first := func(o member) bool {
		return o.phase == Shared || o.phase == Alone || o.phase == Wants && o.before(mine)
	}
	return t.acquire(ctx, "be alone on the cluster", Alone, Wants, first)
}

// acquire takes phase as soon as nobody is in the way, and says meanwhile that
// it has waits. For those that are seen after it was taken only those count
// that may have taken theirs at the same time.
func (t *Turn) acquire(ctx context.Context, what string, phase, meanwhile Phase, inTheWay func(member) bool) error {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	err := t.attempt(ctx, phase, meanwhile, inTheWay)
	if err == nil {
		return nil
	}
	// Nobody shall wait for one who does not come.
	t.hold()
	defer t.release()
	t.active = false
	_ = t.write(context.WithoutCancel(ctx), Waits)
	return fmt.Errorf("wait to %s: %w", what, err)
}

func (t *Turn) attempt(ctx context.Context, phase, meanwhile Phase, inTheWay func(member) bool) error {
	if err := t.put(ctx, meanwhile); err != nil {
		return err
	}
	for {
		blocker, err := t.find(ctx, inTheWay)
		if err != nil {
			return err
		}
		if blocker == nil {
			// Written first, looked afterwards: of two at least one sees the other.
			if err := t.put(ctx, phase); err != nil {
				return err
			}
			if blocker, err = t.find(ctx, func(o member) bool {
				return o.phase == Alone || o.phase == Shared && phase == Alone || o.phase == Wants && phase == Shared
			}); err != nil {
				return err
			}
			if blocker == nil && t.enter(phase) {
				return nil
			}
			if err := t.put(ctx, meanwhile); err != nil {
				return err
			}
		}
		if blocker != nil {
			t.tell(why(phase, *blocker))
		}
		if pause(ctx, lookInterval) != nil {
			return context.Cause(ctx)
		}
	}
}

func why(phase Phase, o member) string {
	switch {
	case o.phase == Alone:
		return fmt.Sprintf("%s, which has the cluster to itself", o)
	case o.phase == Wants:
		return fmt.Sprintf("%s, which wants the cluster to itself", o)
	}
	return fmt.Sprintf("%s to make way", o)
}

// enter begins the phase unless others may think meanwhile that the run is gone.
func (t *Turn) enter(phase Phase) bool {
	t.hold()
	defer t.release()
	if t.me.phase != phase || time.Since(t.renewed) > giveUp {
		return false
	}
	t.active, t.told = true, ""
	return true
}

// put stops what the run was doing and writes a phase, again and again until it
// is written; a Lease on which nothing depended and that is gone is made anew.
func (t *Turn) put(ctx context.Context, phase Phase) error {
	for {
		t.hold()
		active := t.active
		t.active = false
		err := t.write(ctx, phase)
		if errors.Is(err, errGone) && active {
			t.lose(err)
			t.release()
			return t.err
		}
		if errors.Is(err, errGone) {
			if err = request(ctx, func(ctx context.Context) error { return t.store.create(ctx, t.me) }); err == nil || errors.Is(err, errBusy) {
				t.renewed = time.Now() // the mesh may take its time to be gone
			}
		}
		t.release()
		var refused *refusedError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return err
		case errors.Is(err, errBusy):
			t.tell(meshGone)
		}
		if pause(ctx, lookInterval) != nil {
			return context.Cause(ctx)
		}
	}
}

// meshGone is what is waited for while the namespace of the Leases is on its way
// out: then what they protect is, too.
const meshGone = "the mesh that another run is removing to be gone"

// write writes the phase once; the caller holds writing.
func (t *Turn) write(ctx context.Context, phase Phase) error {
	began := time.Now()
	t.me.phase = phase
	err := request(ctx, func(ctx context.Context) error { return t.store.write(ctx, t.me) })
	if err == nil {
		t.renewed = began
	} else {
		t.failure = err
	}
	return err
}

// renew keeps the Lease alive and the sightings of others fresh, until it is
// stopped or the Lease is lost.
func (t *Turn) renew(ctx context.Context) {
	next := renewInterval
	for pause(ctx, next) == nil {
		t.hold()
		write, cancel := context.WithDeadline(ctx, t.renewed.Add(giveUp))
		err := t.write(write, t.me.phase)
		cancel()
		gone := errors.Is(err, errGone)
		if gone && !t.active {
			t.me.phase = Waits // it was not counted on; who waits makes it anew
		}
		if ctx.Err() == nil && (gone && t.active || time.Since(t.renewed) >= giveUp) {
			t.lose(t.failure)
		}
		renewed := t.renewed
		t.release()
		if t.Err() != nil {
			return
		}
		if err != nil {
			next = lookInterval
			continue
		}
		_, _ = t.look(ctx) // others' changes, for when it matters
		next = max(renewInterval-time.Since(renewed), lookInterval)
	}
}

// lose ends the turn.
func (t *Turn) lose(err error) {
	t.losing.Do(func() {
		t.err = &LostError{ID: t.me.id, Err: err}
		close(t.lost)
	})
}

// find looks at the others until it succeeds, and returns one that fits.
func (t *Turn) find(ctx context.Context, fits func(member) bool) (*member, error) {
	for {
		others, err := t.look(ctx)
		if err == nil {
			for _, other := range others {
				if fits(other) {
					return &other, nil
				}
			}
			return nil, nil
		}
		if pause(ctx, lookInterval) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// look lists the others that are alive and removes the Leases of the dead. One
// that cannot be removed is still there.
func (t *Turn) look(ctx context.Context) ([]member, error) {
	t.seeing <- struct{}{}
	defer func() { <-t.seeing }()
	var all []member
	err := request(ctx, func(ctx context.Context) (err error) { all, err = t.store.list(ctx); return err })
	if err != nil {
		return nil, err
	}
	return sweep(ctx, t.store, t.seen, all, t.me.id), nil
}

// sweep notes what it sees of Leases, removes those of the dead and returns
// the others but that of the run itself.
func sweep(ctx context.Context, s store, seen map[string]sighting, all []member, self string) []member {
	var alive []member
	there := map[string]bool{}
	for _, one := range all {
		if one.id == self {
			continue
		}
		there[one.uid] = true
		if last, ok := seen[one.uid]; !ok || last.version != one.version {
			seen[one.uid] = sighting{one.version, time.Now()}
		}
		if time.Since(seen[one.uid].since) > one.lifetime && request(ctx, func(ctx context.Context) error { return s.remove(ctx, one) }) == nil {
			continue
		}
		alive = append(alive, one)
	}
	for uid := range seen {
		if !there[uid] {
			delete(seen, uid)
		}
	}
	return alive
}

// Others counts the other runs on the cluster, those too that wait.
func (t *Turn) Others(ctx context.Context) (int, error) {
	others, err := t.look(ctx)
	if err != nil {
		return 0, fmt.Errorf("look for other runs on the cluster: %w", err)
	}
	return len(others), nil
}

// Lost is closed when the run must stop, and Err says why.
func (t *Turn) Lost() <-chan struct{} { return t.lost }

// Err is a *LostError after Lost is closed, nil before.
func (t *Turn) Err() error {
	select {
	case <-t.lost:
		return t.err
	default:
		return nil
	}
}

// Leave gives the run's place up.
func (t *Turn) Leave(ctx context.Context) error {
	t.Abandon()
	t.hold()
	defer t.release()
	gone := t.me
	gone.uid, gone.version = "", "" // whatever state it is in
	if err := request(ctx, func(ctx context.Context) error { return t.store.remove(ctx, gone) }); err != nil {
		return fmt.Errorf("leave the runs on the cluster: %w", err)
	}
	return nil
}

// Abandon stops renewing without giving the place up, as the end of the process
// does.
func (t *Turn) Abandon() {
	t.stop()
	t.done.Wait()
}

// bound ends a context when the Lease is lost, too.
func (t *Turn) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-t.lost:
			cancel(t.err)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil); watching.Wait() }
}

// tell says what is waited for, when that has changed.
func (t *Turn) tell(what string) {
	if what != t.told {
		t.told = what
		t.waiting(what)
	}
}

// A channel and no mutex: who waits for a request of somebody else is at rest.
func (t *Turn) hold()    { t.writing <- struct{}{} }
func (t *Turn) release() { <-t.writing }

// request bounds one request.
func request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestBudget)
	defer cancel()
	return do(ctx)
}

// pause waits; it returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Living returns the ids of the runs that are on the cluster, and removes the
// Leases of those that are not any more. It takes as long as the lifetime of a
// Lease when there is one that nobody renews; waiting is told then.
func Living(ctx context.Context, client kubernetes.Interface, waiting func(string)) ([]string, error) {
	return living(ctx, &leases{client: client}, waiting)
}

func living(ctx context.Context, store store, waiting func(string)) ([]string, error) {
	seen := map[string]sighting{}
	first := map[string]string{}
	for told := false; ; told = true {
		var all []member
		if err := request(ctx, func(ctx context.Context) (err error) { all, err = store.list(ctx); return err }); err != nil {
			return nil, fmt.Errorf("look for runs on the cluster: %w", err)
		}
		var ids []string
		unsure := ""
		for _, one := range sweep(ctx, store, seen, all, "") {
			ids = append(ids, one.id)
			if first[one.uid] == "" {
				first[one.uid] = one.version
			}
			if first[one.uid] == one.version {
				unsure = one.String()
			}
		}
		if unsure == "" {
			slices.Sort(ids)
			return ids, nil
		}
		if !told {
			waiting(unsure + " to show that it is there")
		}
		if pause(ctx, lookInterval) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// IDs are those of the runs that have a Lease, be they alive or not.
func IDs(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	all, err := (&leases{client: client}).list(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for runs on the cluster: %w", err)
	}
	var ids []string
	for _, one := range all {
		ids = append(ids, one.id)
	}
	return ids, nil
}
