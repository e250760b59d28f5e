package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// scenarioRun is one scenario while it runs. Its fields belong to the
// scenario's own goroutine except those under mu.
type scenarioRun struct {
	e         *run
	planned   *scenarios.PlannedScenario
	lane      *walltime.Lane
	namespace string
	values    map[string]string
	clients   map[string]client
	// interest are the ports, by component, whose policy the scenario's claims
	// depend on: writes are waited for there.
	interest map[string]map[int]bool
	streams  map[string]*streamRun
	held     map[string]*heldRun
	// owed are the versions of writes that nobody has waited for.
	owed versions
	// undo are taken back in reverse order at the end.
	undo []func(context.Context)
	// attempt says that nobody will look for evidence of what fails.
	attempt bool
	// badInput says that the scenario itself was the reason why it ended early.
	badInput bool
	// begun says that the scenario may have made something.
	begun      bool
	prepared   sync.Once
	prepareErr error
	// recorder keeps what happens while the scenario's traffic flows; nil where there
	// is none.
	recorder *recorder
	// lastWorld is that of the step that was judged last.
	lastWorld *world
	// begins are the streams' positions when a step began.
	begins map[string]map[string]int64

	mu sync.Mutex
	// origins are how pods were asked for, by the namespace and the label app of
	// theirs.
	origins map[string]oracle.Origin
	// bound are those of the pods that were seen.
	bound map[types.UID]oracle.Origin
	// templates are those of pods' owners, by the owner's UID and its revision.
	templates map[string]*corev1.Pod
	hashes    map[endpoint]string
	// faults in the order in which they were made.
	faults []*faultRun
	// services that were looked up, by namespace/name.
	services map[string]*corev1.Service
	res      *result.Scenario
}

type endpoint struct {
	pod  types.NamespacedName
	port int
}

func newScenarioRun(e *run, planned *scenarios.PlannedScenario) *scenarioRun {
	s := &scenarioRun{e: e, planned: planned, lane: e.WallTime.Lane(), clients: map[string]client{}, interest: map[string]map[int]bool{},
		streams: map[string]*streamRun{}, held: map[string]*heldRun{}, begins: map[string]map[string]int64{}, hashes: map[endpoint]string{}, origins: map[string]oracle.Origin{}, bound: map[types.UID]oracle.Origin{}, templates: map[string]*corev1.Pod{}, services: map[string]*corev1.Service{}}
	s.namespace = planned.Spec.Namespace
	if s.namespace == "" {
		s.namespace = s.generated("")
	}
	prefix, _ := outside(e.Capabilities)
	s.values = map[string]string{"namespace": s.namespace, "clients": e.clientsNamespace(), "run": e.ID, "outside": prefix.String()}
	for _, n := range planned.Spec.Namespaces {
		s.values["ns."+n.Name] = n.Name
		if !n.Exact {
			s.values["ns."+n.Name] = s.generated(n.Name)
		}
	}
	s.res = &result.Scenario{Name: planned.Metadata.Name, Summary: planned.Spec.Summary, Labels: planned.Metadata.Labels,
		Source: source(planned.Pos), Outcome: result.Inconclusive, Started: time.Now()}
	for i := range planned.Spec.Traffic {
		s.interestedIn(planned.Spec.Traffic[i].Target, planned.Spec.Traffic[i].Protocol)
	}
	for _, step := range planned.Steps {
		one := result.Step{Name: step.Name, Source: source(step.Pos), Outcome: result.Skipped, Reason: notReached}
		for _, claim := range step.Claims {
			one.Claims = append(one.Claims, s.blank(claim))
			// Where policy stands still and the rules are not asked there is nothing to
			// wait for; and a port that is waited for is one that was asked for.
			if !step.Frozen || claim.Claim.NoOracle == "" {
				s.interested(claim)
			}
		}
		for i := range step.Actions {
			if a := &step.Actions[i]; a.Start != nil {
				s.interestedIn(a.Start.Target, a.Start.Protocol)
			} else if a.Hold != nil {
				s.interestedIn(a.Hold.Target, a.Hold.Protocol)
			}
		}
		s.res.Steps = append(s.res.Steps, one)
	}
	return s
}

// generated makes a namespace's name from the run, the scenario and a part.
func (s *scenarioRun) generated(part string) string {
	name := "mp-" + s.e.short() + "-" + s.planned.Metadata.Name
	if part != "" {
		name += "-" + part
	}
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.TrimRight(name, "-")
}

func source(p scenarios.Pos) result.Source { return result.Source{File: p.File, Line: p.Line} }

// blank is a claim before it was judged.
func (s *scenarioRun) blank(c *scenarios.PlannedClaim) result.Claim {
	out := result.Claim{ID: c.ID, Name: c.Name, Shows: c.Shows, Feature: string(c.Feature), Outcome: result.Skipped, Reason: notReached, Source: source(c.Source)}
	if c.Call != nil {
		out.Client, out.Target, out.Protocol, out.Expected = c.Call.Client, c.Call.Target, string(c.Call.Protocol), c.Call.Expect.String()
	}
	if why := s.skipped(c); why != "" {
		out.Reason = why
	}
	return out
}

