// Package ready is what clusters that are being created are waited for and given,
// whatever they are made of.
//
// Through it flow questions to a new cluster's API. It knows no component by
// name, and takes a cluster for its creator's alone: nobody else uses it yet.
package ready

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// poll is how often is asked here for what has no watch.
const poll = 25 * time.Millisecond

// Resources asked for below.
var (
	accounts    = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// Until repeats what fails, every poll, until it does not, or ctx ends: then the
// error is why it ended and what the last attempt said.
func Until(ctx context.Context, poll time.Duration, attempt func(context.Context) error) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var last error
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// Condition is nil when an object's condition is.
func Condition(object *unstructured.Unstructured, kind string) error {
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

// DefaultAccount waits for what every pod of the default namespace needs.
func DefaultAccount(ctx context.Context, client dynamic.Interface) error {
	return Until(ctx, poll, func(ctx context.Context) error {
		if _, err := client.Resource(accounts).Namespace(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := client.Resource(configMaps).Namespace(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
}
