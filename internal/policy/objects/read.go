package objects

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Set is what was read.
type Set struct {
	// World holds the policies and namespaces, with the settings of an
	// installation without options.
	World oracle.World
	// Workloads are the things that have pods, in the order of reading.
	Workloads []Workload
	// Accounts are the ServiceAccounts that were seen: as objects, of workloads,
	// or named by policies. Sorted, each once.
	Accounts []types.NamespacedName
	// Others are the objects that do not concern inbound policy.
	Others []Other
	// Policies counts the policy objects and routes.
	Policies int
}

// Workload is a kind of pod: a Pod, or a template of one.
type Workload struct {
	// Kind in the short form of commands: deploy, sts, ds, rs, rc, job, cronjob, pod.
	Kind string
	// Pod is the pod or one made from the template, named after the workload.
	Pod   *corev1.Pod
	Place Place
}

// String is namespace/kind/name, or namespace/name for a Pod.
func (w Workload) String() string {
	if w.Kind == "pod" {
		return w.Pod.Namespace + "/" + w.Pod.Name
	}
	return w.Pod.Namespace + "/" + w.Kind + "/" + w.Pod.Name
}

// Other is an object that was not considered.
type Other struct {
	APIVersion, Kind, Namespace, Name string
	Place                             Place
	// Why it was not, in words.
	Why string
}

// Source is something to read: a file, a folder, or a stream.
type Source struct {
	// Name is the path, or what to call the stream.
	Name string
	// Stream is read instead of the path when it is given.
	Stream io.Reader
}

// maxBytes bounds a manifest.
const maxBytes = 64 << 20

// Options are how to read.
type Options struct {
	// Namespace of objects that name none; default when empty.
	Namespace string
	// WebhookAway takes in what the schema lets through and the admission webhook
	// would refuse, as a cluster does whose webhook is away.
	WebhookAway bool
}

// Read reads all sources into one set. The error is Problems when a manifest is
// wrong, and another one when it cannot be read.
func Read(sources []Source, options Options) (*Set, error) {
	options.Namespace = cmp.Or(options.Namespace, "default")
	r := &reader{set: &Set{World: oracle.World{Settings: oracle.DefaultSettings()}}, options: options, seen: map[string]Place{}}
	for _, source := range sources {
		if err := r.source(source); err != nil {
			return nil, err
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	r.collectAccounts()
	return r.set, nil
}

type reader struct {
	set      *Set
	options  Options
	problems Problems
	// seen are the objects by what they are called.
	seen map[string]Place
}

func (r *reader) source(source Source) error {
	if source.Stream != nil {
		return r.stream(source.Name, source.Stream)
	}
	info, err := os.Stat(source.Name)
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		return r.file(source.Name)
	}
	entries, err := os.ReadDir(source.Name)
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	found := false
	for _, entry := range entries {
		if isManifest(entry) {
			found = true
			if err := r.file(filepath.Join(source.Name, entry.Name())); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("read manifests: folder %s holds no .yaml, .yml or .json file (folders below it are not searched)", source.Name)
	}
	return nil
}

func isManifest(entry fs.DirEntry) bool {
	return !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name()))
}

func (r *reader) file(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	defer file.Close() // read only: nothing can be lost
	return r.stream(name, file)
}

// lineOf finds the line that the YAML reader names in its errors.
var lineOf = regexp.MustCompile(`line (\d+): `)

func (r *reader) stream(name string, stream io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(stream, maxBytes+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxBytes {
		return fmt.Errorf("read %s: it is larger than %d bytes", name, maxBytes)
	}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			message, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
			if found := lineOf.FindStringSubmatch(message); found != nil {
				line, _ = strconv.Atoi(found[1]) // digits, as the expression says
				message = strings.Replace(message, found[0], "", 1)
			}
			r.problem(Place{name, line}, "%s", message)
			return nil
		}
		root := document.Content[0]
		if root.Tag == "!!null" {
			continue
		}
		r.object(name, root)
	}
}

// meta is what every object has.
type meta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
}

