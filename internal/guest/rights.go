package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/manifests"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// ofRuns are the rights of every run: what the engine does in the namespaces it
// makes, whose names nobody knows beforehand.
var ofRuns = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}},
	{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "list", "create", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"pods/exec", "pods/portforward"}, Verbs: []string{"create"}},
	{APIGroups: []string{""}, Resources: []string{"services", "serviceaccounts"}, Verbs: []string{"get", "list", "create", "patch"}},
	{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}},
	{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list"}},
	{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "list", "create", "patch", "delete"}},
	{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: []string{"get", "list"}},
	{APIGroups: []string{"apps"}, Resources: []string{"controllerrevisions"}, Verbs: []string{"get"}},
	ofPolicies(api.Group), ofPolicies(api.GatewayGroup), ofStatuses(api.Group), ofStatuses(api.GatewayGroup),
}

// ofStatuses are the rights of every run to play another controller that writes
// the status of policies and routes of a group.
func ofStatuses(group string) rbacv1.PolicyRule {
	rule := ofPolicies(group)
	rule.Verbs = []string{"patch"}
	for i := range rule.Resources {
		rule.Resources[i] += "/status"
	}
	return rule
}

// ofPolicies are the rights of every run to the policies and routes of a group.
func ofPolicies(group string) rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{APIGroups: []string{group}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete", "deletecollection"}}
	for _, resource := range api.Resources() {
		if resource.Group == group {
			rule.Resources = append(rule.Resources, resource.Resource)
		}
	}
	return rule
}

// ofGuests are the rights of a run that is not alone, in the mesh's namespace.
var ofGuests = []rbacv1.PolicyRule{
	{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"list", "create", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{values.ConfigMapName, "linkerd-identity-trust-roots"}, Verbs: []string{"get"}},
}

// ofOwners is what a run does with each of the mesh's objects that it installs,
// besides creating them, which cannot be granted by name: it applies them, waits
// for them and removes them.
var ofOwners = []string{"get", "patch", "delete"}

// Rights are what a run does: everywhere in the cluster, and in the mesh's
// namespace. changesMesh says that it installs the mesh, or has scenarios that
// install other settings. Who may make a role must have what it grants, so the
// mesh's own rights are among them.
func Rights(changesMesh bool) (everywhere, inMesh []rbacv1.PolicyRule) {
	everywhere, inMesh = slices.Clone(ofRuns), slices.Clone(ofGuests)
	for _, fact := range mesh.WaitReady() { // whoever uses the mesh waits for it
		o := fact.Object
		rule := rbacv1.PolicyRule{APIGroups: []string{o.Group}, Resources: []string{o.Resource}, ResourceNames: []string{o.Name}, Verbs: []string{"get"}}
		if o.Namespace == "" {
			everywhere = append(everywhere, rule)
		} else {
			inMesh = append(inMesh, rule)
		}
	}
	if !changesMesh {
		return compact(everywhere), compact(inMesh)
	}
	created := map[string]bool{}
	for _, object := range meshObjects() {
		group, resource := resourceOf(object)
		named := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: []string{object.GetName()}, Verbs: ofOwners}
		create := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{"create"}}
		into := &everywhere
		if object.GetNamespace() != "" {
			into = &inMesh
		}
		*into = append(*into, named)
		if !created[resource] {
			created[resource] = true
			*into = append(*into, create)
		}
		if object.GetKind() == "Role" || object.GetKind() == "ClusterRole" {
			var role rbacv1.ClusterRole // a Role looks the same
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
				panic(fmt.Sprintf("guest: read %s %s of the mesh: %v", object.GetKind(), object.GetName(), err)) // ours, and tested
			}
			*into = append(*into, role.Rules...)
		}
	}
	return compact(everywhere), compact(inMesh)
}

// Rules are all rights in one list, for one role that holds everywhere.
func Rules(changesMesh bool) []rbacv1.PolicyRule {
	everywhere, inMesh := Rights(changesMesh)
	return compact(append(everywhere, inMesh...))
}

// meshObjects are those of the mesh's manifests.
func meshObjects() []*unstructured.Unstructured {
	objects, err := objectsOf(mesh.Options{})
	if err != nil {
		panic(fmt.Sprintf("guest: %v", err)) // the defaults are ours, and tested
	}
	return objects
}

func objectsOf(options mesh.Options) ([]*unstructured.Unstructured, error) {
	text, err := mesh.Install(options)
	if err != nil {
		return nil, fmt.Errorf("print the mesh's manifests: %w", err)
	}
	return manifests.Parse(text)
}

