package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/scenarios"
)

// takenError is a namespace whose name a scenario needs and that belongs to
// somebody else. It stays as it is.
type takenError struct{ name, owner string }

func (e *takenError) Error() string {
	if e.owner != "" {
		return fmt.Sprintf("it needs the namespace %s, which run %s has not given back within %s", e.name, e.owner, othersBudget)
	}
	return fmt.Sprintf("it needs a namespace called %s, and there is one that meshproof did not make", e.name)
}

// makeNamespace makes a namespace. One that is on its way out, or another run's,
// is awaited. Error: *takenError.
func (e *run) makeNamespace(ctx context.Context, name string, labels, annotations map[string]string) error {
	all := e.labels()
	all[podSecurity] = privileged // a proxy comes with an init container that needs NET_ADMIN
	maps.Copy(all, labels)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all, Annotations: annotations}}
	began, owner := time.Now(), ""
	for {
		_, err := e.kube.typed.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{FieldManager: fieldManager})
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make namespace %s: %w", name, refusal(err))
		}
		there, getErr := e.kube.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		budget := settleBudget
		if getErr == nil && there.DeletionTimestamp == nil {
			switch {
			case there.Labels[partOf] != tool || there.Labels[runLabel] == "":
				return &takenError{name: name}
			case there.Labels[runLabel] == e.ID:
				return nil // an earlier scenario of this run left it standing
			case owner == "":
				owner = there.Labels[runLabel]
				e.tell(Event{Kind: Waiting, Text: fmt.Sprintf("waiting for run %s to give back the namespace %s", owner, name)})
			}
		}
		if owner != "" {
			budget = othersBudget
		}
		switch {
		case time.Since(began) > budget && owner != "":
			return &takenError{name, owner}
		case time.Since(began) > budget:
			return fmt.Errorf("make namespace %s: the old one is still there after %s", name, budget)
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// Namespaces are the names of those that a run of that id makes for a plan,
// sorted.
func Namespaces(plan *scenarios.Plan, id string) []string {
	e := &run{Options: Options{ID: id}, plan: plan}
	names := map[string]bool{e.clientsNamespace(): true, e.bystandersNamespace(): true}
	for _, planned := range plan.Scenarios {
		s := newScenarioRun(e, planned)
		for _, name := range append(s.furtherNamespaces(), s.namespace) {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// leaving are the namespaces that a run has deleted and not yet seen gone.
type leaving struct {
	mu    sync.Mutex
	names map[string]types.UID
	// failed says why some could not be deleted.
	failed map[string]error
}

func (l *leaving) add(name string, uid types.UID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names, l.failed = map[string]types.UID{}, map[string]error{}
	}
	l.names[name] = uid
	if err != nil {
		l.failed[name] = err
	}
}

// deleteNamespace deletes a namespace that this run has made, and no other; it
// does not wait. It says whether there is one.
func (e *run) deleteNamespace(ctx context.Context, name string) bool {
	namespace := e.made(ctx, name)
	if namespace == nil {
		return false
	}
	err := e.kube.typed.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &namespace.UID}})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	e.leaving.add(name, namespace.UID, err)
	return true
}

// awaitGone waits until all namespaces that the run has deleted are gone, and
// tells which are not.
func (e *run) awaitGone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneBudget)
	defer cancel()
	e.leaving.mu.Lock()
	defer e.leaving.mu.Unlock()
	if len(e.leaving.names) > 0 {
		e.tell(Event{Kind: Waiting, Text: fmt.Sprintf("waiting for %d namespaces of this run to be gone", len(e.leaving.names))})
	}
	left := map[string]string{}
	_ = eventually(ctx, goneBudget, func() error {
		for name, uid := range e.leaving.names {
			there, err := e.kube.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err), err == nil && there.UID != uid:
				delete(e.leaving.names, name)
				delete(left, name)
			case err == nil:
				left[name] = whyStill(there, e.leaving.failed[name])
			case ctx.Err() == nil:
				left[name] = err.Error()
			}
		}
		if len(e.leaving.names) > 0 {
			return errors.New("some are still there")
		}
		return nil
	})
	if len(left) == 0 {
		return
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(left)) {
		parts = append(parts, name+" ("+left[name]+")")
	}
	e.tell(Event{Kind: Waiting, Text: fmt.Sprintf("left behind after %s: namespaces %s: meshproof cleanup removes them", goneBudget, strings.Join(parts, ", "))})
}

// whyStill says what keeps a namespace that was deleted.
func whyStill(namespace *corev1.Namespace, failed error) string {
	if namespace.DeletionTimestamp == nil && failed != nil {
		return failed.Error()
	}
	for _, condition := range namespace.Status.Conditions {
		if condition.Status == corev1.ConditionTrue {
			return condition.Message
		}
	}
	return "it is being deleted"
}
