package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// Cluster is a cluster that stands before and after it is used.
type Cluster struct {
	name         string
	folder       string
	client       kubernetes.Interface
	capabilities cluster.Capabilities
	done         chan struct{}
}

var _ cluster.Cluster = (*Cluster)(nil)

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.name }

// Kubeconfig implements cluster.Cluster: a file that knows this cluster only
// and is gone after Close.
func (c *Cluster) Kubeconfig() string { return file(c.folder) }

// Capabilities implements cluster.Cluster.
func (c *Cluster) Capabilities() cluster.Capabilities { return c.capabilities }

// Timings implements cluster.Cluster.
func (c *Cluster) Timings() []cluster.Timing { return nil }

// Done implements cluster.Cluster: it is never closed.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err implements cluster.Cluster.
func (c *Cluster) Err() error { return nil }

// Keep implements cluster.Cluster: there is nothing to do.
func (c *Cluster) Keep(context.Context) error { return nil }

// Close implements cluster.Cluster: it removes the kubeconfig.
func (c *Cluster) Close(context.Context) error {
	if err := os.RemoveAll(c.folder); err != nil {
		return fmt.Errorf("remove the run's kubeconfig: %w", err)
	}
	return nil
}

// logLimit bounds what is kept of one container's log, in bytes.
const logLimit = 4 << 20

// Logs implements cluster.Cluster as far as the API tells: the nodes, and the
// logs of the mesh's control plane.
func (c *Cluster) Logs(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the logs of cluster %s: %w", c.name, err)
	}
	return errors.Join(c.writeNodes(ctx, dir), c.writeMesh(ctx, dir))
}

func (c *Cluster) writeNodes(ctx context.Context, dir string) error {
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes of cluster %s: %w", c.name, err)
	}
	for i := range nodes.Items {
		nodes.Items[i].ManagedFields = nil
	}
	text, err := yaml.Marshal(nodes)
	if err != nil {
		return fmt.Errorf("write the nodes of cluster %s: %w", c.name, err)
	}
	return os.WriteFile(filepath.Join(dir, "nodes.yaml"), text, 0o644)
}

func (c *Cluster) writeMesh(ctx context.Context, dir string) error {
	pods, err := c.client.CoreV1().Pods(values.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods of the mesh in cluster %s: %w", c.name, err)
	}
	var failed []error
	for _, pod := range pods.Items {
		for _, container := range pod.Spec.Containers {
			if err := c.writeLog(ctx, &pod, container.Name, filepath.Join(dir, pod.Name+"-"+container.Name+".log")); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

func (c *Cluster) writeLog(ctx context.Context, pod *corev1.Pod, container, path string) error {
	limit := int64(logLimit)
	stream, err := c.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return fmt.Errorf("read the log of %s in pod %s/%s: %w", container, pod.Namespace, pod.Name, err)
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	if err != nil {
		return fmt.Errorf("read the log of %s in pod %s/%s: %w", container, pod.Namespace, pod.Name, err)
	}
	return os.WriteFile(path, text, 0o644)
}
