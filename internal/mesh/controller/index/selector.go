package index

import (
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// matches reports whether the labels fulfil every part of the selector; an empty
// selector is fulfilled by all labels. An expression whose values are missing
// where its operator needs them, or present where it does not, or whose operator
// is unknown, is fulfilled by none (C-08).
func matches(selector *api.LabelSelector, labels map[string]string) bool {
	for key, want := range selector.MatchLabels {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	return !slices.ContainsFunc(selector.MatchExpressions, func(r api.SelectorRequirement) bool { return !fulfils(r, labels) })
}

func fulfils(r api.SelectorRequirement, labels map[string]string) bool {
	value, present := labels[r.Key]
	switch r.Operator {
	case api.In:
		return present && slices.Contains(r.Values, value)
	case api.NotIn:
		return r.Values != nil && !(present && slices.Contains(r.Values, value))
	case api.Exists:
		return r.Values == nil && present
	case api.DoesNotExist:
		return r.Values == nil && !present
	default:
		return false
	}
}
