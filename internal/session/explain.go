package session

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// explainBudget bounds the search for a reason: the cluster may be what is
// broken.
const explainBudget = 5 * time.Second

// explain adds to an error about the control plane what keeps its pods from
// being ready, and the last words of a container that has ended.
func explain(ctx context.Context, config *rest.Config, err error) error {
	ctx, cancel := context.WithTimeout(ctx, explainBudget)
	defer cancel()
	client, clientErr := kubernetes.NewForConfig(config)
	if clientErr != nil {
		return err
	}
	pods, listErr := client.CoreV1().Pods(values.Namespace).List(ctx, metav1.ListOptions{})
	if listErr != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if engine.Ready(pod) {
			continue
		}
		err = fmt.Errorf("%w; %s", err, engine.Why(pod))
		for _, status := range pod.Status.ContainerStatuses {
			if line := lastWords(ctx, client, pod, status); line != "" {
				err = fmt.Errorf("%w; the last words of %s: %s", err, status.Name, line)
			}
		}
	}
	return err
}

// lastWords is the last line that a container wrote before it ended.
func lastWords(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, status corev1.ContainerStatus) string {
	ended := status.State.Terminated != nil
	if !ended && status.LastTerminationState.Terminated == nil {
		return ""
	}
	lines := int64(1)
	text, err := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: status.Name, Previous: !ended, TailLines: &lines}).DoRaw(ctx)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
