package watch

import (
	"fmt"
	"log/slog"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

// adapter ties a watched kind to the index; S is what the index keeps of it.
type adapter[S any] struct {
	kind Kind
	// read reduces an object of the kind.
	read   func(object any) (S, error)
	set    func(tx *index.Tx, namespace, name string, spec S)
	remove func(tx *index.Tx, namespace, name string)
	// complete, when not nil, ends the transaction of a list.
	complete func(tx *index.Tx)
}

// store is what the reflector writes to instead of a cache.
type store[S any] struct {
	adapter[S]
	intake *intake
	// marks is nil for kinds that have none.
	marks *Marks
	// known are the objects that the intake has, to find those that a list lacks. Only
	// the reflector's goroutine uses it.
	known map[types.NamespacedName]bool
	// replaced is called after each list has been taken.
	replaced func()
	// removedByList counts objects that vanished without an event of their own.
	removedByList func(n int)
}

// reduced is an object without all that policy does not depend on. It is what
// the reflector may hold while a list streams in.
type reduced[S any] struct {
	metav1.ObjectMeta
	spec S
}

func (s *store[S]) reduce(object any) (*reduced[S], error) {
	if r, done := object.(*reduced[S]); done {
		return r, nil
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, fmt.Errorf("watched %s: %w", s.kind, err)
	}
	spec, err := s.read(object)
	if err != nil {
		return nil, fmt.Errorf("watched %s %s/%s: %w", s.kind, m.GetNamespace(), m.GetName(), err)
	}
	return &reduced[S]{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.GetNamespace(), Name: m.GetName(), ResourceVersion: m.GetResourceVersion()},
		spec:       spec,
	}, nil
}

// Transformer implements cache.TransformingStore.
func (s *store[S]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return s.reduce(object) }
}

// Add implements cache.ReflectorStore.
func (s *store[S]) Add(object any) error { return s.Update(object) }

// Update implements cache.ReflectorStore.
func (s *store[S]) Update(object any) error {
	r, err := s.reduce(object)
	if err != nil {
		return err
	}
	s.known[types.NamespacedName{Namespace: r.Namespace, Name: r.Name}] = true
	s.intake.put(entry{seen: s.sight(r.ResourceVersion, seenEvent), change: func(tx *index.Tx) { s.set(tx, r.Namespace, r.Name, r.spec) }})
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store[S]) Delete(object any) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("watched %s: %w", s.kind, err)
	}
	namespace, name := m.GetNamespace(), m.GetName()
	delete(s.known, types.NamespacedName{Namespace: namespace, Name: name})
	// The object comes with the version of its deletion.
	s.intake.put(entry{seen: s.sight(m.GetResourceVersion(), seenEvent), change: func(tx *index.Tx) { s.remove(tx, namespace, name) }})
	return nil
}

// Replace implements cache.ReflectorStore: the list becomes all there is, in one
// transaction, and is in force when Replace returns.
func (s *store[S]) Replace(objects []any, resourceVersion string) error {
	all := make([]*reduced[S], 0, len(objects))
	for _, object := range objects {
		r, err := s.reduce(object)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	gone := s.known
	s.known = make(map[types.NamespacedName]bool, len(all))
	for _, r := range all {
		key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
		s.known[key] = true
		delete(gone, key)
	}
	if len(gone) > 0 {
		s.removedByList(len(gone))
		if len(all) == 0 {
			// Truth is what the API server says, but this is how a faulty one looks.
			slog.Warn("a list is empty where objects were known", "kind", s.kind, "known", len(gone))
		}
	}
	taken := make(chan struct{})
	s.intake.put(entry{seen: s.sight(resourceVersion, seenList), taken: func() { s.relisted(resourceVersion); close(taken) }, change: func(tx *index.Tx) {
		for key := range gone {
			s.remove(tx, key.Namespace, key.Name)
		}
		for _, r := range all {
			s.set(tx, r.Namespace, r.Name, r.spec)
		}
		if s.complete != nil {
			s.complete(tx)
		}
	}})
	<-taken
	s.replaced()
	return nil
}

// Resync implements cache.ReflectorStore; nothing is ever resynchronised.
func (s *store[S]) Resync() error { return nil }

// UpdateResourceVersion implements cache.ResourceVersionUpdater: the reflector
// calls it after each event has been handed over, bookmarks included. The mark rises
// when the index has taken that event, and all before it.
func (s *store[S]) UpdateResourceVersion(resourceVersion string) {
	if s.marks != nil {
		s.intake.put(entry{seen: s.sight(resourceVersion, seenComplete), taken: func() { s.observe(resourceVersion) }})
	}
}

// sight is what is said of the kind's completeness; nothing of kinds that policy
// does not depend on. A version that is no number is told by observe.
func (s *store[S]) sight(resourceVersion string, how seen) sight {
	version, err := ParseVersion(resourceVersion)
	if s.marks == nil || err != nil {
		return sight{}
	}
	return sight{s.kind, version, how}
}

// relisted sets the mark.
func (s *store[S]) relisted(resourceVersion string) {
	if s.marks == nil {
		return
	}
	if back, err := s.marks.relisted(s.kind, resourceVersion); err != nil {
		slog.Error("cannot tell what has been observed", "kind", s.kind, "error", err)
	} else if back {
		slog.Warn("a list is of an older version than was known: the cluster's store was set back", "kind", s.kind, "version", resourceVersion)
	}
}

// observe raises the mark.
func (s *store[S]) observe(resourceVersion string) {
	if s.marks == nil {
		return
	}
	if err := s.marks.Observe(s.kind, resourceVersion); err != nil {
		slog.Error("cannot tell what has been observed", "kind", s.kind, "error", err)
	}
}