// resourceOf is the resource of an object of the mesh: all of them have regular
// plurals.
func resourceOf(object *unstructured.Unstructured) (group, resource string) {
	return object.GroupVersionKind().Group, strings.ToLower(object.GetKind()) + "s"
}

// compact merges rules that differ in their verbs only, or in names only.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	merge := func(key func(rbacv1.PolicyRule) string, into func(a *rbacv1.PolicyRule, b rbacv1.PolicyRule)) {
		var out []rbacv1.PolicyRule
		at := map[string]int{}
		for _, rule := range rules {
			if i, ok := at[key(rule)]; ok {
				into(&out[i], rule)
				continue
			}
			at[key(rule)] = len(out)
			out = append(out, *rule.DeepCopy())
		}
		rules = out
	}
	what := func(r rbacv1.PolicyRule) string { return fmt.Sprint(r.APIGroups, r.Resources) }
	merge(func(r rbacv1.PolicyRule) string { return what(r) + fmt.Sprint(r.ResourceNames) },
		func(a *rbacv1.PolicyRule, b rbacv1.PolicyRule) { a.Verbs = union(a.Verbs, b.Verbs) })
	merge(func(r rbacv1.PolicyRule) string {
		if len(r.ResourceNames) == 0 {
			return what(r)
		}
		return what(r) + " named " + fmt.Sprint(r.Verbs)
	}, func(a *rbacv1.PolicyRule, b rbacv1.PolicyRule) {
		a.ResourceNames = union(a.ResourceNames, b.ResourceNames)
	})
	return rules
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, one := range b {
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out
}

// question is one right to ask for.
type question struct{ namespace, group, resource, subresource, name, verb string }

// questions are all rights one by one, in the order of the table.
func questions(changesMesh bool) []question {
	var out []question
	everywhere, inMesh := Rights(changesMesh)
	ask := func(namespace string, rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			names := rule.ResourceNames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, resource := range rule.Resources {
				resource, subresource, _ := strings.Cut(resource, "/")
				for _, verb := range rule.Verbs {
					for _, name := range names {
						out = append(out, question{namespace, rule.APIGroups[0], resource, subresource, name, verb})
					}
				}
			}
		}
	}
	ask("", everywhere)
	ask(values.Namespace, inMesh)
	return out
}

// asking is how many rights are asked for at the same time.
const asking = 16

// CheckRights asks the API server whether this user may do everything that a run
// does. Error: *cluster.SetupError, one line that names all that he may not.
func CheckRights(ctx context.Context, config *rest.Config, changesMesh bool) error {
	config = rest.CopyConfig(config)
	config.QPS = -1 // asking is bounded
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	all, err := allowed(ctx, client, question{group: "*", resource: "*", verb: "*"})
	if all || err != nil {
		return err
	}
	every := questions(changesMesh)
	denied, errs := make([]bool, len(every)), make([]error, len(every))
	var group sync.WaitGroup
	slots := make(chan struct{}, asking)
	for i, one := range every {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			yes, err := allowed(ctx, client, one)
			denied[i], errs[i] = !yes, err
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return tooNarrow(every, denied)
}

func allowed(ctx context.Context, client kubernetes.Interface, q question) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
		Namespace: q.namespace, Group: q.group, Version: "*", Resource: q.resource, Subresource: q.subresource, Name: q.name, Verb: q.verb}}}
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask what this user may do: %w", err)
	}
	return answer.Status.Allowed, nil
}

// tooNarrow names what was denied, nil when nothing was.
func tooNarrow(every []question, denied []bool) error {
	var order []string
	verbs := map[string][]string{}
	for i, q := range every {
		if !denied[i] {
			continue
		}
		what := q.resource
		if q.group != "" {
			what += "." + q.group
		}
		if q.subresource != "" {
			what = q.resource + "/" + q.subresource
		}
		if q.namespace != "" {
			what += " in namespace " + q.namespace
		}
		if verbs[what] == nil {
			order = append(order, what)
		}
		verbs[what] = union(verbs[what], []string{q.verb})
	}
	if len(order) == 0 {
		return nil
	}
	var parts []string
	for _, what := range order {
		parts = append(parts, "cannot "+strings.Join(verbs[what], "/")+" "+what)
	}
	return &cluster.SetupError{Cause: "RBAC is too narrow: " + strings.Join(parts, ", ")}
}
