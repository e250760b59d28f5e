package injector

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// diff is the JSON patch from one pod to the other. It names only what differs,
// so that fields which this program's types do not know stay as they are.
func diff(before, after *corev1.Pod) ([]byte, error) {
	var values [2]any
	for i, pod := range []*corev1.Pod{before, after} {
		text, err := json.Marshal(pod)
		if err == nil {
			err = json.Unmarshal(text, &values[i])
		}
		if err != nil {
			return nil, fmt.Errorf("compare pods: %w", err)
		}
	}
	text, err := json.Marshal(compare(nil, "", values[0], values[1]))
	if err != nil {
		return nil, fmt.Errorf("write a patch: %w", err)
	}
	return text, nil
}

func compare(patch []operation, path string, before, after any) []operation {
	if reflect.DeepEqual(before, after) {
		return patch
	}
	if b, ok := before.(map[string]any); ok {
		if a, ok := after.(map[string]any); ok {
			return compareObjects(patch, path, b, a)
		}
	}
	if b, ok := before.([]any); ok {
		if a, ok := after.([]any); ok {
			if inserted, ok := compareLists(patch, path, b, a); ok {
				return inserted
			}
		}
	}
	return append(patch, operation{"replace", path, after})
}

func compareObjects(patch []operation, path string, before, after map[string]any) []operation {
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		at := path + "/" + escape(key)
		b, had := before[key]
		a, has := after[key]
		switch {
		case !has:
			patch = append(patch, operation{Op: "remove", Path: at})
		case !had:
			patch = append(patch, operation{"add", at, a})
		default:
			patch = compare(patch, at, b, a)
		}
	}
	return patch
}

// compareLists finds what was inserted in one place; any other change is not for
// it.
func compareLists(patch []operation, path string, before, after []any) ([]operation, bool) {
	added := len(after) - len(before)
	if added <= 0 {
		return nil, false
	}
	start := 0
	for start < len(before) && reflect.DeepEqual(before[start], after[start]) {
		start++
	}
	if !reflect.DeepEqual(before[start:], after[start+added:]) {
		return nil, false
	}
	for i := start; i < start+added; i++ {
		patch = append(patch, operation{"add", path + "/" + strconv.Itoa(i), after[i]})
	}
	return patch, true
}

func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
