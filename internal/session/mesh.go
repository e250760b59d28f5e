package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/mesh"
)

const (
	// meshBudget is for the control plane to come up, from the first apply.
	meshBudget = 60 * time.Second
	// factInterval is between two looks at a fact that does not hold yet.
	factInterval = 100 * time.Millisecond
)

// meshFor is the run's mesh with the settings that a scenario asks for.
func (s *session) meshFor(o engine.InstallOptions) mesh.Options {
	asked := s.Mesh
	if o.DefaultInboundPolicy != "" {
		asked.DefaultInboundPolicy = o.DefaultInboundPolicy
	}
	if len(o.ClusterNetworks) > 0 {
		asked.ClusterNetworks = o.ClusterNetworks
	}
	if o.ProbeNetworks != nil {
		asked.ProbeNetworks = o.ProbeNetworks
	}
	asked.HA = asked.HA || o.HA
	return asked
}

// speak settles in which dialect the run is: that of a mesh that stands, unless
// the user wants another, which is refused. What of the plan is for the other
// dialect is skipped from here on.
func (s *session) speak(ctx context.Context, config *rest.Config, plan *scenarios.Plan) error {
	if s.opened {
		standing, stands, err := guest.StandingMesh(ctx, config)
		if err != nil {
			return err
		}
		if stands && s.asked != "" && s.asked != standing.Dialect {
			return &cluster.OptionError{Option: "dialect", Problem: fmt.Sprintf("the mesh in the cluster speaks %s; ask for that, or for another cluster", standing.Dialect)}
		}
		if stands {
			s.Mesh.Dialect = standing.Dialect
		}
	}
	s.Mesh.Dialect = cmp.Or(s.Mesh.Dialect, api.DialectDocumented)
	plan.ForDialect(scenarios.Dialect(s.Mesh.Dialect))
	return nil
}

// install applies the manifests, unless the cluster's maker did or the mesh stood
// before, and waits for the facts that the mesh names.
func (s *session) install(ctx context.Context, config *rest.Config) error {
	if _, foreseen := s.Provider.(cluster.Foreseen); !s.meshStands && (s.opened || !foreseen) {
		s.say("applying the mesh's manifests")
		manifests, err := mesh.Install(s.Mesh)
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
			if apierrors.IsForbidden(missing) {
				return false, missing // it stays so
			}
			return missing == nil, nil
		}, wait.WithContext(ctx), wait.WithTimeout(meshBudget), wait.WithInterval(factInterval), wait.WithImmediate())
		if apierrors.IsForbidden(missing) {
			return fmt.Errorf("look at %s %s: %w", fact.Object.Resource, fact.Object.Name, missing)
		}
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
	if apierrors.IsNotFound(err) && fact.Condition == mesh.AcceptingIfThere {
		return nil
	}
	if err != nil {
		return err
	}
	switch fact.Condition {
	case mesh.Accepting, mesh.AcceptingIfThere:
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
