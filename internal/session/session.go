// Package session is a run from nothing to a verdict: it brings up a cluster,
// installs the mesh, has the engine carry out a plan and gives the cluster back.
//
// The command line and the Ginkgo suites both run through it, so that the same
// plan yields the same result tree in both. A set-up that fails yields a result
// too, with the cause in it. It writes no reports and prints nothing.
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/mesh"
)

const (
	// meshBudget is for the control plane to come up, from the first apply.
	meshBudget = 60 * time.Second
	// closeBudget is for the cluster to end.
	closeBudget = 30 * time.Second
	// goneInterval is between two looks whether a cluster that was opened stands.
	goneInterval = time.Second
	// factInterval is between two looks at a fact that does not hold yet.
	factInterval = 100 * time.Millisecond
)

// Options of a session.
type Options struct {
	// Provider makes or opens the cluster.
	Provider cluster.Provider
	// ClusterName is that of a cluster to use: an existing one is used as it
	// stands, and else one of that name is made. Empty: one is made up.
	ClusterName string
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
	// Version of this program.
	Version string
	// Observe is told what happens; nil: nobody.
	Observe func(engine.Event)
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
	s := &session{Options: options, began: began}
	out := s.run(ctx, plan)
	took := time.Since(began)
	out.Started = began
	out.Timings = append(out.Timings, result.Timing{Name: "total", Seconds: took.Seconds()})
	if s.figures != nil {
		out.Figures = slices.Concat(s.figures, []result.Figure{wholeRunFigure(took)}, out.Figures)
	}
	return out
}

// Quieten keeps the Kubernetes client library from writing to standard error
// by itself: what matters comes back as errors, and its warnings about objects
// are not about what a run is for.
func Quieten() { klog.SetLogger(logr.Discard()) }

type session struct {
	Options
	began   time.Time
	timings []result.Timing
	opened  bool
	mesh    mesh.Options
	// figures are those measured here; nil until there is a cluster with a mesh.
	figures []result.Figure
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
	v, _ := s.mesh.Values()
	return engine.Options{ID: s.ID, Dir: s.Dir, Observe: s.Observe, Parallel: s.Parallel, Seed: s.Seed, Timings: s.timings,
		Tool: result.Tool{Version: s.Version}, Cluster: result.Cluster{Provider: s.Provider.Kind(), Name: s.ClusterName},
		Mesh: result.Mesh{Name: "builtin", Version: v.ProxyVersion, Dialect: v.Dialect, DefaultPolicy: string(v.DefaultInboundPolicy), ClusterNetworks: v.ClusterNetworks},
		Manifests: func(o engine.InstallOptions) ([]byte, error) {
			asked := s.mesh
			asked.DefaultInboundPolicy, asked.ClusterNetworks, asked.HA = o.DefaultInboundPolicy, o.ClusterNetworks, o.HA
			return mesh.Install(asked)
		}}
}

func (s *session) run(ctx context.Context, plan *scenarios.Plan) *result.Run {
	free, err := s.hold(ctx)
	if err != nil {
		return engine.Abandon(ctx, plan, s.engineOptions(), err)
	}
	defer free()
	made, err := s.cluster(ctx)
	if err != nil {
		return engine.Abandon(ctx, plan, s.engineOptions(), err)
	}
	defer s.close(ctx, made)
	s.phase("cluster", s.began)
	config, err := clientcmd.BuildConfigFromFlags("", made.Kubeconfig())
	if err != nil {
		return engine.Abandon(ctx, plan, s.engineOptions(), fmt.Errorf("read the kubeconfig of cluster %s: %w", made.Name(), err))
	}
	asked := ctx
	ctx, release := s.tied(ctx, made)
	defer release()
	installed := time.Now()
	if err := s.install(ctx, config); err != nil {
		if asked.Err() == nil {
			err = explain(asked, config, err)
			_ = s.logs(asked, made) // evidence, as far as it can be had
		}
		return engine.Abandon(ctx, plan, s.engineOptions(), fmt.Errorf("install the mesh: %w", err))
	}
	s.phase("mesh", installed)
	s.figures = append([]result.Figure{}, readyFigure(made)...)
	if inspector, ok := made.(cluster.Inspector); ok && !s.opened {
		s.figures = append(s.figures, clusterMemoryFigure(inspector)...)
	}
	options := s.engineOptions()
	options.Cluster.Name, options.Cluster.Nodes, options.Cluster.Rootless = made.Name(), made.Capabilities().Nodes, made.Capabilities().SingleUID
	options.Leave = !s.opened && !s.Keep
	if version, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerVersion(); err == nil {
		options.Cluster.Kubernetes = version.GitVersion
	}
	proxies := followProxies(ctx, made)
	out := engine.Run(ctx, config, plan, options)
	s.figures = append(s.figures, proxies()...)
	if out.Outcome != result.Passed && asked.Err() == nil {
		_ = s.logs(asked, made) // evidence, as far as it can be had
	}
	return out
}

