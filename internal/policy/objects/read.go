package objects

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

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
	// Written are the policy objects and routes in the order of reading.
	Written []Named
}

// Named is a policy object by what it is called.
type Named struct {
	Group, Kind, Namespace, Name string
	Place                        Place
}

// String is the kind with namespace and name.
func (n Named) String() string { return n.Kind + " " + n.Namespace + "/" + n.Name }

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
	if err := r.find(sources); err != nil {
		return nil, err
	}
	for _, o := range r.objects {
		r.take(o)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	r.collectAccounts()
	return r.set, nil
}

// reader finds objects, has each understood for itself, and takes them in, in
// the order in which they stand.
type reader struct {
	set      *Set
	options  Options
	objects  []*object
	found    chan *object
	problems Problems
	// seen are the objects by what they are called.
	seen map[string]Place
}

// find reads the sources, while the objects that it has found are shared among
// the processors: each is understood for itself, and that is most of the work.
func (r *reader) find(sources []Source) error {
	r.found = make(chan *object, 64)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(r.found)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for o := range r.found {
				o.understand(r.options)
			}
		})
	}
	for _, source := range sources {
		if err := r.source(source); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) add(o *object) {
	r.objects = append(r.objects, o)
	r.found <- o
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
			r.add(&object{problems: Problems{{Place{name, line}, message}}})
			return nil
		}
		if root := document.Content[0]; root.Tag != "!!null" {
			r.document(name, root)
		}
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

// document adds the object of one document, or those of a list.
func (r *reader) document(file string, node *yaml.Node) {
	_, kind := field(node, "kind")
	_, items := field(node, "items")
	if kind == nil || items == nil || items.Kind != yaml.SequenceNode || !strings.HasSuffix(kind.Value, "List") {
		r.add(&object{file: file, node: node, place: Place{file, node.Line}})
		return
	}
	for _, item := range items.Content {
		r.document(file, item)
	}
}

// take keeps an object, unless one of its name was there before.
func (r *reader) take(o *object) {
	if id := o.group + " " + o.String(); o.keep != nil && o.name != "" {
		if first, twice := r.seen[id]; twice {
			o.problem(o.place, "%s stands at %s too", o, first)
		}
		r.seen[id] = o.place
	}
	for _, p := range o.problems {
		if len(r.problems) < maxProblems {
			r.problems = append(r.problems, p)
		}
	}
	if len(o.problems) == 0 {
		o.keep(r)
	}
}
