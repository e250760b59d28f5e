package scenarios

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds how much one file may expand to through aliases.
const maxNodes = 200_000

// decoder fills Go values from YAML nodes. It is written out, rather than left
// to the YAML library, because that one neither tells the column of an unknown
// field nor keeps the place of a value.
type decoder struct {
	file     string
	problems *problems
	nodes    int
}

// enum is a string type with a closed set of values.
type enum interface{ Values() []string }

// fromNode is a type with a spelling of its own.
type fromNode interface {
	decodeNode(d *decoder, n *yaml.Node)
}

var (
	posType      = reflect.TypeFor[Pos]()
	durationType = reflect.TypeFor[time.Duration]()
)

func (d *decoder) pos(n *yaml.Node) Pos { return Pos{File: d.file, Line: n.Line, Column: n.Column} }

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	d.problems.add(d.pos(n), format, args...)
}

// value decodes n into v, which must be settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(n, "the document expands to more than %d values", maxNodes)
		}
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if v.CanAddr() {
		if own, ok := v.Addr().Interface().(fromNode); ok {
			own.decodeNode(d, n)
			return
		}
	}
	if v.Kind() == reflect.Pointer {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			d.fail(n, "expected %s, found nothing", describe(v.Type().Elem()))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem())
		return
	}
	if v.Type() == durationType {
		d.duration(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Slice:
		d.slice(n, v)
	case reflect.Map:
		d.stringMap(n, v)
	default:
		d.scalar(n, v)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected %s, found %s", describe(v.Type()), found(n))
		return
	}
	fields, names := structFields(v.Type())
	if at := v.FieldByName("Pos"); at.IsValid() && at.Type() == posType {
		at.Set(reflect.ValueOf(d.pos(n)))
	}
	seen := map[string]bool{}
	for _, pair := range d.pairs(n) {
		field, ok := fields[pair.key.Value]
		if !ok {
			d.fail(pair.key, "unknown field %q in %s: %s", pair.key.Value, describe(v.Type()), didYouMean(pair.key.Value, names))
			continue
		}
		if seen[pair.key.Value] {
			d.fail(pair.key, "field %q is given twice", pair.key.Value)
			continue
		}
		seen[pair.key.Value] = true
		d.value(pair.value, v.FieldByIndex(field.Index))
	}
	for _, name := range names {
		if !seen[name] && isRequired(fields[name]) {
			d.fail(n, "%s needs the field %q", describe(v.Type()), name)
		}
	}
}

type pair struct{ key, value *yaml.Node }

// pairs lists a mapping's entries with merge keys resolved; an entry of the
// mapping itself wins over a merged one.
func (d *decoder) pairs(n *yaml.Node) []pair {
	var own, merged []pair
	have := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag != "!!merge" {
			own = append(own, pair{key, value})
			have[key.Value] = true
			continue
		}
		sources := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			sources = value.Content
		}
		for _, source := range sources {
			if source.Kind == yaml.AliasNode {
				source = source.Alias
			}
			if source.Kind != yaml.MappingNode {
				d.fail(value, "expected a mapping to merge, found %s", found(source))
				continue
			}
			if d.nodes++; d.nodes > maxNodes {
				return own
			}
			merged = append(merged, d.pairs(source)...)
		}
	}
	for _, p := range merged {
		if !have[p.key.Value] {
			have[p.key.Value] = true
			own = append(own, p)
		}
	}
	return own
}

