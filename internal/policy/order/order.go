package order

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Write is one write of a change.
type Write struct {
	// Deleted says that the object goes; otherwise it becomes what it is after the
	// change.
	Deleted   bool   `json:"deleted,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String is "apply KIND NAMESPACE/NAME", or delete.
func (w Write) String() string {
	return map[bool]string{false: "apply ", true: "delete "}[w.Deleted] + w.Kind + " " + w.Namespace + "/" + w.Name
}

// Call is a request that matters.
type Call struct {
	// Name is what people call it.
	Name    string
	Pod     *corev1.Pod
	Port    uint16
	Client  oracle.Client
	Request oracle.Request
}

// Change is what is to be put into an order.
type Change struct {
	Before, After oracle.World
	Writes        []Write
	Calls         []Call
	Dialect       api.Dialect
	Rules         oracle.Rules
}

// The bounds. What has at most maxExact writes is walked in all orders: what a
// call gets depends on which writes were made and not on their order, so there are
// two to the power of their number of worlds and not all that many. With more of
// them, or where all worlds together would need more than maxVerdicts, the search
// goes from world to world and keeps the beam best ones of each size.
const (
	maxExact    = 16
	maxVerdicts = 600_000
	beam        = 128
	// MaxWrites is how many writes a change can have.
	MaxWrites = 60
)

// Plan is what is known of the orders of a change.
type Plan struct {
	Writes []Write
	Calls  []Call
	// Before and After are the outcomes of the calls.
	Before, After []oracle.Outcome
	// AsWritten is the order in which the change was given, Best one that has as
	// few allow gaps as there can be, and then as few deny gaps; among these the one
	// that is nearest to the order given.
	AsWritten, Best Order
	// Exact says that all orders were walked: Best is the best, and Orders and Clean
	// are known.
	Exact bool
	// Orders are how many there are, and Clean the ones among them without a gap.
	Orders, Clean float64
	// AtOnce are the gaps that there may be when the writes are made in the order
	// given without waiting: a controller watches each kind by itself. After and
	// Until mean nothing in them.
	AtOnce []Gap

	walker *walker
}

// Walk makes the writes in an order of the caller's, which names each place once.
func (p *Plan) Walk(steps []int) Order { return p.walker.walk(steps) }

// Order is a way to make the writes.
type Order struct {
	// Steps are places among the writes.
	Steps []int
	Gaps  []Gap
}

// Kind says who is harmed by a gap.
type Kind string

// The kinds.
const (
	// Deny: the call is denied in between, and allowed before and after.
	Deny Kind = "deny"
	// Allow: the call is let through in between, and denied before and after.
	Allow Kind = "allow"
)

// Gap is a call whose answer in between is none of those before and after.
type Gap struct {
	// Call is its place among the calls.
	Call int
	Kind Kind
	// After is how many of the order's writes have been made when it opens, Until
	// how many when it closes: it is as wide as the writes between take.
	After, Until int
	Outcome      oracle.Outcome
}

// cost of a world: allow gaps weigh more than any number of deny gaps.
type cost struct{ allow, deny int }

func (c cost) plus(o cost) cost { return cost{c.allow + o.allow, c.deny + o.deny} }
func (c cost) less(o cost) bool { return c.allow < o.allow || c.allow == o.allow && c.deny < o.deny }

// state is which writes have been made, a bit for each.
type state uint64

func (s state) with(write int) state { return s | 1<<write }
func (s state) has(write int) bool   { return s&(1<<write) != 0 }

// walker knows the worlds between.
type walker struct {
	*Change
	full     state
	outcomes map[state][]oracle.Outcome
	before   []oracle.Outcome
	after    []oracle.Outcome
}

// Plan finds the orders' gaps.
func (c Change) Plan() (*Plan, error) {
	if len(c.Writes) == 0 {
		return nil, fmt.Errorf("order a change: it changes nothing")
	}
	if len(c.Writes) > MaxWrites {
		return nil, fmt.Errorf("order a change: it has %d writes, and at most %d are put into an order", len(c.Writes), MaxWrites)
	}
	c.age()
	w := &walker{Change: &c, full: 1<<len(c.Writes) - 1, outcomes: map[state][]oracle.Outcome{}}
	w.before, w.after = w.at(0), w.at(w.full)
	p := &Plan{Writes: c.Writes, Calls: c.Calls, Before: w.before, After: w.after, Orders: 1, walker: w}
	given := make([]int, len(c.Writes))
	for i := range given {
		given[i] = i
		p.Orders *= float64(i + 1)
	}
	p.AsWritten, p.AtOnce = w.walk(given), w.atOnce()
	if n := len(c.Writes); n <= maxExact && (1<<n)*max(len(c.Calls), 1) <= maxVerdicts {
		p.Exact = true
		var best []int
		best, p.Clean = w.all()
		p.Best = w.walk(best)
	} else {
		p.Best = w.walk(w.search())
	}
	if !weight(p.Best.Gaps).less(weight(p.AsWritten.Gaps)) {
		p.Best = p.AsWritten
	}
	return p, nil
}

// weight sums up gaps as costs do.
func weight(gaps []Gap) cost {
	var c cost
	for _, g := range gaps {
		if g.Kind == Allow {
			c.allow += g.Until - g.After
		} else {
			c.deny += g.Until - g.After
		}
	}
	return c
}

// age makes objects that come younger than all that are there, unless they say when
// they were made, since who is older wins. Among themselves they are of one
// age, as if nobody knew which came first; so are those that are there and do not
// say.
func (c *Change) age() {
	old := metav1.NewTime(time.Unix(0, 0))
	latest := old.Time
	latest = agedAll(&c.Before.Servers, &c.After.Servers, (*api.Server).DeepCopy, old, latest)
	latest = agedAll(&c.Before.RateLimits, &c.After.RateLimits, (*api.HTTPLocalRateLimitPolicy).DeepCopy, old, latest)
	latest = agedAll(&c.Before.HTTPRoutes, &c.After.HTTPRoutes, (*api.HTTPRoute).DeepCopy, old, latest)
	agedAll(&c.Before.GRPCRoutes, &c.After.GRPCRoutes, (*api.GRPCRoute).DeepCopy, old, latest)
}

// agedAll ages the objects of one kind, and returns the latest time that was met.
func agedAll[T metav1.Object](before, after *[]T, clone func(T) T, old metav1.Time, latest time.Time) time.Time {
	was := aged(*before, clone, func(T) metav1.Time { return old })
	for _, o := range was {
		if made := o.GetCreationTimestamp(); made.After(latest) {
			latest = made.Time
		}
	}
	now := metav1.NewTime(latest.Add(time.Second))
	*before, *after = was, aged(*after, clone, func(o T) metav1.Time {
		at := slices.IndexFunc(was, func(b T) bool { return b.GetName() == o.GetName() && b.GetNamespace() == o.GetNamespace() })
		if at < 0 {
			return now
		}
		return was[at].GetCreationTimestamp()
	})
	return latest
}

// aged are objects of which those that do not say when they were made have the time
// that is said of them.
func aged[T metav1.Object](list []T, clone func(T) T, made func(T) metav1.Time) []T {
	out := slices.Clone(list)
	for i, o := range out {
		if at := o.GetCreationTimestamp(); at.IsZero() {
			out[i] = clone(o)
			out[i].SetCreationTimestamp(made(o))
		}
	}
	return out
}

// at is what becomes of the calls when some writes have been made.
func (w *walker) at(s state) []oracle.Outcome {
	if known := w.outcomes[s]; known != nil {
		return known
	}
	world := w.Before
	for i, write := range w.Writes {
		if s.has(i) {
			objects.Take(&world, w.After, write.Kind, write.Namespace, write.Name)
		}
	}
	o := oracle.Oracle{World: world, Dialect: w.Dialect, Rules: w.Rules}
	type place struct {
		pod  *corev1.Pod
		port uint16
	}
	policies := map[place]oracle.Policy{}
	out := make([]oracle.Outcome, len(w.Calls))
	for i, call := range w.Calls {
		at := place{call.Pod, call.Port}
		policy, known := policies[at]
		if !known {
			policy = o.Resolve(call.Pod, call.Port)
			policies[at] = policy
		}
		out[i] = o.Decide(policy, call.Client, call.Request).Outcome
	}
	w.outcomes[s] = out
	return out
}

// gap is whether a call has one under an outcome in between.
func (w *walker) gap(call int, outcome oracle.Outcome) (Kind, bool) {
	before, after := w.before[call].Allowed(), w.after[call].Allowed()
	switch {
	case before && after && !outcome.Allowed():
		return Deny, true
	case !before && !after && outcome.Allowed():
		return Allow, true
	}
	return "", false
}

// cost of being in a world in between.
func (w *walker) cost(s state) cost {
	var c cost
	if s == 0 || s == w.full {
		return c
	}
	for call, outcome := range w.at(s) {
		switch kind, is := w.gap(call, outcome); {
		case !is:
		case kind == Allow:
			c.allow++
		default:
			c.deny++
		}
	}
	return c
}

// walk makes the writes in an order and finds its gaps.
func (w *walker) walk(steps []int) Order {
	order := Order{Steps: steps}
	open := map[int]int{} // gaps by their calls
	var s state
	for made, write := range steps {
		s = s.with(write)
		for call, outcome := range w.at(s) {
			kind, is := w.gap(call, outcome)
			at, wasOpen := open[call]
			switch {
			case is && s != w.full && !wasOpen:
				open[call] = len(order.Gaps)
				order.Gaps = append(order.Gaps, Gap{Call: call, Kind: kind, After: made + 1, Outcome: outcome})
			case wasOpen && (!is || s == w.full):
				order.Gaps[at].Until = made + 1
				delete(open, call)
			}
		}
	}
	return order
}

// atOnce are the gaps in all worlds that a controller can have seen that watches
// each kind by itself, while the writes are made in the order given.
func (w *walker) atOnce() []Gap {
	kinds := map[string][]int{}
	var names []string
	for i, write := range w.Writes {
		if kinds[write.Kind] == nil {
			names = append(names, write.Kind)
		}
		kinds[write.Kind] = append(kinds[write.Kind], i)
	}
	states := []state{0}
	for _, name := range names {
		var longer []state
		for _, s := range states {
			longer = append(longer, s)
			for _, write := range kinds[name] {
				s = s.with(write)
				longer = append(longer, s)
			}
		}
		if states = longer; len(states)*max(len(w.Calls), 1) > maxVerdicts {
			return nil
		}
	}
	var gaps []Gap
	for _, s := range states {
		if s == 0 || s == w.full {
			continue
		}
		for call, outcome := range w.at(s) {
			kind, is := w.gap(call, outcome)
			if is && !slices.ContainsFunc(gaps, func(g Gap) bool { return g.Call == call }) {
				gaps = append(gaps, Gap{Call: call, Kind: kind, Outcome: outcome})
			}
		}
	}
	slices.SortFunc(gaps, func(a, b Gap) int { return a.Call - b.Call })
	return gaps
}

// all walks every order at once: what is left to pay from a world on does not
// depend on how it was come to. clean counts the orders that cost nothing.
func (w *walker) all() (best []int, clean float64) {
	n := len(w.Writes)
	left, free := make([]cost, w.full+1), make([]float64, w.full+1)
	free[w.full] = 1
	for s := w.full; ; s-- {
		here := w.cost(s)
		if s != w.full {
			first := true
			for write := range n {
				if s.has(write) {
					continue
				}
				next := s.with(write)
				if first || left[next].less(left[s]) {
					left[s], first = left[next], false
				}
				free[s] += free[next]
			}
		}
		if here != (cost{}) {
			free[s] = 0
		}
		left[s] = left[s].plus(here)
		if s == 0 {
			break
		}
	}
	for s := state(0); s != w.full; {
		choice := -1
		for write := range n {
			if !s.has(write) && (choice < 0 || left[s.with(write)].less(left[s.with(choice)])) {
				choice = write
			}
		}
		best = append(best, choice)
		s = s.with(choice)
	}
	return best, free[0]
}

// search goes from the beam best worlds of one size to those of the next. It finds
// an order, and perhaps not the best one.
func (w *walker) search() []int {
	type way struct {
		at    state
		paid  cost
		steps []int
	}
	ways := []way{{}}
	for range w.Writes {
		longer := map[state]way{}
		var order []state
		for _, one := range ways {
			for write := range w.Writes {
				if one.at.has(write) {
					continue
				}
				next := way{at: one.at.with(write), steps: append(slices.Clone(one.steps), write)}
				next.paid = one.paid.plus(w.cost(next.at))
				known, there := longer[next.at]
				if !there {
					order = append(order, next.at)
				}
				if !there || next.paid.less(known.paid) {
					longer[next.at] = next
				}
			}
		}
		ways = ways[:0]
		for _, s := range order {
			ways = append(ways, longer[s])
		}
		slices.SortStableFunc(ways, func(a, b way) int {
			switch {
			case a.paid.less(b.paid):
				return -1
			case b.paid.less(a.paid):
				return 1
			}
			return bits.OnesCount64(uint64(a.at&^(1<<len(a.steps)-1))) - bits.OnesCount64(uint64(b.at&^(1<<len(b.steps)-1)))
		})
		ways = ways[:min(len(ways), beam)]
	}
	return ways[0].steps
}