// object takes in one document, or one item of a list.
func (r *reader) object(file string, node *yaml.Node) {
	at := Place{file, node.Line}
	if node.Kind != yaml.MappingNode {
		r.problem(at, "expected an object of Kubernetes")
		return
	}
	_, apiVersion := field(node, "apiVersion")
	_, kind := field(node, "kind")
	if apiVersion == nil || kind == nil || apiVersion.Value == "" || kind.Value == "" {
		r.problem(at, "an object needs apiVersion and kind")
		return
	}
	if key, items := field(node, "items"); items != nil && strings.HasSuffix(kind.Value, "List") {
		if items.Kind != yaml.SequenceNode {
			r.problem(Place{file, key.Line}, "items is no list")
			return
		}
		for _, item := range items.Content {
			r.object(file, item)
		}
		return
	}
	generic, err := value(node)
	if err != nil {
		var wrong *nodeError
		if errors.As(err, &wrong) {
			at.Line = wrong.node.Line
		}
		r.problem(at, "%v", err)
		return
	}
	o := &object{file: file, node: node, place: at, fields: generic.(map[string]any)}
	text, err := json.Marshal(o.fields)
	if err == nil {
		err = json.Unmarshal(text, &o.meta)
	}
	if err != nil {
		r.problem(at, "%s: %v", kind.Value, err)
		return
	}
	o.text = text
	r.take(o)
}

// object is one object on its way in.
type object struct {
	meta
	file   string
	place  Place
	node   *yaml.Node
	fields map[string]any
	text   []byte
}

// line is the place of a field.
func (o *object) line(path string) Place { return Place{o.file, find(o.node, path).Line} }

func (o *object) String() string {
	return strings.TrimPrefix(o.Kind+" "+o.Metadata.Namespace+"/"+cmp.Or(o.Metadata.Name, o.Metadata.GenerateName), " ")
}

// take sorts an object in.
func (r *reader) take(o *object) {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		r.problem(o.line("apiVersion"), "apiVersion %q is none", o.APIVersion)
		return
	}
	if o.Metadata.Name == "" && o.Metadata.GenerateName == "" {
		r.problem(o.line("metadata"), "%s has no metadata.name", o.Kind)
		return
	}
	clusterWide := gv.Group == "" && o.Kind == "Namespace"
	if o.Metadata.Namespace == "" && !clusterWide {
		o.Metadata.Namespace = r.options.Namespace
	}
	id := gv.Group + " " + o.String()
	if first, twice := r.seen[id]; twice && o.Metadata.Name != "" {
		r.problem(o.place, "%s stands at %s too", o, first)
		return
	}
	r.seen[id] = o.place
	switch definition, isPolicy := definitions()[schema.GroupKind{Group: gv.Group, Kind: o.Kind}]; {
	case isPolicy:
		r.policy(o, gv, definition)
	case r.workload(o, gv):
	default:
		why := "does not concern inbound policy"
		if reason, known := outOfScope[o.Kind]; known {
			why = reason
		}
		r.set.Others = append(r.set.Others, Other{o.APIVersion, o.Kind, o.Metadata.Namespace, o.Metadata.Name, o.place, why})
	}
}

// outOfScope are kinds of policy that this does not know.
var outOfScope = map[string]string{
	"EgressNetwork": "concerns outbound traffic only", "TLSRoute": "concerns outbound traffic only", "TCPRoute": "concerns outbound traffic only",
	"ExternalWorkload": "workloads outside the cluster are not known here",
	"Service":          "policy is about pods; annotations of Services are not known here",
}

// strict decodes into a type of Kubernetes' own and tells unknown fields.
func (r *reader) strict(o *object, into any) bool {
	wrong, err := kjson.UnmarshalStrict(o.text, into)
	if err != nil {
		r.problem(o.place, "%s: %s", o, strings.TrimPrefix(err.Error(), "json: "))
		return false
	}
	for _, one := range wrong {
		var at kjson.FieldError
		path := ""
		if errors.As(one, &at) {
			path = at.FieldPath()
		}
		r.problem(o.line(path), "%s: there is no field %s", o, path)
	}
	return len(wrong) == 0
}
