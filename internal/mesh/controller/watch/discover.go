package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// discover finds the newest version in which the API server serves each of the
// resources; those that it does not serve are left out. Only an answer that says
// so counts as absence.
func discover(ctx context.Context, client rest.Interface, resources []schema.GroupResource) (map[schema.GroupResource]schema.GroupVersionResource, error) {
	served := map[schema.GroupResource]schema.GroupVersionResource{}
	var groups []string
	for _, resource := range resources {
		if !slices.Contains(groups, resource.Group) {
			groups = append(groups, resource.Group)
		}
	}
	for _, group := range groups {
		var versions metav1.APIGroup
		if err := ask(ctx, client, &versions, "apis", group); err != nil {
			return nil, err
		}
		// The API server puts the newest stable version first, then betas, then
		// alphas.
		for _, version := range versions.Versions {
			var list metav1.APIResourceList
			if err := ask(ctx, client, &list, "apis", group, version.Version); err != nil {
				return nil, err
			}
			for _, found := range list.APIResources {
				resource := schema.GroupResource{Group: group, Resource: found.Name}
				if _, newer := served[resource]; !newer && slices.Contains(resources, resource) {
					served[resource] = resource.WithVersion(version.Version)
				}
			}
		}
	}
	return served, nil
}

// ask reads a discovery document; one that does not exist is empty.
func ask(ctx context.Context, client rest.Interface, into any, path ...string) error {
	text, err := client.Get().AbsPath(path...).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("discover what is served at %v: %w", path, err)
	}
	return nil
}
