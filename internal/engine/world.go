package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// world is what policy depends on at one step's claims, read once and only when
// a claim asks.
type world struct {
	mu       sync.Mutex
	recorded *history.World
	oracle   oracle.Oracle
	err      error
	// frozen says that it stands for later moments too.
	frozen bool
}

// of reads the world, unless it was read before and holds the pod.
func (w *world) of(ctx context.Context, s *scenarioRun, pod *corev1.Pod) (*history.World, oracle.Oracle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.recorded != nil && slices.ContainsFunc(w.recorded.Pods, func(p *corev1.Pod) bool { return p.UID == pod.UID })
	switch {
	case known:
	case !w.frozen:
		w.read(ctx, s)
	case w.err == nil:
		// Policy stands still, and pods come and go.
		w.recorded, w.err = history.NewWorld(w.recorded.Dialect, w.recorded.World, append(slices.Clone(w.recorded.Pods), pod))
	}
	return w.recorded, w.oracle, w.err
}

// read reads it as it is now.
func (w *world) read(ctx context.Context, s *scenarioRun) {
	if w.recorded, w.err = s.presentWorld(ctx); w.err == nil {
		w.oracle, w.err = w.recorded.Oracle(oracle.DefaultRules())
	}
}

// worldOf is the world of a step's claims: that of the step before when policy
// stands still.
func (s *scenarioRun) worldOf(ctx context.Context, step *scenarios.PlannedStep) *world {
	if !step.Frozen || s.lastWorld == nil {
		s.lastWorld = &world{}
	}
	if step.Frozen && !s.lastWorld.frozen {
		s.lastWorld.read(ctx, s)
		s.lastWorld.frozen = true
	}
	return s.lastWorld
}

// dialect is the mesh's.
func (e *run) dialect() scenarios.Dialect {
	return scenarios.Dialect(cmp.Or(e.Mesh.Dialect, api.DialectDocumented))
}

// settings are those with which the mesh is installed now.
func (e *run) settings() (oracle.Settings, error) {
	s := oracle.DefaultSettings()
	if policy := cmp.Or(e.settled.DefaultInboundPolicy, e.Mesh.DefaultPolicy); policy != "" {
		s.DefaultPolicy = api.PolicyName(policy)
	}
	parse := func(into *[]netip.Prefix, texts []string) error {
		*into = []netip.Prefix{}
		for _, text := range texts {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("read the mesh's settings: %w", err)
			}
			*into = append(*into, prefix)
		}
		return nil
	}
	networks := e.settled.ClusterNetworks
	if len(networks) == 0 {
		networks = e.Mesh.ClusterNetworks
	}
	if len(networks) > 0 {
		if err := parse(&s.ClusterNetworks, networks); err != nil {
			return s, err
		}
	}
	if e.settled.ProbeNetworks != nil {
		if err := parse(&s.ProbeNetworks, e.settled.ProbeNetworks); err != nil {
			return s, err
		}
	}
	return s, nil
}

// presentWorld is the world as it is now: as it was tracked where the scenario's
// traffic flows, and as it is read otherwise.
func (s *scenarioRun) presentWorld(ctx context.Context) (*history.World, error) {
	if s.recorder == nil {
		return s.readWorld(ctx)
	}
	world := s.recorder.world.current()
	pods, origins, err := s.worldPods(ctx)
	if err != nil {
		return nil, err
	}
	world.Origins = origins
	return history.NewWorld(string(s.e.dialect()), world, pods)
}