func (s *scenarioRun) interested(c *scenarios.PlannedClaim) {
	switch {
	case c.Call != nil:
		s.interestedIn(c.Call.Target, c.Call.Protocol)
	case c.Claim.Rate != nil:
		for i := range c.Claim.Rate.Calls {
			s.interestedIn(c.Claim.Rate.Calls[i].Target, c.Claim.Rate.Calls[i].Protocol)
		}
	case c.Claim.Policy != nil:
		s.interestedIn(c.Claim.Policy.Target, "")
	}
}

func (s *scenarioRun) interestedIn(text string, protocol scenarios.Protocol) {
	target, err := s.planned.Target(text, protocol)
	if err != nil {
		return // the parser has refused it
	}
	if s.interest[target.Component] == nil {
		s.interest[target.Component] = map[int]bool{}
	}
	s.interest[target.Component][target.Port] = true
}

// space is the real name of a namespace of the scenario.
func (s *scenarioRun) space(name string) string {
	if name == "" {
		return s.namespace
	}
	return s.values["ns."+name]
}

// exactNamespaces are those whose names other scenarios may use too.
func (s *scenarioRun) exactNamespaces() []string {
	var names []string
	if s.planned.Spec.Namespace != "" {
		names = append(names, s.planned.Spec.Namespace)
	}
	for _, n := range s.planned.Spec.Namespaces {
		if n.Exact {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names) // the same order for everybody: no deadlock
	return names
}

func (s *scenarioRun) waiting(what string) {
	s.e.tell(Event{Kind: Waiting, Scenario: s.res.Name, Text: what})
}

func (s *scenarioRun) result() *result.Scenario { return s.res }

// run carries out the scenario from set-up to clean-up.
func (s *scenarioRun) run(ctx context.Context) {
	for _, name := range s.exactNamespaces() {
		lock := s.e.locks[name]
		lock.Lock()
		defer lock.Unlock()
	}
	if why, outcome, _ := ended(ctx); why != nil && !s.begun {
		s.notBegun(why, outcome)
		s.giveBack(ctx) // an earlier scenario may have left it a namespace
		return
	}
	s.e.tell(Event{Kind: ScenarioStarted, Scenario: s.res.Name, Text: s.planned.Spec.Summary})
	s.prepare(ctx)
	rest := s.lane.In(walltime.Rest)
	began := time.Now()
	err := s.prepareErr
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && s.allSkipped() {
		s.skip()
	} else {
		if err == nil {
			err = s.record(ctx)
		}
		if err == nil {
			err = s.steps(ctx)
		}
		err = cmp.Or(err, s.recorder.close(ctx))
		var taken *takenError
		if errors.As(err, &taken) {
			s.lack(taken.Error())
		} else {
			s.conclude(ctx, err)
		}
		s.noteStandIns()
		s.gather(ctx)
		s.giveBack(ctx)
	}
	s.res.Duration += time.Since(began).Seconds()
	rest()
	s.res.WallTime = walltime.Results(s.lane.Spent())
	s.e.tell(Event{Kind: ScenarioFinished, Scenario: s.res.Name, Text: string(s.res.Outcome), Finished: s.res})
}

// prepare sets the scenario up, once.
func (s *scenarioRun) prepare(ctx context.Context) {
	s.prepared.Do(func() {
		s.res.Started = time.Now()
		if s.allSkipped() {
			return
		}
		if s.prepareErr = ctx.Err(); s.prepareErr == nil {
			s.begun = true
			defer s.lane.In(walltime.Pods)()
			s.prepareErr = s.setUp(ctx)
		}
		s.res.Duration = time.Since(s.res.Started).Seconds()
	})
}

// installs says whether any step changes the settings of the mesh.
func (s *scenarioRun) installs() bool {
	for _, step := range s.planned.Spec.Steps {
		for _, action := range step.Actions {
			if action.Install != nil || action.Scale != nil {
				return true
			}
		}
	}
	return false
}

// keepsRates says whether any claim is about calls at a fixed rate.
func (s *scenarioRun) keepsRates() bool {
	for _, step := range s.planned.Steps {
		for _, claim := range step.Claims {
			if claim.Claim.Rate != nil {
				return true
			}
		}
	}
	return false
}

func (s *scenarioRun) allSkipped() bool {
	for _, step := range s.planned.Steps {
		for _, claim := range step.Claims {
			if s.skipped(claim) == "" {
				return false
			}
		}
	}
	return true
}

// lack skips a scenario for which the cluster lacks something.
func (s *scenarioRun) lack(why string) {
	for i := range s.res.Steps {
		for j := range s.res.Steps[i].Claims {
			if claim := &s.res.Steps[i].Claims[j]; claim.Reason == notReached {
				claim.Outcome, claim.Reason = result.Skipped, why
			}
		}
	}
	s.skip()
}

func (s *scenarioRun) skip() {
	s.res.Outcome = result.Skipped
	for i := range s.res.Steps {
		s.res.Steps[i].Outcome, s.res.Steps[i].Reason = result.Skipped, ""
		for j := range s.res.Steps[i].Claims {
			s.res.Reason = s.res.Steps[i].Claims[j].Reason
			s.finished(i, j, nil)
		}
	}
}

// installsFirst says whether the scenario begins with settings of its own.
func (s *scenarioRun) installsFirst() bool {
	steps := s.planned.Spec.Steps
	return len(s.planned.Spec.Workloads) > 0 && len(steps[0].Actions) > 0 && steps[0].Actions[0].Install != nil
}

// setUp makes namespaces, workloads and clients, all at once, and waits until
// everything is there and under the policy that the controller serves.
func (s *scenarioRun) setUp(ctx context.Context) error {
	s.waiting("its namespaces, workloads and clients")
	spec := s.planned.Spec
	if err := s.e.makeNamespace(ctx, s.namespace, spec.Labels, spec.Annotations); err != nil {
		return input(s.planned.Pos, err)
	}
	for _, n := range spec.Namespaces {
		if err := s.e.makeNamespace(ctx, s.values["ns."+n.Name], n.Labels, n.Annotations); err != nil {
			return input(n.Pos, err)
		}
	}
	first, then := newGroup(), newGroup()
	for i := range spec.Workloads {
		if w := &spec.Workloads[i]; !w.Later && s.lackedByWorkload(w) == "" {
			first.do(func() error {
				if err := s.placed(ctx, w.Apart); err != nil {
					return about(w.Pos, "workload "+w.Name, err)
				}
				if err := s.deployWorkload(ctx, w); err != nil {
					return about(w.Pos, "workload "+w.Name, err)
				}
				if err := s.awaitWorkload(ctx, w, w.Await); err != nil {
					return about(w.Pos, "workload "+w.Name, err)
				}
				return nil
			})
		}
	}
	var mu sync.Mutex
	join := func(those *group, c scenarios.Client) {
		those.do(func() error {
			one, err := s.joined(ctx, c)
			if err != nil {
				return about(c.Pos, "client "+c.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.clients[c.Name] = one
			return nil
		})
	}
	var within []scenarios.Client
	for _, c := range spec.Clients {
		switch {
		case s.lackedBy(c) != "":
		case c.Inside != "":
			within = append(within, c)
		default:
			join(first, c)
		}
	}
	if err := first.wait(); err != nil {
		return err
	}
	// Their pods are those of workloads, which stand now, however long they had
	// to wait for their turn to start.
	for _, c := range within {
		join(then, c)
	}
	if err := then.wait(); err != nil {
		return err
	}
	if err := s.reachable(ctx, func(w *scenarios.Workload) bool { return !w.Later && w.Await != scenarios.AwaitNone }); err != nil {
		return err
	}
	return s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

// joined is a declared client with its pod, and with the certificate that it is
// to present.
func (s *scenarioRun) joined(ctx context.Context, c scenarios.Client) (client, error) {
	if err := s.placed(ctx, c.Apart); err != nil {
		return client{}, err
	}
	pod, err := s.clientPod(ctx, c)
	if err != nil {
		return client{}, err
	}
	one := client{Client: c, clientPod: pod, identity: pod.identity}
	if c.Kind == scenarios.SPIFFE {
		one.identity = cmp.Or(s.text(c.Identity), "spiffe://cluster.local/ns/"+pod.name.Namespace+"/sa/"+account(c.ServiceAccount))
		one.certificate, err = s.e.certify(ctx, one.identity)
	}
	return one, err
}

// placed waits until the pods of a workload have their nodes, so that those who
// keep their distance do not take all nodes before. No name means nobody.
func (s *scenarioRun) placed(ctx context.Context, workload string) error {
	if workload == "" {
		return nil
	}
	w := s.workload(workload)
	return s.e.pods.until(ctx, podsBudget, func() (bool, string) {
		pods := s.podsOf(w)
		for _, pod := range pods {
			if pod.Spec.NodeName == "" {
				return false, why(pod)
			}
		}
		return len(pods) >= len(w.Components())*replicasOf(w), workload + ", from which it is to be apart, has no pods"
	})
}

func (s *scenarioRun) clientPod(ctx context.Context, c scenarios.Client) (*clientPod, error) {
	if c.Shared {
		return s.e.shared.get(ctx, c)
	}
	if c.Inside != "" {
		return s.insider(ctx, c)
	}
	namespace := s.space(c.Namespace)
	if err := s.e.makeClientPod(ctx, namespace, c); err != nil {
		return nil, err
	}
	pod, err := s.e.awaitClientPod(ctx, namespace, c)
	if err != nil {
		return nil, s.explain(ctx, err, namespace)
	}
	return pod, nil
}
