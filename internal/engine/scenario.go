package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// scenarioRun is one scenario while it runs. Its fields belong to the
// scenario's own goroutine except those under mu.
type scenarioRun struct {
	e         *run
	planned   *scenarios.PlannedScenario
	namespace string
	values    map[string]string
	clients   map[string]client
	// interest are the ports, by component, whose policy the scenario's claims
	// depend on: writes are waited for there.
	interest map[string]map[int]bool
	streams  map[string]*streamRun
	held     map[string]*heldRun
	// undo are taken back in reverse order at the end.
	undo []func(context.Context)
	// badInput says that the scenario itself was the reason why it ended early.
	badInput   bool
	prepared   sync.Once
	prepareErr error
	// begins are the streams' positions when a step began.
	begins map[string]map[string]int64

	mu     sync.Mutex
	hashes map[endpoint]string
	// services that were looked up, by namespace/name.
	services map[string]*corev1.Service
	res      *result.Scenario
}

type endpoint struct {
	pod  types.NamespacedName
	port int
}

func newScenarioRun(e *run, planned *scenarios.PlannedScenario) *scenarioRun {
	s := &scenarioRun{e: e, planned: planned, clients: map[string]client{}, interest: map[string]map[int]bool{},
		streams: map[string]*streamRun{}, held: map[string]*heldRun{}, begins: map[string]map[string]int64{}, hashes: map[endpoint]string{}, services: map[string]*corev1.Service{}}
	s.namespace = planned.Spec.Namespace
	if s.namespace == "" {
		s.namespace = s.generated("")
	}
	s.values = map[string]string{"namespace": s.namespace, "clients": "mp-" + e.short() + "-clients", "run": e.ID}
	for _, n := range planned.Spec.Namespaces {
		s.values["ns."+n.Name] = n.Name
		if !n.Exact {
			s.values["ns."+n.Name] = s.generated(n.Name)
		}
	}
	s.res = &result.Scenario{Name: planned.Metadata.Name, Summary: planned.Spec.Summary, Labels: planned.Metadata.Labels,
		Source: source(planned.Pos), Outcome: result.Inconclusive, Started: time.Now()}
	for _, step := range planned.Steps {
		one := result.Step{Name: step.Name, Source: source(step.Pos), Outcome: result.Skipped, Reason: notReached}
		for _, claim := range step.Claims {
			one.Claims = append(one.Claims, blank(claim, result.Skipped, notReached))
			s.interested(claim)
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
func blank(c *scenarios.PlannedClaim, outcome result.Outcome, reason string) result.Claim {
	out := result.Claim{Name: c.Name, Shows: c.Shows, Outcome: outcome, Reason: reason, Source: source(c.Source)}
	if c.Call != nil {
		out.Client, out.Target, out.Protocol, out.Expected = c.Call.Client, c.Call.Target, string(c.Call.Protocol), c.Call.Expect.String()
	}
	if c.Claim.Skip != "" {
		out.Outcome, out.Reason = result.Skipped, c.Claim.Skip
	}
	return out
}

func (s *scenarioRun) interested(c *scenarios.PlannedClaim) {
	switch {
	case c.Call != nil:
		s.interestedIn(c.Call.Target, c.Call.Protocol)
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

// notReached is the reason of what was not judged because the scenario ended
// before; such a claim counts as skipped, and the scenario as an error.
const notReached = "not reached"

// abandon says of every claim that was not judged why not, and tells of it.
func (s *scenarioRun) abandon(err error) {
	s.res.Outcome, s.res.Reason = result.Error, err.Error()
	for i := range s.res.Steps {
		for j := range s.res.Steps[i].Claims {
			if claim := &s.res.Steps[i].Claims[j]; claim.Reason == notReached {
				claim.Reason = notReached + ": " + err.Error()
				s.finished(i, j, nil)
			}
		}
		if s.res.Steps[i].Reason == notReached {
			s.res.Steps[i].Reason = notReached + ": " + err.Error()
		}
	}
}

// finished tells that a claim has its outcome.
func (s *scenarioRun) finished(step, claim int, outcome *clients.Outcome) {
	done := s.res.Steps[step].Claims[claim]
	s.e.tell(Event{Kind: ClaimFinished, Scenario: s.res.Name, Step: s.res.Steps[step].Name, Text: done.Name,
		Claim: s.planned.Steps[step].Claims[claim], Result: &done, Outcome: outcome})
}

// run carries out the scenario from set-up to clean-up.
func (s *scenarioRun) run(ctx context.Context) {
	for _, name := range s.exactNamespaces() {
		lock := s.e.locks[name]
		lock.Lock()
		defer lock.Unlock()
	}
	s.e.tell(Event{Kind: ScenarioStarted, Scenario: s.res.Name, Text: s.planned.Spec.Summary})
	s.prepare(ctx)
	began := time.Now()
	err := s.prepareErr
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && s.allSkipped() {
		s.skip()
	} else {
		if err == nil {
			err = s.steps(ctx)
		}
		s.conclude(ctx, err)
		s.gather(ctx)
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
		s.cleanUp(clean)
		cancel()
	}
	s.res.Duration += time.Since(began).Seconds()
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

func (s *scenarioRun) allSkipped() bool {
	for _, step := range s.planned.Steps {
		for _, claim := range step.Claims {
			if claim.Claim.Skip == "" {
				return false
			}
		}
	}
	return true
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
	if err := s.e.makeNamespace(ctx, s.namespace, nil, spec.Annotations); err != nil {
		return err
	}
	for _, n := range spec.Namespaces {
		if err := s.e.makeNamespace(ctx, s.values["ns."+n.Name], n.Labels, n.Annotations); err != nil {
			return err
		}
	}
	group := newGroup()
	for i := range spec.Workloads {
		if w := &spec.Workloads[i]; !w.Later {
			group.do(func() error {
				if err := s.deployWorkload(ctx, w); err != nil {
					return fmt.Errorf("%s: workload %s: %w", w.Pos, w.Name, err)
				}
				if err := s.awaitWorkload(ctx, w, w.Await); err != nil {
					return fmt.Errorf("%s: workload %s: %w", w.Pos, w.Name, err)
				}
				return nil
			})
		}
	}
	var mu sync.Mutex
	for _, c := range spec.Clients {
		group.do(func() error {
			pod, err := s.clientPod(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: client %s: %w", c.Pos, c.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.clients[c.Name] = client{c, pod}
			return nil
		})
	}
	if err := group.wait(); err != nil {
		return err
	}
	return s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

func (s *scenarioRun) clientPod(ctx context.Context, c scenarios.Client) (*clientPod, error) {
	if c.Shared {
		return s.e.shared.get(ctx, c)
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

// steps takes the steps in order. An error ends the scenario; a policy that is
// not in force in time does not, it fails the step's claims.
func (s *scenarioRun) steps(ctx context.Context) error {
	for i := range s.planned.Steps {
		if err := s.step(ctx, i); err != nil {
			return fmt.Errorf("step %q: %w", s.planned.Steps[i].Name, err)
		}
	}
	return nil
}

func (s *scenarioRun) step(ctx context.Context, index int) error {
	planned, res := &s.planned.Steps[index], &s.res.Steps[index]
	s.e.tell(Event{Kind: StepStarted, Scenario: s.res.Name, Step: planned.Name})
	began := time.Now()
	defer func() { res.Duration = time.Since(began).Seconds() }()
	res.Reason = ""
	s.begins[planned.Name] = s.positions(ctx)

	var late error
	for range max(planned.Repeat, 1) {
		for i := range planned.Actions {
			action := &planned.Actions[i]
			line, err := s.act(ctx, action)
			if planned.Repeat <= 1 {
				res.Actions = append(res.Actions, line)
			}
			if errors.Is(err, errBudget) {
				late = errors.Join(late, fmt.Errorf("%s: %s: %w", action.Pos, line, err))
				continue
			}
			if err != nil {
				var wrong *inputError
				if !errors.As(err, &wrong) {
					err = fmt.Errorf("%s: %s: %w", action.Pos, line, err)
				}
				res.Outcome, res.Reason = result.Error, err.Error()
				return err
			}
		}
	}
	if planned.Repeat > 1 {
		res.Actions = append(res.Actions, fmt.Sprintf("%d times: %d actions", planned.Repeat, len(planned.Actions)))
	}
	s.judge(ctx, index, late)
	res.Outcome = sum(res.Claims)
	if late != nil {
		res.Reason = late.Error()
		if len(res.Claims) == 0 {
			// Nobody would be told otherwise.
			res.Outcome = result.Failed
		}
	}
	return ctx.Err()
}

// errInterrupted is the reason of what was not reached because of the user.
var errInterrupted = errors.New("interrupted")

// sum is the worst outcome of some claims; without claims it is passed, because
// the actions were carried out.
func sum(claims []result.Claim) result.Outcome {
	count := map[result.Outcome]int{}
	for _, claim := range claims {
		count[claim.Outcome]++
	}
	switch {
	case count[result.Failed]+count[result.Error] > 0:
		return result.Failed
	case count[result.Inconclusive] > 0:
		return result.Inconclusive
	case count[result.Skipped] > 0 && count[result.Passed] == 0:
		return result.Skipped
	}
	return result.Passed
}

// conclude gives the scenario its outcome. err ended it early.
func (s *scenarioRun) conclude(ctx context.Context, err error) {
	worst := result.Passed
	for i := range s.res.Steps {
		switch s.res.Steps[i].Outcome {
		case result.Failed:
			worst = result.Failed
		case result.Inconclusive:
			if worst == result.Passed {
				worst = result.Inconclusive
			}
		}
	}
	if err != nil {
		var wrong *inputError
		s.badInput = errors.As(err, &wrong)
		// Whatever failed after the end of ctx failed because of it.
		interrupted := ctx.Err() != nil && !s.badInput
		if interrupted {
			err = errInterrupted
		}
		s.abandon(err)
		if interrupted && worst == result.Passed {
			s.res.Outcome = result.Inconclusive
		}
		if worst != result.Failed {
			return
		}
	}
	s.res.Outcome = worst
	if worst == result.Passed {
		return
	}
	for _, step := range s.res.Steps {
		if step.Reason != "" && s.res.Reason == "" {
			s.res.Reason = step.Reason
		}
		for _, claim := range step.Claims {
			if claim.Outcome == worst && s.res.Reason == "" {
				s.res.Reason = fmt.Sprintf("%s: %s", claim.Name, claim.Reason)
			}
		}
	}
}

// cleanUp gives back what the scenario made.
func (s *scenarioRun) cleanUp(ctx context.Context) {
	for _, stream := range s.streams {
		if !stream.stopped {
			_, _ = stream.client.agent.StopStream(ctx, stream.name, stream.seq)
		}
	}
	for _, held := range s.held {
		_, _ = held.client.agent.CloseConnection(ctx, held.name)
	}
	for _, back := range slices.Backward(s.undo) {
		back(ctx)
	}
	if s.keepsNamespace() {
		s.removePolicies(ctx)
		return
	}
	if s.e.Leave && len(s.exactNamespaces()) == 0 {
		return
	}
	grace := int64(0)
	for _, name := range append([]string{s.namespace}, s.furtherNamespaces()...) {
		_ = s.e.kube.typed.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
		for _, pod := range s.e.pods.list(name, nil) {
			s.e.forward.drop(nameOf(pod))
		}
	}
}

func (s *scenarioRun) furtherNamespaces() []string {
	var names []string
	for _, n := range s.planned.Spec.Namespaces {
		names = append(names, s.values["ns."+n.Name])
	}
	return names
}

// keepsNamespace says whether a later scenario of the run uses the same fixed
// namespace: it stands then, so that its workload need not start again.
func (s *scenarioRun) keepsNamespace() bool {
	if s.planned.Spec.Namespace == "" {
		return false
	}
	s.e.observing.Lock()
	defer s.e.observing.Unlock()
	left := 0
	for _, other := range s.e.users[s.namespace] {
		if other != s {
			left++
		}
	}
	s.e.users[s.namespace] = slices.DeleteFunc(s.e.users[s.namespace], func(other *scenarioRun) bool { return other == s })
	return left > 0
}

// removePolicies deletes the namespace's policy objects.
func (s *scenarioRun) removePolicies(ctx context.Context) {
	for kind := range policyKinds {
		resource, _, err := s.e.kube.resource(kindOf(kind), s.namespace)
		if err == nil {
			_ = resource.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}
	}
}

// group runs functions side by side and keeps the first error.
type group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	first error
}

func newGroup() *group { return &group{} }

func (g *group) do(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.first == nil {
				g.first = err
			}
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return g.first
}