// tied is a context that ends with the cluster, too: then waiting would be in
// vain. release lets go of the cluster.
func (s *session) tied(ctx context.Context, made cluster.Cluster) (out context.Context, release func()) {
	out, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		look := time.NewTicker(goneInterval)
		defer look.Stop()
		for {
			select {
			case <-made.Done():
				cancel(&engine.Lost{Err: fmt.Errorf("the cluster has ended: %w", made.Err())})
			case <-look.C:
				if !s.opened {
					continue
				}
				// A cluster that was not made here does not tell of its end.
				if _, err := s.Provider.Open(out, made.Name()); errors.Is(err, cluster.ErrNotFound) {
					cancel(&engine.Lost{Err: fmt.Errorf("cluster %s has ended or was deleted", made.Name())})
				}
				continue
			case <-out.Done():
			}
			return
		}
	}()
	return out, func() { cancel(nil); <-watching }
}

// hold keeps other runs off the named cluster: scenarios that change the mesh's
// settings would change them for those, too.
func (s *session) hold(ctx context.Context) (free func(), err error) {
	provider, ok := s.Provider.(cluster.Exclusive)
	if s.ClusterName == "" || !ok {
		return func() {}, nil
	}
	return provider.Exclusive(ctx, s.ClusterName, func() { s.say("waiting for whoever uses cluster %s to finish", s.ClusterName) })
}

// cluster opens the named cluster or makes one with the mesh's manifests.
func (s *session) cluster(ctx context.Context) (cluster.Cluster, error) {
	if s.ClusterName != "" {
		opened, err := s.Provider.Open(ctx, s.ClusterName)
		if err == nil {
			s.opened = true
			return opened, nil
		}
		if !errors.Is(err, cluster.ErrNotFound) {
			return nil, fmt.Errorf("open cluster %s: %w", s.ClusterName, err)
		}
	}
	manifests, err := mesh.Install(s.mesh)
	if err != nil {
		return nil, fmt.Errorf("print the mesh's manifests: %w", err)
	}
	s.cleanUp(ctx)
	return s.Provider.Create(ctx, cluster.Options{Name: s.ClusterName, Standing: s.Keep, Manifests: [][]byte{manifests}, Logs: s.logDir(),
		Progress: func(e cluster.Event) {
			if !e.Done {
				s.say("waiting for the cluster: %s", e.Component)
			} else {
				s.say("ready after %.1fs: %s", e.Elapsed.Seconds(), e.Component)
			}
		}})
}

// cleanUp removes what killed runs have left. It is a courtesy: what cannot be
// removed keeps no new cluster from being made.
func (s *session) cleanUp(ctx context.Context) {
	removed, err := s.Provider.Cleanup(ctx)
	if len(removed) > 0 {
		s.say("removed what was left of %s", strings.Join(removed, ", "))
	}
	if err != nil {
		s.say("not everything that killed runs have left can be removed: %v", err)
	}
}

