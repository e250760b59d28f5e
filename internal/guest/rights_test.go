package guest

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// grants says whether one of the rules allows a verb on a named object.
func grants(rules []rbacv1.PolicyRule, verb, group, resource, name string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, verb) && slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, name))
	})
}

func TestRightsHoldForEveryObjectOfTheMesh(t *testing.T) {
	everywhere, inMesh := Rights(true)
	for _, object := range meshObjects() {
		rules := everywhere
		if object.GetNamespace() != "" {
			rules = inMesh
		}
		group, resource := resourceOf(object)
		for _, verb := range []string{"get", "create", "patch", "delete"} {
			if !grants(rules, verb, group, resource, object.GetName()) {
				t.Errorf("cannot %s %s %s", verb, resource, object.GetName())
			}
		}
	}
}

func TestRightsAreNoWiderThanNeeded(t *testing.T) {
	for _, changesMesh := range []bool{false, true} {
		rules := Rules(changesMesh)
		for _, r := range rules {
			for _, verb := range []string{"*", "escalate", "bind", "impersonate"} {
				if slices.Contains(r.Verbs, verb) {
					t.Errorf("%v", r)
				}
			}
		}
		for _, no := range []struct{ verb, group, resource, name string }{
			{"get", "", "secrets", "somebody-elses"}, {"list", "", "secrets", "somebody-elses"},
			{"delete", "rbac.authorization.k8s.io", "clusterroles", "cluster-admin"}, {"patch", "rbac.authorization.k8s.io", "clusterrolebindings", "cluster-admin"},
			{"delete", "apiextensions.k8s.io", "customresourcedefinitions", "somebody.else"}, {"delete", "", "nodes", "a"}, {"delete", "", "configmaps", "somebody-elses"},
		} {
			if grants(rules, no.verb, no.group, no.resource, no.name) {
				t.Errorf("may %s %s %s (changes the mesh: %v)", no.verb, no.resource, no.name, changesMesh)
			}
		}
	}
	if grants(Rules(false), "patch", "rbac.authorization.k8s.io", "clusterroles", "linkerd-linkerd-identity") {
		t.Error("who leaves the mesh alone may change it")
	}
}

func TestRightsThatAreMissingAreNamedInOneLine(t *testing.T) {
	every := questions(true)
	denied := make([]bool, len(every))
	if err := tooNarrow(every, denied); err != nil {
		t.Errorf("nothing is denied, and yet: %v", err)
	}
	for i, q := range every {
		denied[i] = q.resource == "namespaces" && (q.verb == "create" || q.verb == "delete") || q.resource == "clusterroles" && q.verb == "patch" ||
			q.subresource == "exec" || q.resource == "leases" && q.verb == "create"
	}
	want := "RBAC is too narrow: cannot create/delete namespaces, cannot create pods/exec, cannot patch clusterroles.rbac.authorization.k8s.io, cannot create leases.coordination.k8s.io in namespace linkerd"
	if got := tooNarrow(every, denied).Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRulesAreEachOfOneGroup(t *testing.T) {
	for _, r := range Rules(true) {
		if len(r.APIGroups) != 1 || len(r.Resources) == 0 || len(r.Verbs) == 0 || strings.Contains(r.APIGroups[0], "*") {
			t.Errorf("%v", r) // questions asks for the first group only
		}
	}
}
