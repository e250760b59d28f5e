package mesh

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	injectAnnotation = "linkerd.io/inject"
	injectEnabled    = "enabled"
)

// templates tells for each kind of workload where its pods' metadata stands.
var templates = map[string][]string{
	"Pod":                   {"metadata"},
	"Deployment":            {"spec", "template", "metadata"},
	"DaemonSet":             {"spec", "template", "metadata"},
	"StatefulSet":           {"spec", "template", "metadata"},
	"ReplicaSet":            {"spec", "template", "metadata"},
	"ReplicationController": {"spec", "template", "metadata"},
	"Job":                   {"spec", "template", "metadata"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template", "metadata"},
}

// InjectManifests copies a stream of YAML or JSON documents and asks for a proxy
// in every pod template on the way, by annotation; the injector adds the proxy
// when pods are created. Templates that say something about injection already,
// and all other documents, are copied byte for byte.
func InjectManifests(in io.Reader, out io.Writer) error {
	number := 0
	for document, err := range documents(in) {
		if err != nil {
			return fmt.Errorf("read manifests: %w", err)
		}
		number++
		injected, err := inject(document)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		if _, err := out.Write(injected); err != nil {
			return fmt.Errorf("write manifests: %w", err)
		}
	}
	return nil
}

// documents yields the stream in pieces that begin with their separator, if they
// have one, and together are the stream.
func documents(in io.Reader) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		reader := bufio.NewReader(in)
		var document []byte
		for {
			line, err := reader.ReadBytes('\n')
			if isSeparator(line) && len(document) > 0 {
				if !yield(document, nil) {
					return
				}
				document = nil
			}
			document = append(document, line...)
			if errors.Is(err, io.EOF) {
				if len(document) > 0 {
					yield(document, nil)
				}
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

func isSeparator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

func inject(document []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	if len(root.Content) == 0 || !annotate(root.Content[0]) {
		return document, nil
	}
	var out bytes.Buffer
	if isSeparator(document) {
		out.WriteString("---\n")
	}
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&root); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// annotate changes an object, or the items of a list of them, and tells whether
// there was anything to change.
func annotate(object *yaml.Node) bool {
	kind := field(object, "kind")
	if kind == nil {
		return false
	}
	if items := field(object, "items"); items != nil && strings.HasSuffix(kind.Value, "List") {
		changed := false
		for _, item := range items.Content {
			changed = annotate(item) || changed
		}
		return changed
	}
	path, known := templates[kind.Value]
	if !known {
		return false
	}
	at := object
	for i, name := range path {
		next := field(at, name)
		if next == nil && i < len(path)-1 {
			return false // no template: for the API server to complain about
		}
		if next == nil {
			next = add(at, name)
		}
		at = next
	}
	annotations := field(at, "annotations")
	if annotations == nil {
		annotations = add(at, "annotations")
	}
	if annotations.Kind != yaml.MappingNode { // "annotations:" with nothing behind
		*annotations = yaml.Node{Kind: yaml.MappingNode, Style: at.Style}
	}
	if field(annotations, injectAnnotation) != nil {
		return false
	}
	annotations.Content = append(annotations.Content, scalar(injectAnnotation, annotations.Style), scalar(injectEnabled, annotations.Style))
	return true
}

// field is the value of a key, nil when it has none.
func field(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind == yaml.AliasNode {
		mapping = mapping.Alias
	}
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// add appends a key with an empty mapping, in the style of what it is added to:
// JSON stays JSON.
func add(mapping *yaml.Node, key string) *yaml.Node {
	value := &yaml.Node{Kind: yaml.MappingNode, Style: mapping.Style}
	if mapping.Kind != yaml.MappingNode {
		*mapping = yaml.Node{Kind: yaml.MappingNode}
	}
	mapping.Content = append(mapping.Content, scalar(key, mapping.Style), value)
	return value
}

func scalar(text string, within yaml.Style) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if within&yaml.FlowStyle != 0 {
		node.Style = yaml.DoubleQuotedStyle
	}
	return node
}
