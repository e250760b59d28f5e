package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

const (
	// servingBudget is what an API server gets to serve a CRD that it has.
	servingBudget = 10 * time.Second
	// servingInterval is between two looks.
	servingInterval = 100 * time.Millisecond
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// awaitCRDs waits until every kind is served whose CRD is there. What is watched
// is decided once (C-30), and a controller that was applied together with its CRDs
// must not do without some of them because it was faster than the API server. Its
// only error is that ctx has ended.
func awaitCRDs(ctx context.Context, core rest.Interface, custom dynamic.Interface) error {
	deadline, cancel := context.WithTimeout(ctx, servingBudget)
	defer cancel()
	for _, resource := range api.Resources() {
		defined := false
		name := api.CRDName(resource)
		if err := kube.Retry(ctx, "look for CRD "+name, func(ctx context.Context) error {
			crd, err := custom.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
			defined = err == nil && crd.GetName() == name && defines(crd, resource.Version)
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				return nil
			}
			return err
		}); err != nil {
			return err
		}
		if !defined {
			continue
		}
		if err := awaitServed(deadline, core, custom, resource); err != nil && ctx.Err() == nil {
			slog.Warn("a CRD is there and its kind is not served", "resource", resource.GroupResource().String(), "error", err)
		}
	}
	return ctx.Err()
}

// defines says whether a CRD has the version: one of somebody else's may not.
func defines(crd *unstructured.Unstructured, version string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	return slices.ContainsFunc(versions, func(v any) bool {
		fields, _ := v.(map[string]any)
		return fields["name"] == version && fields["served"] == true
	})
}

// awaitServed waits until the kind can be listed and found.
func awaitServed(ctx context.Context, core rest.Interface, custom dynamic.Interface, resource schema.GroupVersionResource) error {
	tick := time.NewTicker(servingInterval)
	defer tick.Stop()
	for {
		_, err := custom.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			err = discoverable(ctx, core, resource)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func discoverable(ctx context.Context, core rest.Interface, resource schema.GroupVersionResource) error {
	text, err := core.Get().AbsPath("/apis", resource.Group, resource.Version).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("discover %s: %w", resource.GroupVersion(), err)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("discover %s: %w", resource.GroupVersion(), err)
	}
	if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource }) {
		return fmt.Errorf("discover %s: no %s yet", resource.GroupVersion(), resource.Resource)
	}
	return nil
}
