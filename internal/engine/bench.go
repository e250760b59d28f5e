package engine

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// Bench carries out scenarios one by one on a cluster that stands, for those who
// know only after one what the next is: generated ones, and smaller ones than
// those that have found something. What each makes goes with it, except for the
// shared clients, which stay until the end.
type Bench struct{ e *run }

// OpenBench connects to the cluster. The options are those of Run; Leave and
// Parallel do not count. It must be closed.
func OpenBench(ctx context.Context, config *rest.Config, options Options) (*Bench, error) {
	options.Leave = false
	e := &run{Options: options, plan: &scenarios.Plan{Set: &scenarios.Set{}}}
	if err := e.open(ctx, config); err != nil {
		return nil, err
	}
	store, err := startPolicyStore(ctx, e.kube)
	if err != nil {
		e.close()
		return nil, err
	}
	e.kube.store = store
	return &Bench{e}, nil
}

// Run carries out one scenario of a plan; several at a time are welcome. Two of
// one name must not follow each other: the namespaces of the first may be on
// their way out still. Scenarios that need the cluster for themselves or a name
// that others use too are refused.
func (b *Bench) Run(ctx context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	return b.run(ctx, planned, false)
}

// Try is Run without evidence of what fails, which takes longer to gather than a
// small scenario takes.
func (b *Bench) Try(ctx context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	return b.run(ctx, planned, true)
}

func (b *Bench) run(ctx context.Context, planned *scenarios.PlannedScenario, attempt bool) *result.Scenario {
	one := &scenarios.Plan{Set: b.e.plan.Set, Scenarios: []*scenarios.PlannedScenario{planned}}
	one.ForDialect(b.e.dialect())
	s := newScenarioRun(b.e, planned)
	s.attempt = attempt
	if planned.Spec.Serial || len(s.exactNamespaces()) > 0 {
		s.abandon(fmt.Errorf("%s: a scenario among others can neither be serial nor name its namespace", planned.Pos))
		return s.res
	}
	s.run(ctx)
	return s.res
}

// Blank is the result of a run so far without scenarios.
func (b *Bench) Blank() *result.Run {
	return &result.Run{SchemaVersion: result.SchemaVersion, ID: b.e.ID, Tool: b.e.Tool, Cluster: b.e.Cluster, Mesh: b.e.Mesh,
		Seed: b.e.Seed, Started: time.Now(), Timings: b.e.Timings}
}

// Conclude fills in what follows from the scenarios: figures, summary, outcome.
func (b *Bench) Conclude(ctx context.Context, out *result.Run) {
	out.Figures = append(out.Figures, b.e.figures.list()...)
	out.Finished = time.Now()
	conclude(ctx, out, false)
}

// Close removes the shared clients, also when ctx has ended; gone says that the
// cluster ends too, so that nothing needs to be removed.
func (b *Bench) Close(ctx context.Context, gone bool) {
	if !gone {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
		b.e.shared.remove(clean)
		cancel()
		b.e.awaitGone(ctx)
	}
	b.e.kube.store.close()
	b.e.close()
}
