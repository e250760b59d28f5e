package generate

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meshproof/meshproof/scenarios"
)

// schemaLine tells editors what the file is.
const schemaLine = "# yaml-language-server: $schema=https://meshproof.dev/schema/v1alpha1/scenario.json\n"

// Write is a scenario as a file, with a comment at the top of which each line is
// one of about.
func Write(s *scenarios.Scenario, about ...string) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(schemaLine)
	for _, paragraph := range about {
		for line := range strings.Lines(paragraph) {
			out.WriteString(strings.TrimRight("# "+strings.TrimRight(line, "\n"), " ") + "\n")
		}
	}
	node, err := nodeOf(reflect.ValueOf(*s))
	if err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Metadata.Name, err)
	}
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Metadata.Name, err)
	}
	return out.Bytes(), encoder.Close()
}

// Read reads a scenario that stands alone in its file and needs no manifests, with
// the plan of all its claims.
func Read(file string, data []byte) (*scenarios.PlannedScenario, error) {
	set, err := scenarios.Parse(file, data, func(name string) ([]byte, error) {
		return nil, fmt.Errorf("a generated scenario has no manifest %s", name)
	})
	if err != nil {
		return nil, err
	}
	plan := scenarios.NewPlan(set, nil)
	if len(set.Scenarios) != 1 || len(plan.Scenarios) != 1 {
		return nil, fmt.Errorf("%s: want one scenario with claims, found %d", file, len(plan.Scenarios))
	}
	return plan.Scenarios[0], nil
}

// Plan is a scenario written and read again: with places, and checked.
func Plan(s *scenarios.Scenario) (*scenarios.PlannedScenario, []byte, error) {
	data, err := Write(s)
	if err != nil {
		return nil, nil, err
	}
	planned, err := Read(s.Metadata.Name+".yaml", data)
	return planned, data, err
}

var (
	posType      = reflect.TypeFor[scenarios.Pos]()
	objectType   = reflect.TypeFor[scenarios.Object]()
	cellsType    = reflect.TypeFor[scenarios.Cells]()
	durationType = reflect.TypeFor[time.Duration]()
	countType    = reflect.TypeFor[scenarios.Count]()
)

// nodeOf is a value of the language as YAML, without the fields that say nothing.
func nodeOf(v reflect.Value) (*yaml.Node, error) {
	switch v.Type() {
	case objectType:
		return encoded(v.Interface().(scenarios.Object).Content)
	case cellsType:
		return cellsNode(v.Interface().(scenarios.Cells))
	case countType:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}, nil // a number is one, and not in quotes
	case durationType:
		return encoded(v.Interface().(time.Duration).String())
	}
	if own, ok := v.Interface().(yaml.Marshaler); ok {
		value, err := own.MarshalYAML()
		if err != nil {
			return nil, err
		}
		if node, ok := value.(*yaml.Node); ok {
			return node, nil
		}
		return encoded(value)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return nodeOf(v.Elem())
	case reflect.Struct:
		node := &yaml.Node{Kind: yaml.MappingNode}
		return node, fieldsOf(node, v)
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			one, err := nodeOf(v.Index(i))
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, one)
		}
		if v.Len() == 0 || scalars(node) {
			node.Style = yaml.FlowStyle
		}
		return node, nil
	}
	return encoded(v.Interface())
}

func fieldsOf(node *yaml.Node, v reflect.Value) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if field.Type == posType || name == "-" || !field.IsExported() {
			continue
		}
		value := v.Field(i)
		if option == "inline" {
			if err := fieldsOf(node, value); err != nil {
				return err
			}
			continue
		}
		required := slices.Contains(strings.Split(field.Tag.Get("jsonschema"), ","), "required")
		if !required && !says(value) {
			continue
		}
		one, err := nodeOf(value)
		if err != nil {
			return err
		}
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, one)
	}
	return nil
}

// says is whether a field is worth writing: an empty list of networks says that
// there are none, and nothing else that is empty says anything.
func says(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map:
		return v.Len() > 0
	case reflect.Slice:
		return !v.IsNil() && (v.Len() > 0 || v.Type().Elem().Kind() == reflect.String)
	}
	return !v.IsZero()
}

func scalars(node *yaml.Node) bool {
	for _, one := range node.Content {
		if one.Kind != yaml.ScalarNode {
			return false
		}
	}
	return true
}

// wide is how long a line of an object may be that is written on one line.
const wide = 120

// encoded is a plain value, small ones on one line.
func encoded(value any) (*yaml.Node, error) {
	node := &yaml.Node{}
	if err := node.Encode(value); err != nil {
		return nil, err
	}
	narrow(node)
	return node, nil
}

// narrow puts mappings and lists on one line where they fit.
func narrow(node *yaml.Node) (width int) {
	width = len(node.Value) + 4
	for _, one := range node.Content {
		width += narrow(one)
	}
	if node.Kind != yaml.ScalarNode && width <= wide {
		node.Style = yaml.FlowStyle
	}
	return width
}

// cellsNode maps outcomes to clients.
func cellsNode(cells scenarios.Cells) (*yaml.Node, error) {
	node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	at := map[string]*yaml.Node{}
	for _, one := range cells {
		key := strings.Join(one.Expect, "|")
		if at[key] == nil {
			at[key] = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, at[key])
		}
		at[key].Content = append(at[key].Content, &yaml.Node{Kind: yaml.ScalarNode, Value: one.Client})
	}
	return node, nil
}
