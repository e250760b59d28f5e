package objects

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// versionSchema is the schema of one version of a kind, ready for use.
type versionSchema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	plain      *plain
}

// definition is a CRD that is read, and its schemas made, when an object of its
// kind is seen.
type definition struct {
	text     []byte
	read     func() (*apiextensionsv1.CustomResourceDefinition, error)
	versions sync.Map // name to func() (*versionSchema, error)
}

// definitions are the CRDs by group and kind.
var definitions = sync.OnceValue(func() map[schema.GroupKind]*definition {
	all := map[schema.GroupKind]*definition{}
	for _, text := range api.CRDs() {
		d := &definition{text: text}
		d.read = sync.OnceValues(func() (*apiextensionsv1.CustomResourceDefinition, error) {
			crd := new(apiextensionsv1.CustomResourceDefinition)
			return crd, yaml.UnmarshalStrict(d.text, crd)
		})
		all[schema.GroupKind{Group: entry(text, "  group: "), Kind: entry(text, "    kind: ")}] = d
	}
	return all
})

// entry is the value of the first line that begins so: the CRDs are ours, and
// reading two lines of each is cheaper than reading all of all.
func entry(text []byte, prefix string) string {
	for line := range bytes.Lines(text) {
		if value, found := bytes.CutPrefix(line, []byte(prefix)); found {
			return string(bytes.TrimSpace(value))
		}
	}
	panic(fmt.Sprintf("a CRD has no line %q", prefix))
}

// serves lists the versions that the kind is served in.
func (d *definition) serves() ([]string, error) {
	crd, err := d.read()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range crd.Spec.Versions {
		names = append(names, v.Name)
	}
	return names, nil
}

// version is the schema of a served version, or nil when there is none of that
// name.
func (d *definition) version(name string) (*versionSchema, error) {
	crd, err := d.read()
	if err != nil {
		return nil, fmt.Errorf("read the CRD: %w", err)
	}
	at := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == name && v.Served })
	if at < 0 {
		return nil, nil
	}
	made, _ := d.versions.LoadOrStore(name, sync.OnceValues(func() (*versionSchema, error) { return compile(crd.Spec.Versions[at]) }))
	return made.(func() (*versionSchema, error))()
}

func compile(v apiextensionsv1.CustomResourceDefinitionVersion) (*versionSchema, error) {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return nil, fmt.Errorf("convert the schema of %s: %w", v.Name, err)
	}
	structural, err := structuralschema.NewStructural(&props)
	if err != nil {
		return nil, fmt.Errorf("structure the schema of %s: %w", v.Name, err)
	}
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, fmt.Errorf("compile the schema of %s: %w", v.Name, err)
	}
	return &versionSchema{structural, validator, newPlain(&props)}, nil
}

// finding is what a check says about a field.
type finding struct{ path, text string }

// complete drops the fields that the schema does not know, fills in the defaults,
// and tells of both the unknown fields and what else is wrong.
func (s *versionSchema) complete(object map[string]any) (unknown, wrong []finding) {
	paths := pruning.PruneWithOptions(object, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range paths {
		unknown = append(unknown, finding{path, fmt.Sprintf("there is no field %s", path)})
	}
	defaulting.Default(object, s.structural)
	if s.plain.accepts(object) {
		return unknown, nil
	}
	for _, err := range validation.ValidateCustomResource(nil, object, s.validator) {
		wrong = append(wrong, finding{err.Field, strings.TrimPrefix(err.Error(), "<nil>: ")})
	}
	return unknown, wrong
}
