// Package guesttest takes stock of a cluster, to show in tests that nothing is
// left behind in it and nothing of others was touched.
//
// It reads every object of every kind that the API server can list, and leaves
// out only what the cluster changes by itself.
package guesttest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Inventory is every object of the cluster by RESOURCE.GROUP NAMESPACE/NAME,
// with a digest of its content but for what the cluster itself changes: its
// status, events, its own leases, and who renews one and when.
func Inventory(ctx context.Context, config *rest.Config) (map[string]string, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	lists, err := finder.ServerPreferredResources()
	if err != nil {
		return nil, fmt.Errorf("find all kinds of objects: %w", err)
	}
	out := map[string]string{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") || resource.Name == "events" || resource.Name == "componentstatuses" || strings.HasPrefix(version.Group, "metrics.") {
				continue
			}
			objects, err := client.Resource(version.WithResource(resource.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", resource.Name, err)
			}
			for _, object := range objects.Items {
				if object.GetKind() == "Lease" && strings.HasPrefix(object.GetNamespace(), "kube-") {
					continue // of nodes and control plane, which come and go by themselves
				}
				digest, err := digestOf(object)
				if err != nil {
					return nil, err
				}
				out[fmt.Sprintf("%s %s/%s", version.WithResource(resource.Name).GroupResource(), object.GetNamespace(), object.GetName())] = digest
			}
		}
	}
	return out, nil
}

// digestOf tells an object from every other state of it.
func digestOf(object unstructured.Unstructured) (string, error) {
	for _, path := range [][]string{{"status"}, {"metadata", "managedFields"}, {"metadata", "resourceVersion"}} {
		unstructured.RemoveNestedField(object.Object, path...)
	}
	if object.GetKind() == "Lease" {
		unstructured.RemoveNestedField(object.Object, "spec")
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		return "", fmt.Errorf("encode %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text)), nil
}
