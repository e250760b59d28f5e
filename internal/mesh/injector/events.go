package injector

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// eventPatience is how long a pod that was just admitted may take to exist.
	eventPatience = 5 * time.Second
	// eventInterval is how often it is looked for.
	eventInterval = 100 * time.Millisecond
	// eventBacklog bounds what waits to be written; beyond it events are dropped,
	// with a line in the log, rather than admissions held up.
	eventBacklog = 256

	reporter = "linkerd-proxy-injector"
)

// subject is the object that events are about: what owns the pod, since the pod
// itself does not exist yet, or the pod when nothing owns it.
type subject struct {
	reference corev1.ObjectReference
	// prefix is the pod's name or what it is generated from.
	prefix string
}

func newSubject(namespace string, pod *corev1.Pod) subject {
	name := pod.Name
	if name == "" {
		name = pod.GenerateName
	}
	for _, owner := range pod.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			return subject{corev1.ObjectReference{
				APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: namespace, Name: owner.Name, UID: owner.UID}, name}
		}
	}
	return subject{corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: pod.Name}, name}
}

func (s subject) podName() string { return s.prefix }

// recorder writes events, one after the other, away from the admissions.
type recorder struct {
	core    rest.Interface
	backlog chan entry
}

type entry struct {
	about subject
	note  Note
}

func newRecorder(core rest.Interface) *recorder {
	return &recorder{core: core, backlog: make(chan entry, eventBacklog)}
}

// notify takes notes of one pod; it never blocks.
func (r *recorder) notify(about subject, notes []Note) {
	for _, note := range notes {
		slog.Warn("told by event", "namespace", about.reference.Namespace, "pod", about.podName(), "reason", note.Reason, "message", note.Message)
		if about.reference.Name == "" {
			continue // a pod without owner or name cannot be found again
		}
		select {
		case r.backlog <- entry{about, note}:
		default:
			slog.Error("event dropped, too many are waiting", "reason", note.Reason)
		}
	}
}

// run writes until ctx ends.
func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case e := <-r.backlog:
			if err := r.write(ctx, e); err != nil && ctx.Err() == nil {
				slog.Error("event not written", "reason", e.note.Reason, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *recorder) write(ctx context.Context, e entry) error {
	about := e.about.reference
	if about.UID == "" {
		pod, err := r.find(ctx, about)
		if err != nil {
			return err
		}
		about.UID = pod.UID
	}
	now := metav1.Now()
	event := &corev1.Event{
		// The name follows from the content: pods of one ReplicaSet say it once,
		// and so do replicas of this role.
		ObjectMeta:     metav1.ObjectMeta{Namespace: about.Namespace, Name: fmt.Sprintf("%s.%x", about.Name, digest(string(about.UID), e.note.Reason, e.note.Message))},
		InvolvedObject: about, Reason: e.note.Reason, Message: e.note.Message, Type: corev1.EventTypeWarning,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: reporter},
		ReportingController: reporter,
	}
	err := r.core.Post().Namespace(about.Namespace).Resource("events").Body(event).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("write an event about %s %s/%s: %w", about.Kind, about.Namespace, about.Name, err)
	}
	return nil
}

// find waits for a pod that was just admitted.
func (r *recorder) find(ctx context.Context, about corev1.ObjectReference) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	for {
		pod := &corev1.Pod{}
		err := r.core.Get().Namespace(about.Namespace).Resource("pods").Name(about.Name).Do(ctx).Into(pod)
		if err == nil {
			return pod, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("find pod %s/%s: %w", about.Namespace, about.Name, err)
		}
	}
}

func digest(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum64()
}
