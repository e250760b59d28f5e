package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/turn"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	// leaveBudget is for giving back a cluster that is somebody's: others may have
	// to be waited for, and then the mesh to be gone.
	leaveBudget = 3 * time.Minute
	// sweepInterval is between two looks for what killed runs have left, which
	// may have a name that this run needs.
	sweepInterval = 15 * time.Second
)

// visit is a run's stay on a cluster that is somebody's.
type visit struct {
	s      *session
	config *rest.Config
	client kubernetes.Interface
	turn   *turn.Turn
	// standing are the settings of a mesh that stays as it is; nil: the run
	// installs one.
	standing *values.Values
	// changes says that the plan has scenarios that change the mesh for a while.
	changes bool

	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// arrive asks whether the run may do what it will do, takes its place among
// those on the cluster and finds out which mesh stands. The context that it
// returns ends when that place is lost.
func (s *session) arrive(ctx context.Context, config *rest.Config, plan *scenarios.Plan) (context.Context, *visit, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return ctx, nil, fmt.Errorf("make a client: %w", err)
	}
	v := &visit{s: s, config: config, client: client, changes: does(plan, func(a scenarios.Action) bool { return a.Install != nil || a.Scale != nil })}
	if _, err := ask(ctx, config, plan); err != nil {
		return ctx, nil, err
	}
	if v.turn, err = turn.Join(ctx, client, s.ID, turn.Holder(), s.waitsFor); err != nil {
		return ctx, nil, err
	}
	out, cancel := context.WithCancelCause(ctx)
	v.stop = func() { cancel(nil) }
	v.tasks.Go(func() {
		select {
		case <-v.turn.Lost():
			cancel(&engine.Lost{Err: v.turn.Err()})
		case <-out.Done():
		}
	})
	v.tasks.Go(func() { v.sweep(out) })
	if err := v.settle(out); err != nil {
		if left := v.leave(ctx); left != nil {
			s.say("not everything was given back: %v", left)
		}
		return ctx, nil, err
	}
	s.meshStands = true
	return out, v, nil
}

func (s *session) waitsFor(what string) { s.say("waiting for %s", what) }

// does says whether any scenario of the plan has such an action.
func does(plan *scenarios.Plan, such func(scenarios.Action) bool) bool {
	return slices.ContainsFunc(plan.Scenarios, func(one *scenarios.PlannedScenario) bool {
		return slices.ContainsFunc(one.Spec.Steps, func(step scenarios.Step) bool { return slices.ContainsFunc(step.Actions, such) })
	})
}

// sweep removes what killed runs have left, again and again.
func (v *visit) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		// A courtesy: what cannot be removed now may be later, or by others.
		removed, _ := guest.Sweep(ctx, v.client, func(ctx context.Context) ([]string, error) { return turn.IDs(ctx, v.client) })
		for _, one := range removed {
			v.s.say("removed what a killed run has left: %s", one)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// settle decides whether the run uses the mesh that stands or installs one, and
// takes its settings as the run's. Whoever installs is alone meanwhile.
func (v *visit) settle(ctx context.Context) error {
	installs, err := v.look(ctx)
	if err != nil || !installs {
		return err
	}
	if err := v.turn.Alone(ctx); err != nil {
		return err
	}
	// Another run may have installed it while this one waited.
	if installs, err = v.look(ctx); err != nil {
		return err
	}
	if installs {
		if err := v.s.install(ctx, v.config); err != nil {
			if ctx.Err() == nil {
				err = explain(ctx, v.config, err)
			}
			return fmt.Errorf("install the mesh: %w", err)
		}
		if err := guest.KeepSettings(ctx, v.client, nil); err != nil {
			return err
		}
	}
	return v.turn.Shared(ctx)
}

// look finds out which mesh stands and says whether one is to be installed:
// because there is none, because a killed run has left other settings, or
// because a killed run has left it and nobody uses it.
func (v *visit) look(ctx context.Context) (installs bool, err error) {
	standing, _, err := guest.StandingMesh(ctx, v.config)
	if err != nil {
		return false, err
	}
	mark, err := guest.ReadMark(ctx, v.client)
	if err != nil {
		return false, err
	}
	others, err := v.turn.Others(ctx)
	if err != nil {
		return false, err
	}
	v.standing = nil
	if v.s.Mesh.SkipCRDs, err = guest.ForeignCRDs(ctx, v.config); err != nil {
		return false, err
	}
	switch {
	case standing == nil, mark.Run != "" && others == 0:
		return true, nil
	case mark.Before != nil:
		v.s.say("restoring the mesh's settings, which a killed run has changed")
		standing, installs = mark.Before, true
	}
	v.standing = standing
	options, err := guest.OptionsOf(ctx, v.client, *standing)
	if err != nil {
		return false, err
	}
	v.s.adopt(options)
	return installs, nil
}

// adopt makes the settings of a mesh that stands those of the run, and takes
// back what the cluster can do where these settings keep it from it.
func (s *session) adopt(standing mesh.Options) {
	standing.Registry, standing.SkipCRDs = s.Mesh.Registry, s.Mesh.SkipCRDs
	s.Mesh = standing
	outside := s.capabilities.Outside
	for _, text := range standing.ClusterNetworks {
		network, err := netip.ParsePrefix(text)
		if err == nil && outside.How == cluster.OutsideHosts && slices.ContainsFunc(outside.Networks, network.Overlaps) {
			s.capabilities.Outside = cluster.Outside{}
		}
	}
}

// alone is engine.Options.Alone. The settings that the engine is about to change
// are kept where others find them should this run be killed.
func (v *visit) alone(ctx context.Context) error {
	if err := v.turn.Alone(ctx); err != nil {
		return err
	}
	if !v.changes {
		return nil
	}
	standing, ok, err := guest.StandingMesh(ctx, v.config)
	if err != nil || !ok {
		return err
	}
	return guest.KeepSettings(ctx, v.client, standing)
}

// leave gives the run's place up, and removes the mesh when a run has installed
// it and this one is the last.
func (v *visit) leave(ctx context.Context) error {
	v.stop()
	v.tasks.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveBudget)
	defer cancel()
	var failed []error
	if v.turn.Err() == nil {
		failed = append(failed, v.restored(ctx))
		_, err := v.turn.Others(ctx) // removes the leases of the dead
		failed = append(failed, err)
	}
	failed = append(failed, v.turn.Leave(ctx))
	mark, err := guest.ReadMark(ctx, v.client)
	if err == nil && mark.Run != "" {
		v.s.say("removing the mesh unless another run uses it")
		_, err = guest.UninstallOwned(ctx, v.config, v.s.ID, turn.Holder(), v.s.waitsFor)
	}
	return errors.Join(append(failed, err)...)
}

