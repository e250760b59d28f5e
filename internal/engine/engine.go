package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// InstallOptions are the mesh's install-time settings that a scenario may ask
// for; zero values mean the installer's defaults.
type InstallOptions struct {
	DefaultInboundPolicy string
	ClusterNetworks      []string
	// ProbeNetworks is nil for the installer's default, and empty for none.
	ProbeNetworks []string
	HA            bool
}

// Manifests prints what is applied to install the mesh or to upgrade it.
type Manifests func(InstallOptions) ([]byte, error)

// Options of a run.
type Options struct {
	// ID of the run, in the form of its folder: 20261122-023000-7f3a.
	ID string
	// Dir is the run's folder, for bundles; none are written when it is empty.
	Dir string
	// Manifests of the mesh, for scenarios that upgrade it; those are in error
	// when it is nil.
	Manifests Manifests
	// Alone waits until no other run uses the cluster, before scenarios that
	// change what all of it shares; nil: there can be no other.
	Alone func(context.Context) error
	// Observe is told what happens, from one goroutine at a time; nil: nobody.
	Observe func(Event)
	// TransitionBudget is how long a write may take to come into force in scenarios
	// with traffic that do not say it; 0 means scenarios.DefaultBudget.
	TransitionBudget time.Duration
	// Parallel bounds the scenarios that run side by side; 0 means all, or
	// scenariosPerNode for each node whose containers are real ones.
	Parallel int
	// Leave keeps what the scenarios made: the cluster ends with the run.
	Leave bool
	// Capabilities of the cluster: claims that need more are skipped.
	Capabilities cluster.Capabilities
	// Faults are made with it where Capabilities.Faults says that they can be.
	Faults cluster.Faults
	// Registry, when it is not empty, is where the images of all pods come from:
	// references are rewritten with images.Relocate.
	Registry string
	// ImagePullPolicy, when it is not empty, is that of all containers.
	ImagePullPolicy corev1.PullPolicy
	// Tool, Cluster, Mesh, Seed and Timings go into the result as they are.
	Tool    result.Tool
	Cluster result.Cluster
	Mesh    result.Mesh
	Seed    int64
	Timings []result.Timing
	// WallTime keeps what the time goes into; nil: nobody asks.
	WallTime *walltime.Book
}

// EventKind says what an Event tells.
type EventKind string

const (
	RunStarted      EventKind = "run-started"
	ScenarioStarted EventKind = "scenario-started"
	// Waiting: Text says for what.
	Waiting          EventKind = "waiting"
	StepStarted      EventKind = "step-started"
	ClaimFinished    EventKind = "claim-finished"
	ScenarioFinished EventKind = "scenario-finished"
	RunFinished      EventKind = "run-finished"
)

// Event is one thing that happened in a run.
type Event struct {
	Kind     EventKind
	Time     time.Time
	Scenario string
	Step     string
	Text     string
	// Claim and Result are set with ClaimFinished; Outcome is what the client
	// saw, where the claim is about one call.
	Claim   *scenarios.PlannedClaim
	Result  *result.Claim
	Outcome *clients.Outcome
	// Finished is set with ScenarioFinished.
	Finished *result.Scenario
}

// run is one run while it works.
type run struct {
	Options
	plan    *scenarios.Plan
	kube    *kube
	pods    *podStore
	forward *forwarder
	shared  *sharedClients
	// starting is nil where all pods may start at once.
	starting *starts

	observing sync.Mutex
	figures   figures
	locks     map[string]*sync.Mutex
	// history is nil where the run has no folder.
	history *history.Writer
	// settled are the options with which the mesh was installed last by a
	// scenario; only serial ones do.
	settled InstallOptions
	// installed says that the mesh's settings are not the default ones; only
	// serial scenarios change them.
	installed bool
	// leaving are the namespaces that were deleted.
	leaving leaving
	// users are the scenarios that still want a fixed namespace; under observing.
	users map[string][]*scenarioRun
}

