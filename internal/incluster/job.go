package incluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ErrNotFound says that there is no such Job.
var ErrNotFound = errors.New("no such Job")

// Find is the Job of that name, or the newest one of the CronJob of that name.
// With an empty name it is the newest one that this program's manifests made.
// Error: ErrNotFound.
func Find(ctx context.Context, client kubernetes.Interface, namespace, name string) (*batchv1.Job, error) {
	list, err := client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the Jobs in namespace %s: %w", namespace, err)
	}
	var newest *batchv1.Job
	for i := range list.Items {
		job := &list.Items[i]
		fits := job.Name == name || name == "" && job.Labels[partOf] == tool ||
			slices.ContainsFunc(job.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "CronJob" && o.Name == name })
		if fits && (newest == nil || newest.CreationTimestamp.Before(&job.CreationTimestamp)) {
			newest = job
		}
	}
	switch {
	case newest == nil && name == "":
		return nil, fmt.Errorf("%w: namespace %s has none that meshproof gen has printed", ErrNotFound, namespace)
	case newest == nil:
		return nil, fmt.Errorf("%w: namespace %s has neither a Job nor a CronJob with Jobs called %s", ErrNotFound, namespace, name)
	case newest.Spec.CompletionMode == nil || *newest.Spec.CompletionMode != batchv1.IndexedCompletion || newest.Spec.Completions == nil:
		return nil, fmt.Errorf("%w: Job %s/%s is not an Indexed Job, so it has no shards", ErrNotFound, namespace, newest.Name)
	}
	return newest, nil
}

// Finished says whether all shards of the Job have come to an end.
func Finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// lookInterval is between two looks at a Job that one waits for: its shards take
// minutes.
const lookInterval = 2 * time.Second

// Wait waits until the Job has finished, and returns it as it is then. say is
// told of a shard whenever something about it changes. Error: ErrNotFound when somebody has
// deleted the Job, or why ctx ended.
func Wait(ctx context.Context, client kubernetes.Interface, job *batchv1.Job, say func(string)) (*batchv1.Job, error) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	said := map[int]string{}
	for {
		now, err := client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && now.UID != job.UID:
			return nil, fmt.Errorf("%w: Job %s/%s was deleted", ErrNotFound, job.Namespace, job.Name)
		case err == nil && Finished(now):
			return now, nil
		case err == nil:
			states, err := States(ctx, client, now) // they only explain
			for shard := 1; err == nil && shard <= Shards(now); shard++ {
				if state := cmp.Or(states[shard], "has no pod"); state != said[shard] {
					say(fmt.Sprintf("shard %d of %d %s", shard, Shards(now), state))
					said[shard] = state
				}
			}
		case ctx.Err() == nil && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
			return nil, fmt.Errorf("look at Job %s/%s: %w", job.Namespace, job.Name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for Job %s/%s: %w", job.Namespace, job.Name, context.Cause(ctx))
		}
	}
}

// States says in a few words how the pod of each shard is: what it waits for, or
// how it has ended and its last words. A shard without a pod is not in the map.
func States(ctx context.Context, client kubernetes.Interface, job *batchv1.Job) (map[int]string, error) {
	pods, err := client.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: jobUIDLabel + "=" + string(job.UID)})
	if err != nil {
		return nil, fmt.Errorf("list the pods of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	states := map[int]string{}
	for i := range pods.Items {
		var index int
		if _, err := fmt.Sscanf(pods.Items[i].Annotations[indexLabel], "%d", &index); err == nil {
			states[index+1] = state(&pods.Items[i])
		}
	}
	return states, nil
}

func state(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		switch s := status.State; {
		case s.Terminated != nil && s.Terminated.ExitCode == 0:
			return "has passed"
		case s.Terminated != nil:
			text := fmt.Sprintf("has ended with exit code %d", s.Terminated.ExitCode)
			if words := lastLine(s.Terminated.Message); words != "" {
				text += ": " + words
			}
			return text
		case s.Running != nil:
			return "runs"
		case s.Waiting != nil && s.Waiting.Message != "":
			return "cannot start: " + s.Waiting.Reason + ": " + lastLine(s.Waiting.Message)
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return "is not scheduled: " + lastLine(condition.Message)
		}
	}
	switch pod.Status.Phase {
	case corev1.PodFailed:
		return "has failed: " + lastLine(pod.Status.Reason+" "+pod.Status.Message)
	case corev1.PodSucceeded:
		return "has passed"
	}
	return "starts"
}

// lastLine is the last line that says something, in full sight.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	const most = 300
	if len(last) > most {
		last = last[:most] + "…"
	}
	return last
}
