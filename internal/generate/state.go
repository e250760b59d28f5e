package generate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// entry is an object as a cluster would have it.
type entry struct {
	kind    kind
	name    string
	content object
	// born is when it was created, in steps.
	born int
	// world holds the object alone, as the API server would store it.
	world oracle.World
}

// state is what the edits so far have come to. A state is a value: do returns
// another one.
type state struct {
	// step counts, for the creation times of what it creates.
	step    int
	entries []*entry
	// labels and annotations of the pods of each workload that were edited; nil
	// removes one.
	labels, annotations map[string]map[string]*string
	// namespace holds edited annotations of the namespace, which new pods get.
	namespace map[string]*string
}

func (s *state) clone() *state {
	out := *s
	out.entries = slices.Clone(s.entries)
	out.labels, out.annotations = cloned(s.labels), cloned(s.annotations)
	out.namespace = maps.Clone(s.namespace)
	return &out
}

func cloned(m map[string]map[string]*string) map[string]map[string]*string {
	out := map[string]map[string]*string{}
	for key, value := range m {
		out[key] = maps.Clone(value)
	}
	return out
}

// names are those of the objects of a kind, in the order of their creation.
func (s *state) names(ref string) []string {
	var out []string
	for _, e := range s.of(ref) {
		out = append(out, e.name)
	}
	return out
}

func (s *state) of(ref string) []*entry {
	var out []*entry
	for _, e := range s.entries {
		if e.kind.ref == ref {
			out = append(out, e)
		}
	}
	return out
}

func (s *state) find(ref, name string) int {
	k, known := kindNamed(ref)
	if !known {
		return -1
	}
	return slices.IndexFunc(s.entries, func(e *entry) bool { return e.kind.ref == k.ref && e.name == name })
}

// unfitError is an action that the state does not take: it is about what is not
// there, or a cluster would refuse it.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

func unfit(format string, args ...any) error { return &unfitError{fmt.Sprintf(format, args...)} }

// do is the state after an action. The error is an *unfitError.
func (s *state) do(a *scenarios.Action) (*state, error) {
	out := s.clone()
	switch {
	case a.Apply != nil:
		for _, o := range a.Apply {
			if err := out.apply(o.Content); err != nil {
				return nil, err
			}
		}
	case a.Delete != nil:
		for _, ref := range a.Delete {
			at := out.find(ref.Kind, ref.Name)
			if at < 0 {
				return nil, unfit("there is no %s %s to delete", ref.Kind, ref.Name)
			}
			out.entries = slices.Delete(out.entries, at, at+1)
		}
	case a.Patch != nil:
		return out, out.patch(a.Patch.Kind, a.Patch.Name, a.Patch.Merge.Content)
	case a.Annotate != nil:
		return out, out.annotate(a.Annotate, "annotations", out.annotations)
	case a.Label != nil:
		return out, out.annotate(a.Label, "labels", out.labels)
	}
	return out, nil
}

func (s *state) apply(content object) error {
	k, known := kindOf(content)
	if !known {
		return nil // it does not concern policy
	}
	name := text(content, "metadata", "name")
	if at := s.find(k.ref, name); at >= 0 {
		return s.patch(k.ref, name, content)
	}
	e := &entry{kind: k, name: name, content: content, born: s.step}
	if err := e.understand(text(content, "apiVersion")); err != nil {
		return err
	}
	s.entries = append(s.entries, e)
	return nil
}

// patch merges a patch into an object.
func (s *state) patch(ref, name string, merge object) error {
	if k, known := kindNamed(ref); !known || ref == "Namespace" {
		_ = k
		return nil
	}
	at := s.find(ref, name)
	if at < 0 {
		return unfit("there is no %s %s to patch", ref, name)
	}
	changed := *s.entries[at]
	var err error
	if changed.content, err = merged(changed.content, merge); err != nil {
		return unfit("%s %s: %v", ref, name, err)
	}
	if err := changed.understand(changed.kind.group + "/" + changed.kind.storage()); err != nil {
		return err
	}
	s.entries[at] = &changed
	return nil
}

// merged is a JSON merge patch.
func merged(into, patch object) (object, error) {
	before, err := json.Marshal(into)
	if err != nil {
		return nil, fmt.Errorf("encode the object: %w", err)
	}
	change, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode the patch: %w", err)
	}
	after, err := jsonpatch.MergePatch(before, change)
	if err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	var out object
	return out, json.Unmarshal(after, &out)
}

func (s *state) annotate(a *scenarios.Annotate, field string, of map[string]map[string]*string) error {
	change := map[string]*string{}
	for key, value := range a.Set {
		change[key] = &value
	}
	for _, key := range a.Remove {
		change[key] = nil
	}
	switch {
	case a.Workload != "":
		if of[a.Workload] == nil {
			of[a.Workload] = map[string]*string{}
		}
		maps.Copy(of[a.Workload], change)
	case a.Kind == "Namespace":
		if s.namespace == nil {
			s.namespace = map[string]*string{}
		}
		maps.Copy(s.namespace, change)
	default:
		set := object{}
		for key, value := range change {
			set[key] = nil
			if value != nil {
				set[key] = *value
			}
		}
		return s.patch(a.Kind, a.Name, object{"metadata": object{field: set}})
	}
	return nil
}

// epoch is when the first step is taken, on paper.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// understand reads the object as the API server would, which says too whether it
// would take it. The error is an *unfitError.
func (e *entry) understand(apiVersion string) error {
	content := onPaper(e.content).(object)
	content["apiVersion"] = apiVersion
	metadata, _ := content["metadata"].(object)
	metadata["namespace"] = paperNamespace
	metadata["creationTimestamp"] = epoch.Add(time.Duration(e.born) * time.Second).Format(time.RFC3339)
	manifest, err := json.Marshal(content)
	if err != nil {
		return unfit("encode %s %s: %v", e.kind.ref, e.name, err)
	}
	set, err := objects.Read([]objects.Source{{Name: e.name, Stream: bytes.NewReader(manifest)}}, objects.Options{Namespace: paperNamespace})
	if err != nil {
		return unfit("%s %s would be refused: %v", e.kind.ref, e.name, err)
	}
	e.world = set.World
	return nil
}
