package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-tools/pkg/crd"
	crdmarkers "sigs.k8s.io/controller-tools/pkg/crd/markers"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
	"sigs.k8s.io/yaml"
)

// crdFolder is where the CRDs are, below the package's folder.
const crdFolder = "crds"

// fileName is where a kind's CRD is written, below the package's folder.
func (k kind) fileName() string {
	return fmt.Sprintf("%s/%s.%s.yaml", crdFolder, k.Plural, k.Group)
}

// generate returns the CRDs of the package in folder, by file name.
func generate(folder string) (map[string][]byte, error) {
	loaded, err := loader.LoadRoots(folder)
	if err != nil {
		return nil, fmt.Errorf("load package %s: %w", folder, err)
	}
	if len(loaded) != 1 {
		return nil, fmt.Errorf("load package %s: %d packages", folder, len(loaded))
	}
	registry := &markers.Registry{}
	if err := crdmarkers.Register(registry); err != nil {
		return nil, fmt.Errorf("register markers: %w", err)
	}
	parser := &crd.Parser{Collector: &markers.Collector{Registry: registry}, Checker: &loader.TypeChecker{}}
	crd.AddKnownTypes(parser)
	parser.NeedPackage(loaded[0])
	files := map[string][]byte{}
	for _, k := range kinds {
		id := crd.TypeIdent{Package: loaded[0], Name: k.Kind}
		parser.NeedFlattenedSchemaFor(id)
		// The loader leaves bodies out, so what it finds wrong with types is nothing.
		if loader.PrintErrors(loaded, packages.TypeError) {
			return nil, fmt.Errorf("%s: package %s has errors", k.Kind, folder)
		}
		if files[k.fileName()], err = k.definition(parser.FlattenedSchemata[id]); err != nil {
			return nil, fmt.Errorf("%s of group %s: %w", k.Kind, k.Group, err)
		}
	}
	return files, nil
}

// definition is the kind's CRD as YAML, given the schema of its Go type.
func (k kind) definition(whole apiextensionsv1.JSONSchemaProps) ([]byte, error) {
	definition := apiextensionsv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: k.Plural + "." + k.Group, Labels: map[string]string{"app.kubernetes.io/part-of": "meshproof", "linkerd.io/control-plane-ns": "linkerd"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: k.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: k.Kind, Plural: k.Plural, Singular: k.Singular, ShortNames: k.ShortNames, ListKind: k.Kind + "List"},
		},
	}
	if strings.HasSuffix(k.Group, ".k8s.io") {
		// The API server asks for it in groups that are Kubernetes' own.
		definition.Annotations = map[string]string{apiextensionsv1.KubeAPIApprovedAnnotation: "unapproved, only the fields that inbound policy knows"}
	}
	for _, v := range k.Versions {
		own := schema{whole.DeepCopy()}
		for _, path := range v.Lacks {
			if err := own.remove(path); err != nil {
				return nil, fmt.Errorf("version %s: %w", v.Name, err)
			}
		}
		if k.Adjust != nil {
			if err := k.Adjust(own, v.Name); err != nil {
				return nil, fmt.Errorf("version %s: %w", v.Name, err)
			}
		}
		own.trim(v.Storage)
		served := apiextensionsv1.CustomResourceDefinitionVersion{Name: v.Name, Served: true, Storage: v.Storage, Deprecated: v.Deprecated,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: own.JSONSchemaProps}}
		if v.Deprecated {
			warning := fmt.Sprintf("%[1]s/%[2]s %[3]s is deprecated; use %[1]s/%[4]s %[3]s", k.Group, v.Name, k.Kind, k.stored())
			served.DeprecationWarning = &warning
		}
		for _, c := range k.Columns {
			if strings.HasPrefix(c.Path, ".spec") && !own.has(strings.TrimPrefix(c.Path, ".")) {
				continue // the version has no such field
			}
			served.AdditionalPrinterColumns = append(served.AdditionalPrinterColumns, apiextensionsv1.CustomResourceColumnDefinition{Name: c.Name, Type: c.Type, JSONPath: c.Path})
		}
		if k.Status {
			served.Subresources = &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}
		}
		definition.Spec.Versions = append(definition.Spec.Versions, served)
	}
	text, err := json.Marshal(definition)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	// What the API server alone fills in.
	delete(fields, "status")
	delete(fields["metadata"].(map[string]any), "creationTimestamp")
	text, err = yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	return append([]byte("# "+k.Summary+"\n# Generated from the Go types; go generate ./internal/policy/api\n"), text...), nil
}