// restored removes the note about settings once they are in force again.
func (v *visit) restored(ctx context.Context) error {
	mark, err := guest.ReadMark(ctx, v.client)
	if err != nil || mark.Before == nil {
		return err
	}
	standing, ok, err := guest.StandingMesh(ctx, v.config)
	if err != nil || !ok {
		return err
	}
	now, nowErr := standing.Marshal()
	before, beforeErr := mark.Before.Marshal()
	if err := errors.Join(nowErr, beforeErr); err != nil {
		return err
	}
	if string(now) != string(before) {
		return errors.New("the mesh's settings are not restored: the next run, or meshproof cleanup, does it")
	}
	return guest.KeepSettings(ctx, v.client, nil)
}

// Footprint is what a run would make in a cluster that is somebody's.
type Footprint struct {
	// Namespaces are named after a run that is called RUN.
	Namespaces []string
	// ClusterWide are objects outside of namespaces, RESOURCE.GROUP/NAME each;
	// empty when the mesh stands that will be used.
	ClusterWide []string
	// Standing says that a mesh stands.
	Standing bool
}

// Foresee asks a cluster that is somebody's everything that a run asks before
// it makes anything, and says what it would make. Errors are those of the run.
func Foresee(ctx context.Context, plan *scenarios.Plan, provider cluster.Provider) (*Footprint, error) {
	made, err := provider.Create(ctx, cluster.Options{})
	if err != nil {
		return nil, err
	}
	defer made.Close(ctx)
	config, err := clientcmd.BuildConfigFromFlags("", made.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of cluster %s: %w", made.Name(), err)
	}
	standing, err := ask(ctx, config, plan)
	if err != nil {
		return nil, err
	}
	out := &Footprint{Namespaces: engine.Namespaces(plan, "RUN"), Standing: standing}
	if !standing {
		out.ClusterWide = guest.ClusterWide()
	}
	return out, nil
}

// ask asks whether the run may do what it will do, and says whether a mesh
// stands.
func ask(ctx context.Context, config *rest.Config, plan *scenarios.Plan) (standing bool, err error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return false, fmt.Errorf("make a client: %w", err)
	}
	_, standing, err = guest.StandingMesh(ctx, config)
	if err != nil {
		return false, err
	}
	mark, err := guest.ReadMark(ctx, client)
	if err != nil {
		return false, err
	}
	if err := guest.CheckRights(ctx, config, !standing || mark.Run != "" || mark.Before != nil || does(plan, func(a scenarios.Action) bool { return a.Install != nil })); err != nil {
		return false, err
	}
	if !standing {
		return false, guest.CheckPlace(ctx, config)
	}
	return true, nil
}
