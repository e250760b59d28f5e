package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
)

const (
	// readyTimeout bounds the whole start; it is for machines that are busy
	// with something else, not a goal.
	readyTimeout = 3 * time.Minute
	// readyPoll is how often what has no watch is asked for.
	readyPoll = 25 * time.Millisecond
)

// Resources asked for below.
var (
	nodes       = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	accounts    = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// readiness waits for a cluster's components and tells about it.
type readiness struct {
	cluster  *Cluster
	begun    time.Time
	progress func(cluster.Event)
	dynamic  dynamic.Interface
	config   *rest.Config

	mu sync.Mutex // progress and timings
}

// waitReady returns when the cluster is what Create promises.
func (c *Cluster) waitReady(ctx context.Context, begun time.Time, options cluster.Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the cluster is not ready after %s", readyTimeout))
	defer cancel()
	// The cluster's own end ends every wait.
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-c.done:
			lost(errors.New("the cluster has ended"))
		case <-ctx.Done():
		}
	}()
	defer func() { lost(nil); <-watching }()

	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	r := &readiness{cluster: c, begun: begun, progress: options.Progress, dynamic: client, config: config}
	if err := r.step(ctx, "namespaces", func(ctx context.Context) error { return c.awaitStatus(ctx, layout.Namespaces) }); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return r.step(ctx, "DNS", func(ctx context.Context) error {
			return c.awaitStatus(ctx, layout.DNSReady)
		})
	})
	group.Go(func() error {
		if err := r.step(ctx, "API server", r.apiServer); err != nil {
			return err
		}
		group.Go(func() error { return r.step(ctx, "node", r.node) })
		group.Go(func() error { return r.step(ctx, "default service account", r.defaultAccount) })
		if len(options.Manifests) > 0 {
			group.Go(func() error {
				return r.step(ctx, "manifests", func(ctx context.Context) error { return r.manifests(ctx, options.Manifests) })
			})
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	c.timings = append(c.timings, cluster.Timing{Component: "ready", Elapsed: time.Since(begun)})
	return nil
}

// step runs one wait between two events.
func (r *readiness) step(ctx context.Context, component string, wait func(context.Context) error) error {
	r.tell(cluster.Event{Component: component})
	if err := wait(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("wait for %s: %w", component, err)
	}
	r.tell(cluster.Event{Component: component, Done: true})
	return nil
}

func (r *readiness) tell(event cluster.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	event.Elapsed = time.Since(r.begun)
	if event.Done {
		r.cluster.timings = append(r.cluster.timings, cluster.Timing{Component: event.Component, Elapsed: event.Elapsed})
	}
	if r.progress != nil {
		r.progress(event)
	}
}

// awaitStatus waits for a line of the first process. It has one caller at a
// time.
func (c *Cluster) awaitStatus(ctx context.Context, component string) error {
	for {
		select {
		case s, open := <-c.status:
			if !open {
				return errors.New("the cluster has ended")
			}
			if s.Component == component {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// until repeats what fails until it does not, or ctx ends; then the error of
// the last attempt is told, too.
func until(ctx context.Context, attempt func(context.Context) error) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func (r *readiness) apiServer(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(r.config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return until(ctx, func(ctx context.Context) error {
		_, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (r *readiness) node(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error {
		node, err := r.dynamic.Resource(nodes).Get(ctx, layout.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return conditionTrue(node, "Ready")
	})
}

// conditionTrue is nil when an object's condition is.
func conditionTrue(object *unstructured.Unstructured, kind string) error {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range conditions {
		if condition, ok := entry.(map[string]any); ok && condition["type"] == kind {
			if condition["status"] == "True" {
				return nil
			}
			return fmt.Errorf("%s %s is not %s: %v", object.GetKind(), object.GetName(), kind, condition["message"])
		}
	}
	return fmt.Errorf("%s %s does not say whether it is %s", object.GetKind(), object.GetName(), kind)
}

// defaultAccount waits for what every pod of the default namespace needs.
func (r *readiness) defaultAccount(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error {
		if _, err := r.dynamic.Resource(accounts).Namespace(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := r.dynamic.Resource(configMaps).Namespace(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
}

// manifests creates all objects and waits for the definitions among them.
func (r *readiness) manifests(ctx context.Context, documents [][]byte) error {
	client, err := discovery.NewDiscoveryClientForConfig(r.config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	groups, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		return fmt.Errorf("ask for the kinds there are: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	var namespaces, others []*unstructured.Unstructured
	for _, document := range documents {
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(document), 4096)
		for {
			object := &unstructured.Unstructured{}
			if err := decoder.Decode(object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("read manifest: %w", err)
			}
			switch {
			case len(object.Object) == 0:
			case object.GetKind() == "Namespace":
				namespaces = append(namespaces, object)
			default:
				others = append(others, object)
			}
		}
	}
	for _, batch := range [][]*unstructured.Unstructured{namespaces, others} {
		group, ctx := errgroup.WithContext(ctx)
		for _, object := range batch {
			group.Go(func() error { return r.create(ctx, mapper, object) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (r *readiness) create(ctx context.Context, mapper meta.RESTMapper, object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return fmt.Errorf("create %s %s: %w", kind.Kind, object.GetName(), err)
	}
	var resource dynamic.ResourceInterface = r.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = r.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	if _, err := resource.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s %s: %w", kind.Kind, object.GetName(), err)
	}
	if mapping.Resource == definitions {
		return r.accepts(ctx, object)
	}
	return nil
}

// peerDelay is more than the API server waits for its peers.
const peerDelay = time.Minute

// firstPatience is for how long the first dry run is waited for; each further
// one gets twice as long, so that a slow machine gets there, too.
const firstPatience = 100 * time.Millisecond

// established is a definition with its condition dated back.
func established(definition *unstructured.Unstructured) *unstructured.Unstructured {
	out := definition.DeepCopy()
	conditions, _, _ := unstructured.NestedSlice(out.Object, "status", "conditions")
	for _, entry := range conditions {
		if condition, ok := entry.(map[string]any); ok && condition["type"] == "Established" {
			condition["lastTransitionTime"] = time.Now().Add(-peerDelay).UTC().Format(time.RFC3339)
		}
	}
	_ = unstructured.SetNestedSlice(out.Object, conditions, "status", "conditions") // it was there before
	return out
}

// accepts waits until objects of a new kind are accepted, which is shown by a
// dry run: that the empty object is invalid does not matter.
//
// The API server holds back every creation within two seconds after a
// definition became established, so that its peers can learn of the kind. There
// are no peers here, so the moment is moved into the past; if that fails, the
// dry run takes the two seconds.
func (r *readiness) accepts(ctx context.Context, definition *unstructured.Unstructured) error {
	if err := until(ctx, func(ctx context.Context) error {
		current, err := r.dynamic.Resource(definitions).Get(ctx, definition.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := conditionTrue(current, "Established"); err != nil {
			return err
		}
		_, err = r.dynamic.Resource(definitions).UpdateStatus(ctx, established(current), metav1.UpdateOptions{})
		return err
	}); err != nil {
		return err
	}
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	scope, _, _ := unstructured.NestedString(definition.Object, "spec", "scope")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	var version string
	for _, entry := range versions {
		if v, ok := entry.(map[string]any); ok && v["served"] == true {
			version, _ = v["name"].(string)
		}
	}
	target := schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
	var resource dynamic.ResourceInterface = r.dynamic.Resource(target)
	if scope == "Namespaced" {
		resource = r.dynamic.Resource(target).Namespace(metav1.NamespaceDefault)
	}
	probe := &unstructured.Unstructured{}
	probe.SetGroupVersionKind(target.GroupVersion().WithKind(kind))
	probe.SetName("meshproof-probe")
	patience := firstPatience
	return until(ctx, func(ctx context.Context) error {
		// The server may look at the definition as it was: then this request is
		// held back, and the next one is not.
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		patience *= 2
		_, err := resource.Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			return nil
		}
		return err
	})
}
