// Package session is a run from nothing to a verdict: it brings up a cluster,
// brings in the images that the cluster lacks, installs the mesh, has the engine
// carry out a plan and gives the cluster back.
//
// The command line and the Ginkgo suites both run through it, so that the same
// plan yields the same result tree in both. A set-up that fails yields a result
// too, with the cause in it. It writes no reports and prints nothing.
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/images/reference"
	"github.com/meshproof/meshproof/workloads/mesh"
)

// Options of a session.
type Options struct {
	// Provider makes or opens the cluster.
	Provider cluster.Provider
	// ClusterName is that of a cluster to use: an existing one is used as it
	// stands, and else one of that name is made. Empty: one is made up.
	ClusterName string
	// Programs is the folder of this project's programs, of which images are made
	// for clusters that do not have them; empty: the folder of the running one.
	Programs string
	// Archives are further archives of images for such clusters.
	Archives []string
	// Mesh are the settings of the mesh; its cluster networks follow from the
	// cluster when they are not set, and its dialect from a mesh that stands.
	Mesh mesh.Options
	// Keep leaves a cluster that was made standing.
	Keep bool
	// ID of the run; NewID makes one.
	ID string
	// Dir is the run's folder; empty: no bundles and cluster logs are kept.
	Dir string
	// Seed is recorded.
	Seed int64
	// Parallel bounds the scenarios that run side by side; 0 means all.
	Parallel int
	// TransitionBudget is how long a write may take to come into force in scenarios
	// with traffic that do not say it; 0 means scenarios.DefaultBudget.
	TransitionBudget time.Duration
	// Version of this program.
	Version string
	// Observe is told what happens; nil: nobody.
	Observe func(engine.Event)
	// Carry does what the run is for once everything stands; nil: engine.Run, which
	// carries out the plan.
	Carry func(context.Context, *rest.Config, *scenarios.Plan, engine.Options) *result.Run
}

// NewID makes the ID of a run that begins now: its date, time and a part that
// tells apart runs of one second.
func NewID(now time.Time) string {
	var tail [2]byte
	_, _ = rand.Read(tail[:]) // never fails
	return now.Format("20060102-150405") + "-" + hex.EncodeToString(tail[:])
}

// Run carries out the plan on a cluster. The result is never nil.
func Run(ctx context.Context, plan *scenarios.Plan, options Options) *result.Run {
	Quieten()
	began := time.Now()
	if options.ID == "" {
		options.ID = NewID(began)
	}
	s := &session{Options: options, began: began, walltime: walltime.Open()}
	out := s.run(ctx, plan)
	spent := s.walltime.Spent()
	took := walltime.Sum(spent)
	out.WallTime = walltime.Results(spent)
	out.Started, out.Features = began, features()
	out.Timings = append(out.Timings, result.Timing{Name: "total", Seconds: took.Seconds()})
	if s.figures != nil {
		out.Figures = slices.Concat(s.figures, []result.Figure{wholeRunFigure(took)}, out.Figures)
	}
	return out
}

// features are all that there are, as reports know them.
func features() []result.Feature {
	var all []result.Feature
	for _, one := range scenarios.Features() {
		all = append(all, result.Feature{Name: string(one.Feature), Profile: string(one.Profile)})
	}
	return all
}

// Quieten keeps the Kubernetes client library from writing to standard error
// by itself: what matters comes back as errors, and its warnings about objects
// are not about what a run is for.
func Quieten() { klog.SetLogger(logr.Discard()) }

type session struct {
	Options
	began    time.Time
	timings  []result.Timing
	walltime *walltime.Book
	// opened says that the cluster was there before.
	opened bool
	// meshStands says that the mesh needs not be installed any more.
	meshStands bool
	// asked is the dialect that the user wants; empty: whichever there is.
	asked string
	// capabilities are the cluster's, once there is one.
	capabilities cluster.Capabilities
	// created is when the cluster was asked for, and judged when the first claim
	// had a verdict.
	created, judged time.Time
	// figures are those measured here; nil until there is a cluster with a mesh.
	figures []result.Figure
}

// observe notes when the first claim is judged and passes everything on. The
// engine calls it from one goroutine at a time.
func (s *session) observe(e engine.Event) {
	if e.Kind == engine.ClaimFinished && s.judged.IsZero() && e.Result.Outcome != result.Skipped {
		s.judged = e.Time
	}
	if s.Observe != nil {
		s.Observe(e)
	}
}

func (s *session) say(format string, args ...any) {
	if s.Observe != nil {
		s.Observe(engine.Event{Kind: engine.Waiting, Time: time.Now(), Text: fmt.Sprintf(format, args...)})
	}
}

