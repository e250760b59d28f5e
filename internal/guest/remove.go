package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/turn"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	// goneBudget is for one object to be gone that was deleted; a namespace ends
	// its pods first.
	goneBudget = 90 * time.Second
	// goneInterval is between two looks.
	goneInterval = 200 * time.Millisecond
	// ours chooses what runs made, by their labels.
	ours = PartOf + "=" + Tool + "," + RunLabel
)

// Removed is something that was deleted.
type Removed struct {
	// Kind is Namespace or Pod; Namespace is a pod's.
	Kind, Namespace, Name string
	// Run is the run that had made it.
	Run string
}

func (r Removed) String() string {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	return fmt.Sprintf("run %s: %s %s", r.Run, strings.ToLower(r.Kind), name)
}

// Sweep deletes the namespaces of runs that are not among those alive, and
// their pods in namespaces of others, and returns what it deleted. It does not
// wait. The mesh stays.
func Sweep(ctx context.Context, client kubernetes.Interface, alive func(ctx context.Context) ([]string, error)) ([]Removed, error) {
	// What there is first, and who is alive afterwards: a run is there before
	// anything of it is, and after everything.
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ours})
	if err != nil {
		return nil, fmt.Errorf("list the namespaces of runs: %w", err)
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: ours})
	if err != nil {
		return nil, fmt.Errorf("list the pods of runs: %w", err)
	}
	if len(namespaces.Items)+len(pods.Items) == 0 {
		return nil, nil
	}
	living, err := alive(ctx)
	if err != nil {
		return nil, err
	}
	var removed []Removed
	var failed []error
	swept := map[string]bool{}
	note := func(what Removed, err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			failed = append(failed, fmt.Errorf("remove %s: %w", what, err))
			return
		}
		removed = append(removed, what)
	}
	for _, namespace := range namespaces.Items {
		run := namespace.Labels[RunLabel]
		if namespace.Name == values.Namespace || slices.Contains(living, run) {
			continue
		}
		swept[namespace.Name] = true
		if namespace.DeletionTimestamp != nil {
			continue
		}
		note(Removed{Kind: "Namespace", Name: namespace.Name, Run: run}, client.CoreV1().Namespaces().Delete(ctx, namespace.Name, unchanged(namespace.UID)))
	}
	for _, pod := range pods.Items {
		run := pod.Labels[RunLabel]
		if swept[pod.Namespace] || slices.Contains(living, run) || pod.DeletionTimestamp != nil {
			continue
		}
		note(Removed{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, Run: run}, client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, unchanged(pod.UID)))
	}
	return removed, errors.Join(failed...)
}

func unchanged(uid types.UID) metav1.DeleteOptions {
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
}

// Uninstall removes the mesh that a run installed and waits until it is gone;
// the caller is alone on the cluster. Objects of its names that are not this
// project's stay, and so do CRDs of the Gateway API that others have made use of.
// The error names what is left.
func Uninstall(ctx context.Context, config *rest.Config) error {
	client, err := dynamicClient(config)
	if err != nil {
		return err
	}
	// The namespace goes last: while it is there, so is this run's lease, and
	// whoever comes meanwhile waits for it to be gone.
	objects := mesh.Uninstall()
	slices.SortStableFunc(objects, func(a, b mesh.Object) int {
		rank := func(o mesh.Object) int {
			if o.Resource == "namespaces" {
				return 1
			}
			return 0
		}
		return rank(a) - rank(b)
	})
	var left []string
	var failed []error
	for _, o := range objects {
		what := o.Resource + "/" + o.Name
		resource := client.Resource(schema.GroupVersionResource{Group: o.Group, Version: o.Version, Resource: o.Resource})
		one := resource.Namespace(o.Namespace)
		there, err := one.Get(ctx, o.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && there.GetLabels()[PartOf] != Tool {
			continue
		}
		if err == nil && mesh.IsGatewayCRD(o.Name) {
			used, err := inUse(ctx, client, o.Name)
			if err != nil {
				left, failed = append(left, what), append(failed, err)
			}
			if used || err != nil {
				continue // somebody has begun to use it, for other gateways perhaps
			}
		}
		if err == nil {
			background := metav1.DeletePropagationBackground
			options := unchanged(there.GetUID())
			options.PropagationPolicy = &background
			err = one.Delete(ctx, o.Name, options)
		}
		if err == nil {
			err = gone(ctx, func(ctx context.Context) error { _, err := one.Get(ctx, o.Name, metav1.GetOptions{}); return err })
		}
		if err != nil && !apierrors.IsNotFound(err) {
			left, failed = append(left, what), append(failed, err)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("the mesh is not removed: %s: %w", strings.Join(left, ", "), errors.Join(failed...))
	}
	return nil
}

// inUse says whether there are objects of a kind of the Gateway API.
func inUse(ctx context.Context, client dynamic.Interface, crd string) (bool, error) {
	for _, resource := range api.Resources() {
		if api.CRDName(resource) != crd {
			continue
		}
		list, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look whether anybody uses %s: %w", crd, err)
		}
		return len(list.Items) > 0, nil
	}
	return false, nil
}

// gone waits until get finds nothing.
func gone(ctx context.Context, get func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, goneBudget)
	defer cancel()
	tick := time.NewTicker(goneInterval)
	defer tick.Stop()
	for {
		if err := get(ctx); apierrors.IsNotFound(err) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it is still there after %s", goneBudget)
		}
	}
}

