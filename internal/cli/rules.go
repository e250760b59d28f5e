package cli

import rbacv1 "k8s.io/api/rbac/v1"

func rules(installs bool) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
}