// readWorld reads the policy objects of the scenario's namespaces, and those
// elsewhere that they refer to, with the namespaces and the pods as they run.
func (s *scenarioRun) readWorld(ctx context.Context) (*history.World, error) {
	settings, err := s.e.settings()
	if err != nil {
		return nil, err
	}
	out := oracle.World{Settings: settings}
	spaces := s.spaces()
	found, err := s.e.policyObjects(ctx, spaces, nil)
	if err != nil {
		return nil, err
	}
	for _, object := range found {
		if err := objects.Keep(&out, object); err != nil {
			return nil, err
		}
	}
	if elsewhere := referredTo(out, spaces); len(elsewhere) > 0 {
		if found, err = s.e.policyObjects(ctx, elsewhere, []string{api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind}); err != nil {
			return nil, err
		}
		for _, object := range found {
			if err := objects.Keep(&out, object); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range spaces {
		namespace, err := s.e.kube.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read namespace %s: %w", name, err)
		}
		out.Namespaces = append(out.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: namespace.Labels, Annotations: namespace.Annotations}})
	}
	pods, origins, err := s.worldPods(ctx)
	if err != nil {
		return nil, err
	}
	out.Origins = origins
	return history.NewWorld(string(s.e.dialect()), out, pods)
}

// spaces are the scenario's namespaces.
func (s *scenarioRun) spaces() []string {
	all := append([]string{s.namespace}, s.furtherNamespaces()...)
	slices.Sort(all)
	return all
}

// worldPods are the pods of the scenario with how they were asked for, and those on
// their way out among them, which answer still.
func (s *scenarioRun) worldPods(ctx context.Context) ([]*corev1.Pod, map[string]oracle.Origin, error) {
	var pods []*corev1.Pod
	for _, name := range s.spaces() {
		pods = append(pods, s.e.pods.list(name, nil)...)
		pods = append(pods, slices.DeleteFunc(s.e.pods.departing(name, nil), func(pod *corev1.Pod) bool { return !running(pod) })...)
	}
	origins := map[string]oracle.Origin{}
	for _, pod := range pods {
		if !meshed(pod) {
			continue
		}
		origin, known, err := s.originOf(ctx, pod)
		if err != nil {
			return nil, nil, err
		}
		if known {
			origin.Annotations = s.e.pods.bornWith(pod)
			origins[nameOf(pod).String()] = origin
		}
	}
	return pods, origins, nil
}

// policyObjects lists the policy objects and routes of some namespaces; kinds
// nil means all. Kinds that the cluster does not know are left out.
func (e *run) policyObjects(ctx context.Context, namespaces, kinds []string) ([]*unstructured.Unstructured, error) {
	if store := e.kube.store; store != nil {
		var found []*unstructured.Unstructured
		err := store.await(ctx, inForceBudget, namespaces, kinds, func(all []*unstructured.Unstructured) error {
			found = all
			return nil
		})
		return found, err
	}
	type list struct {
		resource  schema.GroupVersionResource
		namespace string
		items     []unstructured.Unstructured
	}
	var lists []*list
	for _, kind := range objects.PolicyKinds() {
		if kinds != nil && !slices.Contains(kinds, kind.Kind) {
			continue
		}
		mapping, err := e.kube.mapper.RESTMapping(kind)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the resource of kind %s: %w", kind, err)
		}
		for _, namespace := range namespaces {
			lists = append(lists, &list{resource: mapping.Resource, namespace: namespace})
		}
	}
	group := newGroup()
	for _, one := range lists {
		group.do(func() error {
			answer, err := e.kube.dynamic.Resource(one.resource).Namespace(one.namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return fmt.Errorf("list %s of namespace %s: %w", one.resource.Resource, one.namespace, err)
			}
			one.items = answer.Items
			return nil
		})
	}
	if err := group.wait(); err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, one := range lists {
		for i := range one.items {
			all = append(all, &one.items[i])
		}
	}
	return all, nil
}

// referredTo are the namespaces, besides the known ones, of authentications that
// policies ask for.
func referredTo(w oracle.World, known []string) []string {
	var names []string
	for _, p := range w.AuthorizationPolicies {
		for _, ref := range p.Spec.RequiredAuthenticationRefs {
			if ref.Namespace != "" && ref.Kind != api.ServiceAccountKind && !slices.Contains(known, ref.Namespace) && !slices.Contains(names, ref.Namespace) {
				names = append(names, ref.Namespace)
			}
		}
	}
	return names
}
