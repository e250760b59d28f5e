package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Names that Linkerd's users know.
const (
	meshNamespace  = "linkerd"
	meshedLabel    = "linkerd.io/control-plane-ns"
	injectKey      = "linkerd.io/inject"
	proxyContainer = "linkerd-proxy"
	defaultPolicy  = "config.linkerd.io/default-inbound-policy"
)

// podStore follows all pods, so that waiting for one costs no requests.
type podStore struct {
	lister  listers.PodLister
	factory informers.SharedInformerFactory
	stop    context.CancelFunc

	mu      sync.Mutex
	changed chan struct{}
	// born is how and when pods were seen first.
	born map[types.UID]birth
}

func startPodStore(ctx context.Context, client kubernetes.Interface) (*podStore, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &podStore{factory: informers.NewSharedInformerFactory(client, 0), stop: stop, changed: make(chan struct{}), born: map[types.UID]birth{}}
	informer := p.factory.Core().V1().Pods().Informer()
	p.lister = p.factory.Core().V1().Pods().Lister()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { p.note(object); p.wake() }, UpdateFunc: func(_, _ any) { p.wake() }, DeleteFunc: func(any) { p.wake() },
	}); err != nil {
		stop()
		return nil, fmt.Errorf("follow the pods: %w", err)
	}
	p.factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		p.close()
		return nil, fmt.Errorf("list the pods: %w", context.Cause(ctx))
	}
	return p, nil
}

// birth is when a pod was seen first, and with what annotations.
type birth struct {
	at          time.Time
	annotations map[string]string
}

// note keeps when a pod was seen first, and what annotations it was created with.
func (p *podStore) note(object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.born[pod.UID]; !known {
		p.born[pod.UID] = birth{time.Now(), pod.Annotations}
	}
}

// bornWith are the annotations with which a pod was created.
func (p *podStore) bornWith(pod *corev1.Pod) map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born[pod.UID].annotations
}

// seenFirst is when a pod was.
func (p *podStore) seenFirst(pod *corev1.Pod) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born[pod.UID].at
}

func (p *podStore) close() {
	p.stop()
	p.factory.Shutdown()
}

// list returns the pods that match and are not being deleted, oldest first.
func (p *podStore) list(namespace string, match map[string]string) []*corev1.Pod {
	pods, err := p.lister.Pods(namespace).List(labels.SelectorFromSet(match))
	if err != nil {
		return nil // the cache's lister has no failures of its own
	}
	pods = slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return pods
}

// departing returns the pods that match and are being deleted but still there.
func (p *podStore) departing(namespace string, match map[string]string) []*corev1.Pod {
	pods, err := p.lister.Pods(namespace).List(labels.SelectorFromSet(match))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil })
}

// leaving counts the pods that match and are being deleted but still there.
func (p *podStore) leaving(namespace string, match map[string]string) int {
	return len(p.departing(namespace, match))
}

func (p *podStore) get(name types.NamespacedName) (*corev1.Pod, bool) {
	pod, err := p.lister.Pods(name.Namespace).Get(name.Name)
	return pod, err == nil
}

// seen says whether the store has seen writes of pods; a pod that is gone was.
func (p *podStore) seen(writes []write) (bool, string) {
	for _, w := range writes {
		pod, there := p.get(types.NamespacedName{Namespace: w.namespace, Name: w.name})
		if !there {
			continue
		}
		if version, err := strconv.ParseUint(pod.ResourceVersion, 10, 64); err == nil && version < w.version {
			return false, fmt.Sprintf("the edit of pod %s was not seen", nameOf(pod))
		}
	}
	return true, ""
}

// named is the pod of that name, if it is there.
func (p *podStore) named(name types.NamespacedName) []*corev1.Pod {
	if pod, ok := p.get(name); ok {
		return []*corev1.Pod{pod}
	}
	return nil
}

// started is until for pods that are to start: it ends early when one of them
// cannot, because its image cannot be had or its container cannot be made.
func (p *podStore) started(ctx context.Context, budget time.Duration, holds func() (bool, string), pods func() []*corev1.Pod) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	since := map[types.UID]time.Time{}
	var look *time.Timer
	defer func() {
		if look != nil {
			look.Stop()
		}
	}()
	err := p.until(ctx, budget, func() (bool, string) {
		ok, state := holds()
		if ok {
			return ok, state
		}
		for _, pod := range pods() {
			trouble, final := hopeless(pod)
			if trouble == "" {
				// Between two attempts the kubelet says so for a moment; only a
				// container that runs has got over it.
				if oneRuns(pod) {
					delete(since, pod.UID)
				}
				continue
			}
			first, known := since[pod.UID]
			if !known {
				first = time.Now()
				since[pod.UID] = first
				look = time.AfterFunc(imageBudget, p.wake)
			}
			if final || time.Since(first) >= imageBudget {
				cancel(&refusedPodError{fmt.Sprintf("pod %s cannot start: %s", nameOf(pod), trouble)})
			}
		}
		return false, state
	})
	var refused *refusedPodError
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return err
}

