package scenarios

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// A table of the library is a template over the enumerations that it covers, so
// that a new value has its rows at once: text/template, with the functions
// below. Which rows it must have is said once more in tables_test.go.

// templateSuffix marks the templates among the library's files.
const templateSuffix = ".yaml.tmpl"

// tableFunctions are what templates may call.
var tableFunctions = template.FuncMap{
	"policies":       api.PolicyNames,
	"proxyProtocols": api.ProxyProtocols,
	"clientKinds":    ClientKind("").Values,
	"networks":       Network("").Values,
	// list and dict write down values; get fails for a key that is not there, so
	// that a value nobody thought of is noticed.
	"list": func(values ...any) []any { return values },
	"dict": dict,
	"get": func(values map[string]any, key any) (any, error) {
		value, there := values[fmt.Sprint(key)]
		if !there {
			return nil, fmt.Errorf("the table says nothing about %v", key)
		}
		return value, nil
	},
	// set adds to what dict has written down.
	"set": func(values map[string]any, key string, value any) map[string]any {
		values[key] = value
		return values
	},
	// next is the value some places on, round and round.
	"next": func(policies []api.PolicyName, at, by int) api.PolicyName { return policies[(at+by)%len(policies)] },
	// permutations are all orders of the values; cycle is the element of a list some
	// places on, round and round; join puts a comma between values.
	"permutations": permutations,
	"cycle":        func(list [][]any, at, by int) []any { return list[(at+by)%len(list)] },
	"join": func(values []any) string {
		var texts []string
		for _, value := range values {
			texts = append(texts, fmt.Sprint(value))
		}
		return strings.Join(texts, ", ")
	},
	// slug makes a value fit for the name of an object.
	"slug": func(value any) string {
		return strings.NewReplacer("/", "", " ", "-").Replace(strings.ToLower(fmt.Sprint(value)))
	},
}

func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("%d keys and values do not pair", len(pairs))
	}
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		out[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return out, nil
}

// permutations lists the orders of the values, by which of them comes first, then
// second, and so on.
func permutations(values ...any) [][]any {
	if len(values) == 0 {
		return [][]any{nil}
	}
	var all [][]any
	for i, first := range values {
		rest := append(append([]any{}, values[:i]...), values[i+1:]...)
		for _, order := range permutations(rest...) {
			all = append(all, append([]any{first}, order...))
		}
	}
	return all
}

// lineMark ends a line of a template while it is written out, and holds its
// number. Lines that hold actions alone leave theirs behind it.
var lineMark = regexp.MustCompile(`( #@(\d+))( #@\d+)*$`)

// writeOut executes a template. lines[i] is the template's line that line i+1 of
// the text comes from, so an action must not span lines.
func writeOut(name string, data []byte) (text []byte, lines []int, err error) {
	var marked strings.Builder
	for i, line := range strings.Split(string(data), "\n") {
		fmt.Fprintf(&marked, "%s #@%d\n", line, i+1)
	}
	parsed, err := template.New(name).Funcs(tableFunctions).Option("missingkey=error").Parse(marked.String())
	if err != nil {
		return nil, nil, fmt.Errorf("read the table: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, nil); err != nil {
		return nil, nil, fmt.Errorf("write out the table: %w", err)
	}
	var clean []string
	for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		mark := lineMark.FindStringSubmatch(line)
		if mark == nil {
			return nil, nil, fmt.Errorf("%s: an action spans lines near %q", name, line)
		}
		number, _ := strconv.Atoi(mark[2])
		line = strings.TrimRight(strings.TrimSuffix(line, mark[0]), " ")
		if line == "" {
			continue // it held actions alone
		}
		clean, lines = append(clean, line), append(lines, number)
	}
	return []byte(strings.Join(clean, "\n") + "\n"), lines, nil
}

// relocate turns places in texts that were written out into places in their
// templates, in everything that is reachable from value.
func relocate(value any, lines map[string][]int) {
	relocateValue(reflect.ValueOf(value), lines)
}

func relocateValue(v reflect.Value, lines map[string][]int) {
	if v.Type() == posType {
		at := v.Addr().Interface().(*Pos)
		if from := lines[at.File]; at.Line >= 1 && at.Line <= len(from) {
			at.Line = from[at.Line-1]
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			relocateValue(v.Elem(), lines)
		}
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(v.Type()) {
			if len(field.Index) == 1 && field.IsExported() {
				relocateValue(v.FieldByIndex(field.Index), lines)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			relocateValue(v.Index(i), lines)
		}
	}
}