// Run carries out the plan. It always returns a result, also when ctx ends
// early; what was not reached is skipped and says so.
func Run(ctx context.Context, config *rest.Config, plan *scenarios.Plan, options Options) *result.Run {
	out := &result.Run{SchemaVersion: result.SchemaVersion, ID: options.ID, Tool: options.Tool, Cluster: options.Cluster, Mesh: options.Mesh,
		Seed: options.Seed, Started: time.Now(), Timings: slices.Clone(options.Timings)}
	if out.Tool.Go == "" {
		out.Tool.Go = runtime.Version()
	}
	e := &run{Options: options, plan: plan}
	plan.ForDialect(e.dialect())
	e.tell(Event{Kind: RunStarted, Text: fmt.Sprintf("%d claims in %d scenarios", len(plan.Claims()), len(plan.Scenarios))})
	runs := e.carryOut(ctx, config, out)
	input := false
	for _, s := range runs {
		out.Scenarios = append(out.Scenarios, *s.result())
		input = input || s.badInput
	}
	out.Figures = append(out.Figures, e.figures.list()...)
	out.Finished = time.Now()
	out.Timings = append(out.Timings, result.Timing{Name: "scenarios", Seconds: out.Finished.Sub(out.Started).Seconds()})
	conclude(ctx, out, input)
	e.tell(Event{Kind: RunFinished, Text: string(out.Outcome)})
	return out
}

func (e *run) tell(event Event) {
	if e.Observe == nil {
		return
	}
	event.Time = time.Now()
	e.observing.Lock()
	defer e.observing.Unlock()
	e.Observe(event)
}

// flowingAtOnce bounds the scenarios with traffic that run side by side: with more
// of them two cores do not keep the rates, and nothing could be concluded.
const flowingAtOnce = 6

// carryOut runs the scenarios and returns one scenarioRun for each, in the
// order of the plan.
func (e *run) carryOut(ctx context.Context, config *rest.Config, out *result.Run) []*scenarioRun {
	all := make([]*scenarioRun, len(e.plan.Scenarios))
	for i, planned := range e.plan.Scenarios {
		all[i] = newScenarioRun(e, planned)
	}
	giveUp := func(err error) []*scenarioRun {
		out.Reason = err.Error()
		for _, s := range all {
			s.abandon(err)
		}
		return all
	}
	e.WallTime.Enter(walltime.Mesh)
	defer e.WallTime.Enter(walltime.Rest)
	if err := e.open(ctx, config); err != nil {
		return giveUp(err)
	}
	defer e.close()
	e.WallTime.Enter(walltime.Turn)
	for _, s := range all {
		for _, name := range s.exactNamespaces() {
			e.locks[name] = &sync.Mutex{}
			e.users[name] = append(e.users[name], s)
		}
	}

	limit := e.Parallel
	switch {
	case limit > 0:
	case e.Capabilities.LocalImages:
		limit = len(all) + 1
	default:
		limit = scenariosPerNode * max(e.Capabilities.Nodes, 1)
	}
	slots := make(chan struct{}, limit)
	var group sync.WaitGroup
	begin := func(s *scenarioRun) {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s.run(ctx)
		})
	}
	var calm, flowing []*scenarioRun
	for _, s := range inOrderOfStart(all) {
		if s.planned.Spec.Serial {
			// Its pods start among the others; its steps are taken alone.
			if len(s.exactNamespaces()) == 0 && limit > len(all) {
				group.Go(func() { s.prepare(ctx) })
			}
			continue
		}
		if len(s.planned.Spec.Traffic) > 0 {
			flowing = append(flowing, s)
			continue
		}
		if s.keepsRates() && !e.Capabilities.LocalImages {
			calm = append(calm, s)
			continue
		}
		begin(s)
	}
	group.Wait()
	// A node that starts containers keeps no rate: these come when none start.
	for _, s := range calm {
		begin(s)
	}
	group.Wait()
	// Nor does any machine keep many rates while many pods start.
	slots = make(chan struct{}, min(limit, flowingAtOnce))
	for _, s := range flowing {
		begin(s)
	}
	group.Wait()
	alone := aloneInOrder(all)
	if len(alone) > 0 && e.Alone != nil && ctx.Err() == nil {
		if err := e.Alone(ctx); err != nil {
			for _, s := range alone {
				s.abandon(err)
			}
			alone = nil
		}
	}
	for _, s := range alone {
		if e.installed && !s.installsFirst() {
			e.restore(ctx)
		}
		s.run(ctx)
		if s.brokeAll() {
			_ = e.allTold(ctx) // whoever is not told by then fails what comes next
		}
	}
	e.WallTime.Enter(walltime.Removal)
	if !e.Leave {
		e.restore(ctx)
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
		defer cancel()
		e.shared.remove(clean)
		e.awaitGone(ctx)
	}
	return all
}

