package generate

import (
	"fmt"
	"time"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// Version changes with what is generated: a seed is enough together with it.
const Version = 3

// Case is a generated scenario.
type Case struct {
	Seed  int64
	Index int
	// Scenario is what is carried out.
	Scenario *scenarios.Scenario
	// Law says what Twin has in common with Scenario, and is empty where there is
	// no twin (N15).
	Law  Law
	Twin *scenarios.Scenario
	// Transitions of every step but the first.
	Transitions [][]Transition
}

const (
	// leastSteps and mostSteps are how many edits a scenario has: so many that it is
	// worth its pods, which cost a cluster more than ten edits do, and few enough to
	// begin with another world often.
	leastSteps, mostSteps = 14, 22
	// kindsTried is how many kinds of edits are tried for one that changes an answer.
	kindsTried = 5
	// candidates is how many edits of one kind are looked at.
	candidates = 5
	// blind is how many edits of a hundred are taken as they come, and telling by how
	// many of the others a rule is to be told from its contrary that was not before.
	blind   = 25
	telling = 40
	// sidesTried is how many contraries are thought of at an edit, and sidesSought at
	// how many edits that could be taken in its place.
	sidesTried, sidesSought = 3, 12
	// trafficShare is how many scenarios of a hundred are called all the time.
	trafficShare = 20
	// lawShare is how many of a hundred have a twin.
	lawShare = 10
)

// New makes scenario number index of a seed.
func New(seed int64, index int) (*Case, error) {
	r := newRandom(seed, index)
	p := r.parts()
	c := &Case{Seed: seed, Index: index, Scenario: &scenarios.Scenario{APIVersion: scenarios.APIVersion, Kind: scenarios.KindScenario,
		Metadata: scenarios.Metadata{Name: fmt.Sprintf("g%d", index), Labels: []string{"generated"}},
		Spec:     scenarios.Spec{Summary: fmt.Sprintf("Generated from seed %d, number %d", seed, index), Annotations: p.annotations, Workloads: p.workloads, Clients: p.clients}}}
	sheet, err := newPaper(c.Scenario)
	if err != nil {
		return nil, err
	}
	b := &builder{random: r, state: &state{}, sides: newSides()}
	for _, w := range p.workloads {
		b.workloads = append(b.workloads, w.Name)
	}
	b.flows = r.chance(trafficShare)
	b.world(c, p)
	if b.flows {
		b.traffic(c, p)
	}
	if err := b.edits(c, p, sheet); err != nil {
		return nil, err
	}
	if !b.flows && r.chance(lawShare) {
		if err := b.twin(c, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// world makes the objects of the first step.
func (b *builder) world(c *Case, p parts) {
	var all []scenarios.Object
	for _, k := range kinds() {
		for range max(b.IntN(k.most), k.least) {
			made, _, ok := b.make(k.ref)
			if !ok {
				continue
			}
			next, err := b.state.do(&scenarios.Action{Apply: []scenarios.Object{{Content: made}}})
			if err != nil {
				continue
			}
			b.state = next
			all = append(all, scenarios.Object{Content: made})
		}
	}
	step := scenarios.Step{Name: "0: the world", Claims: p.claims()}
	if len(all) > 0 {
		step.Actions = []scenarios.Action{{Apply: all}}
	}
	c.Scenario.Spec.Steps = append(c.Scenario.Spec.Steps, step)
}

// traffic adds one or two streams that flow all the time.
func (b *builder) traffic(c *Case, p parts) {
	calls := p.calls()
	for i := range b.between(1, 2) {
		call := calls[b.IntN(len(calls))]
		stream := scenarios.Stream{Name: fmt.Sprintf("stream-%d", i+1), Request: call.Request, Rate: trafficRate}
		stream.Timeout = trafficTimeout
		c.Scenario.Spec.Traffic = append(c.Scenario.Spec.Traffic, stream)
	}
}

const (
	// trafficRate is in calls a second: an answer every 20 ms bounds a change well
	// enough, and several scenarios run side by side.
	trafficRate = 50
	// trafficTimeout ends calls of a stream.
	trafficTimeout = 5 * time.Second
)

// edits adds steps until there are enough.
func (b *builder) edits(c *Case, p parts, sheet *paper) error {
	calls := p.calls()
	steps, least, most := b.between(leastSteps, mostSteps), 1, 1
	if b.flows {
		steps, least, most = b.between(leastSteps/3, mostSteps/3), 2, 4
	}
	before, err := sheet.judge(b.state, calls, oracle.DefaultRules())
	if err != nil {
		return err
	}
	for number := 1; number <= steps; number++ {
		b.state.step = number
		step := scenarios.Step{Name: fmt.Sprintf("%d:", number)}
		var done []Transition
		asked := map[place]bool{}
		for range b.between(least, most) {
			e, next, err := b.next(sheet, calls)
			if err != nil {
				return err
			}
			if next == nil {
				break
			}
			b.state = next
			if len(done) > 0 {
				step.Name += ","
			}
			step.Name += " " + e.name
			step.Actions = append(step.Actions, e.actions...)
			done = append(done, e.transition)
			for _, one := range e.tells {
				asked[one] = true
			}
		}
		if len(done) == 0 {
			break
		}
		now, err := sheet.judge(b.state, calls, oracle.DefaultRules())
		if err != nil {
			return err
		}
		if step.Claims = p.claims(); number < steps {
			step.Claims = b.after(p, before, now, asked)
		}
		before = now
		c.Scenario.Spec.Steps = append(c.Scenario.Spec.Steps, step)
		c.Transitions = append(c.Transitions, done)
	}
	return nil
}

// next is an edit by chance, and rather one by which a rule is told from its
// contrary, or by which somebody sees another answer at least; without a state there
// is none. Of each kind of edit several are looked at before another kind is: else
// those that nearly always change something would crowd out the rest.
func (b *builder) next(sheet *paper, calls []*scenarios.Call) (best edit, after *state, err error) {
	anything := b.chance(blind)
	var these []int
	if b.chance(telling) {
		these = b.sides.few(b.random)
	}
	var before []Answer
	changes, sought := false, 0
	for range kindsTried {
		kind := choose(b.random, weights()...)
		for range candidates {
			e, ok := b.edit(kind)
			if !ok {
				break
			}
			next, err := b.state.all(e.actions)
			if err != nil {
				continue // a cluster would not take it
			}
			if !changes {
				best, after = e, next
			}
			if anything {
				return best, after, nil
			}
			if before == nil {
				if before, err = sheet.judge(b.state, calls, oracle.DefaultRules()); err != nil {
					return best, nil, err
				}
			}
			now, err := sheet.judge(next, calls, oracle.DefaultRules())
			if err != nil {
				return best, nil, err
			}
			if sought++; sought > sidesSought {
				these = nil
			}
			if len(these) > 0 {
				places, left, err := b.sides.shown(sheet, next, calls, now, these)
				if err != nil {
					return best, nil, err
				}
				if len(places) > 0 {
					e.tells, b.sides.left = places, left
					return e, next, nil
				}
			}
			if !changes && turned(before, now) > 0 {
				best, after, changes = e, next, true
			}
			if changes && len(these) == 0 {
				return best, after, nil
			}
		}
	}
	return best, after, nil
}

// all is the state after some actions.
func (s *state) all(actions []scenarios.Action) (*state, error) {
	at := s
	for i := range actions {
		next, err := at.do(&actions[i])
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// turned counts the calls of which something else becomes.
func turned(before, after []Answer) int {
	was := map[cell]bool{}
	for i := range before {
		was[before[i].cell()] = before[i].Verdict.Allowed()
	}
	n := 0
	for i := range after {
		if allowed, asked := was[after[i].cell()]; asked && allowed != after[i].Verdict.Allowed() {
			n++
		}
	}
	return n
}