func (d *decoder) slice(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "expected %s, found %s", describe(v.Type()), found(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) stringMap(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "expected %s, found %s", describe(v.Type()), found(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(n) {
		if out.MapIndex(reflect.ValueOf(p.key.Value)).IsValid() {
			d.fail(p.key, "field %q is given twice", p.key.Value)
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, item)
		out.SetMapIndex(reflect.ValueOf(p.key.Value), item)
	}
	v.Set(out)
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "expected a duration such as 5s, found %s", found(n))
		return
	}
	parsed, err := time.ParseDuration(n.Value)
	if err != nil || parsed < 0 {
		d.fail(n, "expected a duration such as 5s, found %s", found(n))
		return
	}
	v.SetInt(int64(parsed))
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value) {
	wrong := func() { d.fail(n, "expected %s, found %s", describe(v.Type()), found(n)) }
	if n.Kind != yaml.ScalarNode {
		wrong()
		return
	}
	switch v.Kind() {
	case reflect.String:
		// A number or a boolean where text is asked for is taken only when
		// quoted: `yes` or `1.10` would change their meaning silently.
		if n.Tag != "!!str" {
			wrong()
			return
		}
		v.SetString(n.Value)
		if e, ok := v.Interface().(enum); ok && !contains(e.Values(), n.Value) {
			d.fail(n, "%q is not %s: %s", n.Value, describe(v.Type()), didYouMean(n.Value, e.Values()))
		}
	case reflect.Bool:
		if n.Tag != "!!bool" {
			wrong()
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		number, err := strconv.Atoi(n.Value)
		if n.Tag != "!!int" || err != nil || number < 0 || number > math.MaxInt32 {
			wrong()
			return
		}
		v.SetInt(int64(number))
	case reflect.Float64:
		number, err := strconv.ParseFloat(n.Value, 64)
		if (n.Tag != "!!int" && n.Tag != "!!float") || err != nil {
			wrong()
			return
		}
		v.SetFloat(number)
	default:
		panic(fmt.Sprintf("scenarios: no rule to decode %s", v.Type()))
	}
}

// free decodes n as YAML without a type of ours: the values are those that
// JSON has, whole numbers as int64.
func (d *decoder) free(n *yaml.Node) any {
	if d.nodes++; d.nodes > maxNodes {
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.free(n.Alias)
	case yaml.MappingNode:
		out := map[string]any{}
		for _, p := range d.pairs(n) {
			if _, twice := out[p.key.Value]; twice {
				d.fail(p.key, "field %q is given twice", p.key.Value)
			}
			out[p.key.Value] = d.free(p.value)
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, item := range n.Content {
			out[i] = d.free(item)
		}
		return out
	}
	var scalar any
	if err := n.Decode(&scalar); err != nil {
		d.fail(n, "not a value: %v", err)
		return nil
	}
	switch scalar := scalar.(type) {
	case int:
		return int64(scalar)
	case time.Time:
		return n.Value
	default:
		return scalar
	}
}

// structFields maps the names that a scenario uses to a type's fields, in the
// order of declaration.
func structFields(t reflect.Type) (map[string]reflect.StructField, []string) {
	fields := map[string]reflect.StructField{}
	var names []string
	for _, field := range reflect.VisibleFields(t) {
		tag := field.Tag.Get("yaml")
		if tag == "" || tag == "-" || !field.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		fields[name] = field
		names = append(names, name)
	}
	return fields, names
}

func isRequired(field reflect.StructField) bool {
	for part := range strings.SplitSeq(field.Tag.Get("jsonschema"), ",") {
		if part == "required" {
			return true
		}
	}
	return false
}

// described lets a type say in a message what it is.
type described interface{ describe() string }

func describe(t reflect.Type) string {
	if d, ok := reflect.New(t).Interface().(described); ok {
		return d.describe()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem())
	case reflect.Struct:
		return "a " + words(t.Name())
	case reflect.Slice:
		return "a list of " + strings.TrimPrefix(strings.TrimPrefix(describe(t.Elem()), "a "), "an ") + "s"
	case reflect.Map:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		if t.Name() != "string" {
			return "a " + words(t.Name())
		}
		return "a string"
	}
	return "a " + t.String()
}

// words turns the name of a type into words: ClientKind is a client kind.
func words(name string) string {
	var out strings.Builder
	for i, letter := range name {
		if unicode.IsUpper(letter) && i > 0 {
			out.WriteByte(' ')
		}
		out.WriteRune(unicode.ToLower(letter))
	}
	return out.String()
}

// found says what stands at a node.
func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return found(n.Alias)
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the string %q", n.Value)
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return n.Value + " (true or false)"
	}
	return fmt.Sprintf("%q", n.Value)
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}