// change applies f to the schema at path. Maps hold schemas by value, so each is
// put back on the way.
func change(s *apiextensionsv1.JSONSchemaProps, path string, f func(*apiextensionsv1.JSONSchemaProps)) error {
	if path == "" {
		f(s)
		return nil
	}
	name, rest, _ := strings.Cut(path, ".")
	name, list := strings.CutSuffix(name, "[]")
	next, ok := s.Properties[name]
	if !ok {
		return fmt.Errorf("there is no field %s", name)
	}
	within := &next
	if list {
		if next.Items == nil || next.Items.Schema == nil {
			return fmt.Errorf("%s is no list", name)
		}
		within = next.Items.Schema
	}
	if err := change(within, rest, f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.Properties[name] = next
	return nil
}

func (s schema) remove(path string) error {
	dot := strings.LastIndex(path, ".")
	parent, name := path[:dot], path[dot+1:]
	missing := false
	err := change(s.JSONSchemaProps, parent, func(at *apiextensionsv1.JSONSchemaProps) {
		_, ok := at.Properties[name]
		missing = !ok
		delete(at.Properties, name)
	})
	if missing {
		return fmt.Errorf("there is no field %s", path)
	}
	return err
}

// has reports whether there is a field at path.
func (s schema) has(path string) bool {
	return change(s.JSONSchemaProps, path, func(*apiextensionsv1.JSONSchemaProps) {}) == nil
}

// require demands fields below path.
func (s schema) require(path string, fields ...string) error {
	return change(s.JSONSchemaProps, path, func(at *apiextensionsv1.JSONSchemaProps) {
		at.Required = append(at.Required, fields...)
		slices.Sort(at.Required)
	})
}

// stored is the version that is stored.
func (k kind) stored() string {
	for _, v := range k.Versions {
		if v.Storage {
			return v.Name
		}
	}
	panic(k.Kind + " has no version that is stored")
}

// exactlyOne demands one of the fields below path.
func (s schema) exactlyOne(path string, fields ...string) error {
	return change(s.JSONSchemaProps, path, func(at *apiextensionsv1.JSONSchemaProps) {
		for _, field := range fields {
			at.OneOf = append(at.OneOf, apiextensionsv1.JSONSchemaProps{Required: []string{field}})
		}
	})
}

// parents sets the default of a parent's group, which is the route's own (C-27).
func (s schema) parents(group string) error {
	value, err := json.Marshal(group)
	if err != nil {
		return err
	}
	for _, path := range []string{"spec.parentRefs[].group", "status.parents[].parentRef.group"} {
		if err := change(s.JSONSchemaProps, path, func(at *apiextensionsv1.JSONSchemaProps) {
			at.Default = &apiextensionsv1.JSON{Raw: value}
		}); err != nil {
			return fmt.Errorf("default of %s: %w", path, err)
		}
	}
	return nil
}

// trim drops what every object has anyway, and the descriptions of versions
// other than the stored one.
func (s schema) trim(described bool) {
	delete(s.Properties, "apiVersion")
	delete(s.Properties, "kind")
	if !described {
		undescribe(s.JSONSchemaProps)
	}
}

func undescribe(s *apiextensionsv1.JSONSchemaProps) {
	s.Description = ""
	for name, property := range s.Properties {
		undescribe(&property)
		s.Properties[name] = property
	}
	if s.Items != nil && s.Items.Schema != nil {
		undescribe(s.Items.Schema)
	}
}
