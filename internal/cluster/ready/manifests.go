package ready

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
)

// Manifests creates all objects and waits for the definitions among them: it is
// what cluster.Options.Manifests promises. Objects that exist stay as they are.
func Manifests(ctx context.Context, config *rest.Config, documents [][]byte) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	m := &maker{}
	if m.dynamic, err = dynamic.NewForConfig(config); err != nil {
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
			group.Go(func() error { return m.create(ctx, mapper, object) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// maker creates objects.
type maker struct{ dynamic dynamic.Interface }

func (m *maker) create(ctx context.Context, mapper meta.RESTMapper, object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return fmt.Errorf("create %s %s: %w", kind.Kind, object.GetName(), err)
	}
	var resource dynamic.ResourceInterface = m.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = m.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	if _, err := resource.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s %s: %w", kind.Kind, object.GetName(), err)
	}
	if mapping.Resource == definitions {
		return m.accepts(ctx, object)
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
func (m *maker) accepts(ctx context.Context, definition *unstructured.Unstructured) error {
	if err := Until(ctx, poll, func(ctx context.Context) error {
		current, err := m.dynamic.Resource(definitions).Get(ctx, definition.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := Condition(current, "Established"); err != nil {
			return err
		}
		_, err = m.dynamic.Resource(definitions).UpdateStatus(ctx, established(current), metav1.UpdateOptions{})
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
	var resource dynamic.ResourceInterface = m.dynamic.Resource(target)
	if scope == "Namespaced" {
		resource = m.dynamic.Resource(target).Namespace(metav1.NamespaceDefault)
	}
	probe := &unstructured.Unstructured{}
	probe.SetGroupVersionKind(target.GroupVersion().WithKind(kind))
	probe.SetName("meshproof-probe")
	patience := firstPatience
	return Until(ctx, poll, func(ctx context.Context) error {
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