// refusedPodError is about a pod that will not start however long one waits.
type refusedPodError struct{ text string }

func (e *refusedPodError) Error() string { return e.text }

// hopeless says what keeps a pod's container from ever starting; empty means
// nothing known. Some of it may pass, such as a registry that cannot be reached;
// final says that it will not.
func hopeless(pod *corev1.Pod) (trouble string, final bool) {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		waiting := status.State.Waiting
		if waiting == nil {
			continue
		}
		switch waiting.Reason {
		case "InvalidImageName", "ErrImageNeverPull":
			return fmt.Sprintf("image %s is not loadable: %s %s", status.Image, waiting.Reason, waiting.Message), true
		case "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable":
			return fmt.Sprintf("image %s is not loadable: %s %s", status.Image, waiting.Reason, waiting.Message), false
		case "CreateContainerConfigError":
			return fmt.Sprintf("container %s cannot be made: %s %s", status.Name, waiting.Reason, waiting.Message), false
		}
	}
	return "", false
}

// oneRuns says whether a container of the pod runs.
func oneRuns(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses),
		func(status corev1.ContainerStatus) bool { return status.State.Running != nil })
}

// wake has those who wait look again.
func (p *podStore) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// until waits until holds says yes; it is asked again after every change of a
// pod. The last state that holds returned is part of the error.
func (p *podStore) until(ctx context.Context, budget time.Duration, holds func() (bool, string)) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		ok, state := holds()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s, after %s", state, budget)
			}
			return ctx.Err()
		}
	}
}

func nameOf(pod *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

func meshed(pod *corev1.Pod) bool { return pod.Labels[meshedLabel] != "" }

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Ready says whether a pod is.
func Ready(pod *corev1.Pod) bool { return ready(pod) }

// Why says in one line what keeps a pod from being ready.
func Why(pod *corev1.Pod) string { return why(pod) }

// why says in one line what keeps a pod from being ready.
func why(pod *corev1.Pod) string {
	text := fmt.Sprintf("pod %s/%s is %s", pod.Namespace, pod.Name, strings.ToLower(string(pod.Status.Phase)))
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch state := status.State; {
		case state.Waiting != nil && state.Waiting.Reason != "PodInitializing":
			return text + fmt.Sprintf(": container %s waits: %s %s", status.Name, state.Waiting.Reason, state.Waiting.Message)
		case state.Terminated != nil && state.Terminated.ExitCode != 0:
			return text + fmt.Sprintf(": container %s ended with %d %s", status.Name, state.Terminated.ExitCode, state.Terminated.Reason)
		case state.Running != nil && !status.Ready:
			text += ": container " + status.Name + " is not ready"
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Status == corev1.ConditionFalse && condition.Message != "" && condition.Type == corev1.PodScheduled {
			return text + ": " + condition.Message
		}
	}
	return text
}

// when is the last time an event happened; two generations of the API tell it
// in different fields.
func when(event corev1.Event) time.Time {
	if !event.LastTimestamp.IsZero() {
		return event.LastTimestamp.Time
	}
	if !event.EventTime.IsZero() {
		return event.EventTime.Time
	}
	return event.CreationTimestamp.Time
}

// allEvents lists every event of a namespace as lines, oldest first.
func (k *kube) allEvents(ctx context.Context, namespace string) []string {
	list, err := k.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return when(a).Compare(when(b)) })
	var lines []string
	for _, event := range list.Items {
		lines = append(lines, fmt.Sprintf("%s %s %s %s/%s: %s", when(event).Format(time.RFC3339), event.Type, event.Reason,
			strings.ToLower(event.InvolvedObject.Kind), event.InvolvedObject.Name, event.Message))
	}
	return lines
}

// tellsOfPods are the kinds of objects whose warnings explain a missing pod.
var tellsOfPods = map[string]bool{"Pod": true, "ReplicaSet": true, "Deployment": true}

// events lists the latest warnings of a namespace, or of one object in it.
func (k *kube) events(ctx context.Context, namespace, object string, most int) []string {
	list, err := k.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return when(a).Compare(when(b)) })
	var lines []string
	for _, event := range list.Items {
		if object != "" && event.InvolvedObject.Name != object || event.Type == corev1.EventTypeNormal || !tellsOfPods[event.InvolvedObject.Kind] {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s/%s: %s", event.Reason, strings.ToLower(event.InvolvedObject.Kind), event.InvolvedObject.Name, event.Message))
	}
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return lines
}
