package objects

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// object is one object on its way in: first where it stands, then what it says.
type object struct {
	file  string
	place Place
	node  *yaml.Node

	fields                 map[string]any
	apiVersion, kind       string
	group, namespace, name string
	// problems are what is wrong with it; without any it is kept with keep.
	problems Problems
	keep     func(*reader)
}

// String is the kind with namespace and name.
func (o *object) String() string {
	return o.kind + " " + strings.TrimPrefix(o.namespace+"/"+o.name, "/")
}

func (o *object) problem(at Place, format string, args ...any) {
	o.problems = append(o.problems, &Problem{at, fmt.Sprintf(format, args...)})
}

// line is the place of a field.
func (o *object) line(path string) Place { return Place{o.file, find(o.node, path).Line} }

// outOfScope are kinds that have to do with policy and that this does not know.
var outOfScope = map[string]string{
	"EgressNetwork": "concerns outbound traffic only", "TLSRoute": "concerns outbound traffic only", "TCPRoute": "concerns outbound traffic only",
	"ExternalWorkload": "workloads outside the cluster are not known here",
	"Service":          "policy is about pods; annotations of Services are not known here",
}

// understand reads the object and says how it is kept. It touches nothing but the
// object.
func (o *object) understand(options Options) {
	if len(o.problems) > 0 {
		return // the document could not be read at all
	}
	generic, err := value(o.node)
	var wrong *nodeError
	if errors.As(err, &wrong) {
		o.problem(Place{o.file, wrong.node.Line}, "%s", wrong.text)
		return
	}
	o.fields, _ = generic.(map[string]any)
	o.apiVersion, _ = o.fields["apiVersion"].(string)
	o.kind, _ = o.fields["kind"].(string)
	gv, err := schema.ParseGroupVersion(o.apiVersion)
	switch {
	case o.fields == nil:
		o.problem(o.place, "expected an object of Kubernetes")
		return
	case o.apiVersion == "" || o.kind == "":
		o.problem(o.place, "an object needs apiVersion and kind")
		return
	case err != nil:
		o.problem(o.line("apiVersion"), "apiVersion %q is none", o.apiVersion)
		return
	}
	o.group = gv.Group
	meta, _ := o.fields["metadata"].(map[string]any)
	o.name, _ = meta["name"].(string)
	o.namespace, _ = meta["namespace"].(string)
	if generated, _ := meta["generateName"].(string); o.name == "" && generated == "" {
		o.problem(o.line("metadata"), "%s has no metadata.name", o.kind)
		return
	}
	if o.namespace == "" && !(gv.Group == "" && o.kind == "Namespace") {
		o.namespace = options.Namespace
	}
	switch definition, isPolicy := definitions()[schema.GroupKind{Group: gv.Group, Kind: o.kind}]; {
	case isPolicy:
		o.policy(gv, definition, options)
	case o.workload():
	default:
		other := Other{o.apiVersion, o.kind, o.namespace, o.name, o.place, cmp.Or(outOfScope[o.kind], "does not concern inbound policy")}
		o.keep = func(r *reader) { r.set.Others = append(r.set.Others, other) }
	}
}

// strict decodes into a type of Kubernetes' own and tells unknown fields.
func (o *object) strict(into any) bool {
	text, err := json.Marshal(o.fields)
	if err != nil {
		o.problem(o.place, "%s: %v", o, err)
		return false
	}
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err != nil {
		o.problem(o.place, "%s: %s", o, strings.TrimPrefix(err.Error(), "json: "))
		return false
	}
	for _, one := range unknown {
		var at kjson.FieldError
		path := ""
		if errors.As(one, &at) {
			path = at.FieldPath()
		}
		// What a cluster has printed may be newer than the types here, and says
		// nothing about policy.
		if path == "status" || strings.HasPrefix(path, "status.") {
			continue
		}
		o.problem(o.line(path), "%s: there is no field %s", o, path)
	}
	return len(o.problems) == 0
}