// logs keeps the logs of the cluster's components in the run's folder.
func (s *session) logs(ctx context.Context, made cluster.Cluster) error {
	if s.Dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
	defer cancel()
	err := made.Logs(ctx, s.logDir())
	if err == nil {
		s.say("the logs of the cluster's components are in %s", s.logDir())
	}
	return err
}

// logDir is where the logs of the cluster's components are kept.
func (s *session) logDir() string {
	if s.Dir == "" {
		return ""
	}
	return filepath.Join(s.Dir, "cluster")
}

func (s *session) close(ctx context.Context, made cluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
	defer cancel()
	if s.opened || s.Keep {
		s.say("cluster %s stays", made.Name())
	} else {
		s.say("giving back the cluster")
	}
	if err := made.Close(ctx); err != nil { // the run's verdict stands all the same
		s.say("the cluster was not given back: %v", err)
	}
}

// install applies the manifests and waits for the facts that the mesh names.
func (s *session) install(ctx context.Context, config *rest.Config) error {
	if s.opened {
		s.say("applying the mesh's manifests")
		manifests, err := mesh.Install(s.mesh)
		if err != nil {
			return fmt.Errorf("print the manifests: %w", err)
		}
		if err := engine.Apply(ctx, config, manifests); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, meshBudget)
	defer cancel()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	for _, fact := range mesh.WaitReady() {
		missing := check(ctx, client, fact)
		if missing == nil {
			continue
		}
		s.say("waiting for the mesh: %s %s: %s", fact.Object.Resource, fact.Object.Name, fact.Condition)
		err := wait.For(func(ctx context.Context) (bool, error) {
			missing = check(ctx, client, fact)
			return missing == nil, nil
		}, wait.WithContext(ctx), wait.WithTimeout(meshBudget), wait.WithInterval(factInterval), wait.WithImmediate())
		if err != nil {
			return fmt.Errorf("waited %s in vain for %s %s (%s): %w", meshBudget, fact.Object.Resource, fact.Object.Name, fact.Condition, missing)
		}
	}
	return nil
}

// check says what keeps a fact from holding, nil when it holds.
func check(ctx context.Context, client dynamic.Interface, fact mesh.Fact) error {
	o := fact.Object
	resource := client.Resource(schema.GroupVersionResource{Group: o.Group, Version: o.Version, Resource: o.Resource})
	var one dynamic.ResourceInterface = resource
	if o.Namespace != "" {
		one = resource.Namespace(o.Namespace)
	}
	object, err := one.Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	switch fact.Condition {
	case mesh.Accepting:
		return accepting(ctx, client, object)
	case mesh.RolledOut:
		return rolledOut(object)
	case mesh.Trusted:
		hooks, _, _ := unstructured.NestedSlice(object.Object, "webhooks")
		for _, hook := range hooks {
			bundle, _, _ := unstructured.NestedString(hook.(map[string]any), "clientConfig", "caBundle")
			if bundle == "" {
				return errors.New("a webhook has no CA bundle yet")
			}
		}
	}
	return nil
}

func accepting(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, version := range versions {
		name, _, _ := unstructured.NestedString(version.(map[string]any), "name")
		served, _, _ := unstructured.NestedBool(version.(map[string]any), "served")
		if !served {
			continue
		}
		_, err := client.Resource(schema.GroupVersionResource{Group: group, Version: name, Resource: plural}).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s/%s is not served yet", group, name)
		}
	}
	return nil
}

func rolledOut(deployment *unstructured.Unstructured) error {
	number := func(path ...string) int64 {
		value, _, _ := unstructured.NestedInt64(deployment.Object, path...)
		return value
	}
	want := number("spec", "replicas")
	updated, available, all := number("status", "updatedReplicas"), number("status", "availableReplicas"), number("status", "replicas")
	if number("status", "observedGeneration") < deployment.GetGeneration() || updated != want || available != want || all != want {
		return fmt.Errorf("%d of %d replicas are new, %d available, %d there", updated, want, available, all)
	}
	return nil
}
