package objects

import (
	"math"
	"regexp"
	"slices"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
)

// plain is a schema in a form in which most objects can be seen at once to be
// valid. The API server's own validator, which is asked about all others, makes
// its validators anew for each field of each object and would take most of the
// time of reading. plain knows few words, and of everything else it is not sure:
// it must never accept what the other refuses, which a test holds against it.
type plain struct {
	// unsure: the schema says something that is not known here.
	unsure             bool
	kind               string
	intOrString        bool
	properties         map[string]*plain
	additional, items  *plain
	required           []string
	oneOf              [][]string
	enum               []string
	pattern            *regexp.Regexp
	minLength, maxText int64
	minItems, maxItems int64
	minimum, maximum   float64
}

func orElse[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// newPlain takes in a schema.
func newPlain(s *apiextensions.JSONSchemaProps) *plain {
	p := &plain{
		kind: s.Type, intOrString: s.XIntOrString, required: s.Required,
		minLength: orElse(s.MinLength, 0), maxText: orElse(s.MaxLength, math.MaxInt64), minItems: orElse(s.MinItems, 0), maxItems: orElse(s.MaxItems, math.MaxInt64),
		minimum: orElse(s.Minimum, math.Inf(-1)), maximum: orElse(s.Maximum, math.Inf(1)),
	}
	p.unsure = len(s.AllOf)+len(s.PatternProperties)+len(s.Dependencies)+len(s.XValidations) > 0 || (len(s.AnyOf) > 0 && !s.XIntOrString) || s.Not != nil || s.Nullable || s.UniqueItems || s.MultipleOf != nil ||
		s.ExclusiveMinimum || s.ExclusiveMaximum || s.MinProperties != nil || s.MaxProperties != nil || s.AdditionalItems != nil || s.XEmbeddedResource || s.XListType != nil ||
		(s.Format != "" && s.Format != "int32" && s.Format != "int64") || s.Ref != nil
	for _, one := range s.OneOf {
		rest := one
		rest.Required = nil
		p.unsure = p.unsure || len(one.Required) == 0 || rest.Type != "" || len(rest.Properties)+len(rest.AnyOf)+len(rest.AllOf)+len(rest.OneOf) > 0 || rest.Not != nil
		p.oneOf = append(p.oneOf, one.Required)
	}
	for _, value := range s.Enum {
		text, ok := value.(string)
		p.unsure = p.unsure || !ok
		p.enum = append(p.enum, text)
	}
	if s.Pattern != "" {
		compiled, err := regexp.Compile(s.Pattern)
		p.pattern, p.unsure = compiled, p.unsure || err != nil
	}
	if len(s.Properties) > 0 {
		p.properties = map[string]*plain{}
		for name, property := range s.Properties {
			p.properties[name] = newPlain(&property)
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		p.additional = newPlain(s.AdditionalProperties.Schema)
	}
	if s.Items != nil && s.Items.Schema != nil {
		p.items = newPlain(s.Items.Schema)
	}
	return p
}

// accepts reports whether the value is valid for sure.
func (p *plain) accepts(value any) bool {
	if p.unsure {
		return false
	}
	switch v := value.(type) {
	case map[string]any:
		return p.kind == "object" && p.acceptsObject(v)
	case []any:
		if p.kind != "array" || p.items == nil || int64(len(v)) < p.minItems || int64(len(v)) > p.maxItems {
			return false
		}
		return !slices.ContainsFunc(v, func(item any) bool { return !p.items.accepts(item) })
	case string:
		length := int64(utf8.RuneCountInString(v))
		return (p.kind == "string" || p.intOrString) && length >= p.minLength && length <= p.maxText &&
			(p.pattern == nil || p.pattern.MatchString(v)) && (p.enum == nil || slices.Contains(p.enum, v))
	case int64:
		return (p.kind == "integer" || p.intOrString) && p.enum == nil && float64(v) >= p.minimum && float64(v) <= p.maximum && v >= math.MinInt32 && v <= math.MaxInt32
	case bool:
		return p.kind == "boolean" && p.enum == nil
	default:
		return false
	}
}

func (p *plain) acceptsObject(object map[string]any) bool {
	for _, name := range p.required {
		if _, there := object[name]; !there {
			return false
		}
	}
	if p.oneOf != nil {
		held := 0
		for _, names := range p.oneOf {
			if !slices.ContainsFunc(names, func(name string) bool { _, there := object[name]; return !there }) {
				held++
			}
		}
		if held != 1 {
			return false
		}
	}
	for name, value := range object {
		property := p.properties[name]
		if property == nil {
			property = p.additional
		}
		// An object without properties takes anything, as metadata does; so does
		// what the schema does not name, where it was not dropped.
		if property != nil && !property.accepts(value) {
			return false
		}
	}
	return true
}