// UninstallOwned removes the mesh when a run installed it and no run is left.
// id is that of the run that asks, which has left before, or any other one. It
// returns the id of the run whose mesh it removed, "" when it did not.
func UninstallOwned(ctx context.Context, config *rest.Config, id, holder string, say func(string)) (string, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", fmt.Errorf("make a client: %w", err)
	}
	mark, err := ReadMark(ctx, client)
	if err != nil || mark.Run == "" {
		return "", err
	}
	// Whoever leaves last finds nobody: everybody first leaves and then looks.
	present, err := turn.IDs(ctx, client)
	if err != nil || len(present) > 0 {
		return "", err
	}
	last, err := turn.Join(ctx, client, id, holder, say)
	if err != nil {
		return "", err
	}
	defer func() { _ = last.Leave(context.WithoutCancel(ctx)) }()
	if err := last.Alone(ctx); err != nil {
		return "", err
	}
	if others, err := last.Others(ctx); err != nil || others > 0 {
		return "", err
	}
	if mark, err = ReadMark(ctx, client); err != nil || mark.Run == "" {
		return "", err
	}
	return mark.Run, Uninstall(ctx, config)
}

// restore takes back what a killed run has changed in a mesh that stood before
// it, and says so.
func restore(ctx context.Context, config *rest.Config, client kubernetes.Interface, id, holder string, say func(string)) (string, error) {
	mark, err := ReadMark(ctx, client)
	if err != nil || mark.Before == nil || mark.Run != "" {
		return "", err
	}
	present, err := turn.IDs(ctx, client)
	if err != nil || len(present) > 0 {
		return "", err // it is theirs, or they restore it
	}
	last, err := turn.Join(ctx, client, id, holder, say)
	if err != nil {
		return "", err
	}
	defer func() { _ = last.Leave(context.WithoutCancel(ctx)) }()
	if err := last.Alone(ctx); err != nil {
		return "", err
	}
	if mark, err = ReadMark(ctx, client); err != nil || mark.Before == nil {
		return "", err
	}
	return "a killed run: other settings of the mesh", Restore(ctx, config, *mark.Before)
}

// awaitSwept waits until no namespace of a run that is not there is on its way
// out, whoever deleted it.
func awaitSwept(ctx context.Context, client kubernetes.Interface, alive func(context.Context) ([]string, error), say func(string)) error {
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ours})
	if err != nil || len(namespaces.Items) == 0 {
		return err
	}
	living, err := alive(ctx)
	if err != nil {
		return err
	}
	for _, namespace := range namespaces.Items {
		if namespace.DeletionTimestamp == nil || slices.Contains(living, namespace.Labels[RunLabel]) {
			continue
		}
		say("namespace " + namespace.Name + " to be gone")
		if err := gone(ctx, func(ctx context.Context) error {
			_, err := client.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
			return err
		}); err != nil {
			return fmt.Errorf("remove namespace %s: %w", namespace.Name, err)
		}
	}
	return nil
}

// Cleanup removes everything that runs have left which are not there any more:
// their namespaces and pods, other settings of a mesh that stood before them,
// and the mesh when a run installed it and no run is left. It waits until all is
// gone and returns what it removed, a line each.
func Cleanup(ctx context.Context, config *rest.Config, id, holder string, say func(string)) ([]string, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	alive := func(ctx context.Context) ([]string, error) { return turn.Living(ctx, client, say) }
	swept, err := Sweep(ctx, client, alive)
	var removed []string
	for _, one := range swept {
		removed = append(removed, one.String())
	}
	if err != nil {
		return removed, err
	}
	if err := awaitSwept(ctx, client, alive, say); err != nil {
		return removed, err
	}
	if _, err := alive(ctx); err != nil { // removes the leases of the dead
		return removed, err
	}
	restored, err := restore(ctx, config, client, id, holder, say)
	if restored != "" {
		removed = append(removed, restored)
	}
	if err != nil {
		return removed, err
	}
	owner, err := UninstallOwned(ctx, config, id, holder, say)
	if owner != "" && err == nil {
		removed = append(removed, "run "+owner+": the mesh that it installed")
	}
	return removed, err
}
