package objects

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value turns a node into what JSON would have: maps, lists, strings, int64,
// float64, bool and nil. It reads scalars as Kubernetes' own reader does, which
// takes yes, no, on and off for booleans. A key that stands twice is an error.
func value(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return value(n.Alias)
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, child := n.Content[i], n.Content[i+1]
			v, err := value(child)
			if err != nil {
				return nil, err
			}
			if key.Tag == "!!merge" {
				merged, ok := v.(map[string]any)
				if !ok {
					return nil, &nodeError{key, "a merge key wants a mapping"}
				}
				for k, v := range merged {
					if _, there := m[k]; !there {
						m[k] = v
					}
				}
				continue
			}
			for j := 0; j < i; j += 2 {
				if n.Content[j].Value == key.Value {
					return nil, &nodeError{key, fmt.Sprintf("the key %q stands twice", key.Value)}
				}
			}
			m[key.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, child := range n.Content {
			var err error
			if list[i], err = value(child); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		return scalar(n)
	}
}

func scalar(n *yaml.Node) (any, error) {
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i, nil
		}
		return nil, &nodeError{n, fmt.Sprintf("the number %s is too large", n.Value)}
	case "!!float":
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			return nil, &nodeError{n, fmt.Sprintf("%s is no number of JSON", n.Value)}
		}
		return f, nil
	}
	if plain {
		switch strings.ToLower(n.Value) {
		case "yes", "on":
			return true, nil
		case "no", "off":
			return false, nil
		}
	}
	return n.Value, nil
}

// nodeError is what is wrong at a node.
type nodeError struct {
	node *yaml.Node
	text string
}

func (e *nodeError) Error() string { return e.text }

// find is the node that a path such as spec.rules[0].matches or
// metadata.labels[app] leads to, or the deepest one on the way. For a field it is
// the key, whose line is the one to look at.
func find(n *yaml.Node, path string) *yaml.Node {
	at, mark := n, n
	for _, step := range steps(path) {
		for at.Kind == yaml.AliasNode {
			at = at.Alias
		}
		if i, err := strconv.Atoi(step); err == nil && at.Kind == yaml.SequenceNode {
			if i >= len(at.Content) {
				return mark
			}
			at, mark = at.Content[i], at.Content[i]
			continue
		}
		key, child := field(at, step)
		if child == nil {
			return mark
		}
		at, mark = child, key
	}
	return mark
}

// steps splits a path at dots and brackets; what stands in brackets may hold dots.
func steps(path string) []string {
	var out []string
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(out, path[1:])
			}
			out, path = append(out, path[1:end]), path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			out, path = append(out, path[:end]), path[end:]
		}
	}
	return out
}

// field finds a key of a mapping and its value.
func field(n *yaml.Node, name string) (key, child *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