// phase records how long something took since the last phase's end.
func (s *session) phase(name string, since time.Time) {
	s.timings = append(s.timings, result.Timing{Name: name, Seconds: time.Since(since).Seconds()})
}

func (s *session) engineOptions() engine.Options {
	v, _ := s.Mesh.Values()
	return engine.Options{ID: s.ID, Dir: s.Dir, Observe: s.observe, Parallel: s.Parallel, TransitionBudget: s.TransitionBudget, Seed: s.Seed, Timings: s.timings, WallTime: s.walltime,
		Capabilities: s.capabilities, Registry: s.Mesh.Registry, ImagePullPolicy: corev1.PullPolicy(s.Mesh.ImagePullPolicy),
		Tool: result.Tool{Version: s.Version}, Cluster: result.Cluster{Provider: s.Provider.Kind(), Name: s.ClusterName},
		Mesh:      result.Mesh{Name: "builtin", Version: reference.Version(v.ControllerImage), Proxy: v.ProxyVersion, Dialect: v.Dialect, DefaultPolicy: string(v.DefaultInboundPolicy), ClusterNetworks: v.ClusterNetworks},
		Manifests: func(o engine.InstallOptions) ([]byte, error) { return mesh.Install(s.meshFor(o)) }}
}

func (s *session) run(ctx context.Context, plan *scenarios.Plan) *result.Run {
	s.asked = s.Mesh.Dialect
	abandon := func(err error) *result.Run { return engine.Abandon(ctx, plan, s.engineOptions(), err) }
	s.walltime.Enter(walltime.Turn)
	free, err := s.hold(ctx)
	if err != nil {
		return abandon(err)
	}
	defer free()
	archive := s.archive(ctx)
	defer archive.remove()
	if err := s.coarse(ctx); err != nil {
		return abandon(err)
	}
	s.walltime.Enter(walltime.Cluster)
	if err := archive.refused(); err != nil {
		return abandon(err)
	}
	made, err := s.cluster(ctx)
	if err != nil {
		return abandon(err)
	}
	defer s.close(ctx, made)
	s.phase("cluster", s.began)
	config, err := clientcmd.BuildConfigFromFlags("", made.Kubeconfig())
	if err != nil {
		return abandon(fmt.Errorf("read the kubeconfig of cluster %s: %w", made.Name(), err))
	}
	asked := ctx
	ctx, release := s.tied(ctx, made)
	defer release()
	s.walltime.Enter(walltime.Images)
	if err := s.load(ctx, made, archive); err != nil {
		return abandon(err)
	}
	s.walltime.Enter(walltime.Mesh)
	installed := time.Now()
	var stay *visit
	if s.capabilities.Borrowed {
		if ctx, stay, err = s.arrive(ctx, config, plan); err != nil {
			return abandon(err)
		}
		defer func() {
			s.walltime.Enter(walltime.Removal)
			if err := stay.leave(asked); err != nil { // the run's verdict stands all the same
				s.say("not everything was given back: %v", err)
			}
		}()
	}
	if err := s.speak(ctx, config, plan); err != nil {
		return abandon(err)
	}
	if err := s.install(ctx, config); err != nil {
		if asked.Err() == nil {
			err = explain(asked, config, err)
			_ = s.logs(asked, made) // evidence, as far as it can be had
		}
		return abandon(fmt.Errorf("install the mesh: %w", err))
	}
	s.phase("mesh", installed)
	s.figures = append([]result.Figure{}, readyFigure(made)...)
	if inspector, ok := made.(cluster.Inspector); ok && !s.opened {
		s.figures = append(s.figures, clusterMemoryFigure(inspector)...)
	}
	options := s.engineOptions()
	options.Cluster.Name, options.Cluster.Nodes, options.Cluster.Rootless = made.Name(), s.capabilities.Nodes, s.capabilities.SingleUID
	if harmful, ok := made.(cluster.Harmful); ok {
		options.Faults = harmful.Faults()
	}
	options.Leave = !s.opened && !s.Keep
	if stay != nil {
		options.Alone = stay.alone
	}
	if version, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerVersion(); err == nil {
		options.Cluster.Kubernetes = version.GitVersion
	}
	proxies := followProxies(ctx, made)
	s.walltime.Enter(walltime.Rest)
	carry := engine.Run
	if s.Carry != nil {
		carry = s.Carry
	}
	heard := listen(ctx, plan)
	out := carry(ctx, config, plan, options)
	out.Heard(heard())
	s.figures = slices.Concat(s.figures, firstClaimFigure(made, s.created, s.judged), proxies())
	if out.Outcome != result.Passed && asked.Err() == nil {
		_ = s.logs(asked, made) // evidence, as far as it can be had
	}
	return out
}