// open connects to the cluster, in which scenarios can be carried out from then
// on. close must be called when there was no error.
func (e *run) open(ctx context.Context, config *rest.Config) (err error) {
	if e.kube, err = newKube(config); err != nil {
		return err
	}
	e.kube.registry, e.kube.pullPolicy = e.Registry, e.ImagePullPolicy
	if e.Dir != "" {
		if e.history, err = history.Create(filepath.Join(e.Dir, history.FileName)); err != nil {
			return err
		}
	}
	if e.pods, err = startPodStore(ctx, e.kube.typed); err != nil {
		return errors.Join(err, e.history.Close())
	}
	if !e.Capabilities.LocalImages { // its containers are more than processes
		e.starting = newStarts(ctx, startsPerNode*max(e.Capabilities.Nodes, 1))
	}
	e.kube.startPolicyWatch(ctx)
	e.forward = newForwarder(e.kube.config, e.kube.typed)
	e.shared = newSharedClients(e)
	e.locks, e.users = map[string]*sync.Mutex{}, map[string][]*scenarioRun{}
	if err = e.webhooks(ctx); err != nil {
		e.close()
	}
	return err
}

func (e *run) close() {
	e.forward.close()
	e.kube.watch.close()
	e.starting.close()
	e.pods.close()
	_ = e.history.Close() // what was added was flushed
}

// inOrderOfStart has those first that others wait for, because they share a
// namespace, and those last whose steps are taken at the end.
func inOrderOfStart(all []*scenarioRun) []*scenarioRun {
	rank := func(s *scenarioRun) int {
		switch {
		case s.planned.Spec.Serial:
			return 2
		case len(s.exactNamespaces()) > 0:
			return 0
		}
		return 1
	}
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b *scenarioRun) int { return rank(a) - rank(b) })
	return order
}

// aloneInOrder are the serial scenarios, those that leave the mesh's settings
// alone first: no settings need to be restored for them.
func aloneInOrder(all []*scenarioRun) []*scenarioRun {
	var quiet, loud []*scenarioRun
	for _, s := range all {
		switch {
		case !s.planned.Spec.Serial:
		case s.installs():
			loud = append(loud, s)
		default:
			quiet = append(quiet, s)
		}
	}
	return append(quiet, loud...)
}

// restore installs the defaults again when a scenario has changed them.
func (e *run) restore(ctx context.Context) {
	if !e.installed {
		return
	}
	e.tell(Event{Kind: Waiting, Text: "installing the mesh's default settings again"})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installBudget)
	defer cancel()
	if e.install(ctx, InstallOptions{}) == nil {
		e.installed = false
	}
}

// inputError is what the user's scenario, and not the machine, is to blame for.
type inputError struct {
	at  scenarios.Pos
	err error
}

func (e *inputError) Error() string { return fmt.Sprintf("%s: %v", e.at, e.err) }
func (e *inputError) Unwrap() error { return e.err }

// conclude fills summary, outcome and exit code from the claims. input says
// that a scenario could not be carried out because it is wrong.
func conclude(ctx context.Context, out *result.Run, input bool) {
	var end *result.End
	if why, outcome, code := ended(ctx); why != nil {
		end = &result.End{Reason: why.Error(), Outcome: outcome, ExitCode: code}
	}
	out.Conclude(end, input)
}

// Abandon is the result of a run that could not begin: every claim is skipped,
// and err is the reason.
func Abandon(ctx context.Context, plan *scenarios.Plan, options Options, err error) *result.Run {
	out := &result.Run{SchemaVersion: result.SchemaVersion, ID: options.ID, Tool: options.Tool, Cluster: options.Cluster, Mesh: options.Mesh,
		Seed: options.Seed, Started: time.Now(), Timings: slices.Clone(options.Timings), Reason: err.Error()}
	out.Tool.Go = runtime.Version()
	e := &run{Options: options, plan: plan}
	// Of a cluster that did not come about nothing can be said to be lacking.
	e.Capabilities = cluster.Capabilities{Nodes: 2, Outside: cluster.Outside{How: cluster.OutsidePods}, Faults: true}
	outcome := result.Error
	if why, end, _ := ended(ctx); why != nil {
		err, outcome = why, end
	}
	for _, planned := range plan.Scenarios {
		s := newScenarioRun(e, planned)
		s.notBegun(err, outcome)
		out.Scenarios = append(out.Scenarios, *s.result())
	}
	out.Finished = time.Now()
	conclude(ctx, out, false)
	e.tell(Event{Kind: RunFinished, Text: string(out.Outcome)})
	return out
}

// Apply applies a stream of manifests as the engine applies everything.
func Apply(ctx context.Context, config *rest.Config, manifests []byte) error {
	k, err := newKube(config)
	if err != nil {
		return err
	}
	objects, err := scenarios.Objects("manifests", manifests)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if _, err := k.apply(ctx, object.Content, meshNamespace, false); err != nil {
			return err
		}
	}
	return nil
}
