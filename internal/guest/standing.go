package guest

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	// PartOf with the value Tool is on every object that this project makes.
	PartOf = "app.kubernetes.io/part-of"
	Tool   = "meshproof"
	// RunLabel is on what a run made: its value is the run's id. On the mesh's
	// namespace it says that a run installed the mesh, and that the last run to
	// leave uninstalls it.
	RunLabel = "meshproof.dev/run"
)

// StandingMesh reads the settings of the built-in mesh that stands in the
// cluster. It is false when there is none; *cluster.SetupError says that
// another mesh stands in its place.
func StandingMesh(ctx context.Context, config *rest.Config) (*values.Values, bool, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, false, fmt.Errorf("make a client: %w", err)
	}
	found, err := client.CoreV1().ConfigMaps(values.Namespace).Get(ctx, values.ConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for a mesh in namespace %s: %w", values.Namespace, err)
	}
	if found.Labels[PartOf] != Tool {
		return nil, false, &cluster.SetupError{Cause: fmt.Sprintf("namespace %s holds a mesh that meshproof did not install", values.Namespace), Remedy: "use a cluster without it"}
	}
	standing, err := values.Parse([]byte(found.Data[values.Key]))
	if err != nil {
		return nil, false, &cluster.SetupError{Cause: "the built-in mesh that stands is of another version", Err: err, Remedy: "meshproof install | kubectl apply -f -"}
	}
	return &standing, true, nil
}
