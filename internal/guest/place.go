package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// ClusterWide names what the mesh's manifests make outside of namespaces, and
// its namespace: RESOURCE/NAME each, in the order of the manifests.
func ClusterWide() []string {
	var out []string
	for _, object := range meshObjects() {
		if object.GetNamespace() == "" {
			group, resource := resourceOf(object)
			out = append(out, strings.TrimSuffix(resource+"."+group, ".")+"/"+object.GetName())
		}
	}
	return out
}

// CheckPlace makes sure that installing the mesh would take nothing that is
// somebody else's: objects of the mesh's names must be absent or be this
// project's. Error: *cluster.SetupError, one line that names them.
func CheckPlace(ctx context.Context, config *rest.Config) error {
	client, err := dynamicClient(config)
	if err != nil {
		return err
	}
	var taken []string
	for _, object := range meshObjects() {
		if object.GetNamespace() != "" {
			continue // goes with its namespace
		}
		group, resource := resourceOf(object)
		there, err := client.Resource(schema.GroupVersionResource{Group: group, Version: object.GroupVersionKind().Version, Resource: resource}).Get(ctx, object.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look whether there is room for the mesh: %w", err)
		}
		// The Gateway API is nobody's mesh: what is there of it is used as it is.
		if there.GetLabels()[PartOf] != Tool && !mesh.IsGatewayCRD(object.GetName()) {
			taken = append(taken, object.GetKind()+" "+object.GetName())
		}
	}
	if len(taken) == 0 {
		return nil
	}
	slices.Sort(taken)
	return &cluster.SetupError{Cause: "the mesh cannot be installed without taking what meshproof did not make: " + strings.Join(taken, ", "), Remedy: "use another cluster, or remove them"}
}

// ForeignCRDs names the CRDs of the Gateway API that the cluster has from
// somebody else. They are neither replaced nor removed.
func ForeignCRDs(ctx context.Context, config *rest.Config) ([]string, error) {
	client, err := dynamicClient(config)
	if err != nil {
		return nil, err
	}
	var foreign []string
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, name := range mesh.GatewayCRDs() {
		there, err := definitions.Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("look whether the cluster has the Gateway API: %w", err)
		}
		if err == nil && there.GetLabels()[PartOf] != Tool {
			foreign = append(foreign, name)
		}
	}
	return foreign, nil
}

func dynamicClient(config *rest.Config) (dynamic.Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return client, nil
}

// settingsAnnotation on the mesh's namespace keeps the settings that a run has
// found and is about to change, so that they can be restored by others when it
// is killed.
const settingsAnnotation = "meshproof.dev/settings-before"

// Mark is what the mesh's namespace tells about the mesh.
type Mark struct {
	// Run is the one that installed the mesh; empty: it was not a run.
	Run string
	// Before are the settings that a run has changed and not restored; nil when
	// there are none.
	Before *values.Values
}

// ReadMark reads the mark; without the namespace it is empty.
func ReadMark(ctx context.Context, client kubernetes.Interface) (Mark, error) {
	namespace, err := client.CoreV1().Namespaces().Get(ctx, values.Namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Mark{}, nil
	}
	if err != nil {
		return Mark{}, fmt.Errorf("read namespace %s: %w", values.Namespace, err)
	}
	out := Mark{Run: namespace.Labels[RunLabel]}
	if text, ok := namespace.Annotations[settingsAnnotation]; ok {
		before, err := values.Parse([]byte(text))
		if err != nil {
			return Mark{}, &cluster.SetupError{Cause: fmt.Sprintf("a run of another version has changed the mesh's settings and not restored them (annotation %s of namespace %s)", settingsAnnotation, values.Namespace),
				Err: err, Remedy: "meshproof install | kubectl apply -f -, and remove the annotation"}
		}
		out.Before = &before
	}
	return out, nil
}

// KeepSettings notes the settings that a run is about to change; nil removes
// the note.
func KeepSettings(ctx context.Context, client kubernetes.Interface, before *values.Values) error {
	text := "null"
	if before != nil {
		settings, err := before.Marshal()
		if err != nil {
			return err
		}
		text = fmt.Sprintf("%q", settings)
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, settingsAnnotation, text)
	if _, err := client.CoreV1().Namespaces().Patch(ctx, values.Namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: Tool}); err != nil {
		return fmt.Errorf("note the mesh's settings on namespace %s: %w", values.Namespace, err)
	}
	return nil
}

// OptionsOf are those with which the installer would write the mesh that stands.
func OptionsOf(ctx context.Context, client kubernetes.Interface, standing values.Values) (mesh.Options, error) {
	deployments, err := client.AppsV1().Deployments(values.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return mesh.Options{}, fmt.Errorf("look at the mesh that stands: %w", err)
	}
	// The one setting that is not among the values.
	ha := slices.ContainsFunc(deployments.Items, func(d appsv1.Deployment) bool { return d.Spec.Replicas != nil && *d.Spec.Replicas > 1 })
	return mesh.Options{DefaultInboundPolicy: string(standing.DefaultInboundPolicy), ClusterNetworks: standing.ClusterNetworks, ProbeNetworks: standing.ProbeNetworks,
		HA: ha, ProxyExemption: standing.ProxyExemption, Dialect: standing.Dialect, ProxyImage: standing.ProxyImage, ControllerImage: standing.ControllerImage,
		ImagePullPolicy: string(standing.ImagePullPolicy), NativeSidecar: standing.NativeSidecar}, nil
}

// Restore applies the settings that a killed run has changed, and removes the
// note of them. The caller is alone on the cluster. It does not wait.
func Restore(ctx context.Context, config *rest.Config, before values.Values) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	writer, err := dynamicClient(config)
	if err != nil {
		return err
	}
	options, err := OptionsOf(ctx, client, before)
	if err != nil {
		return err
	}
	if options.SkipCRDs, err = ForeignCRDs(ctx, config); err != nil {
		return err
	}
	objects, err := objectsOf(options)
	if err != nil {
		return err
	}
	for _, object := range objects {
		group, resource := resourceOf(object)
		target := writer.Resource(schema.GroupVersionResource{Group: group, Version: object.GroupVersionKind().Version, Resource: resource})
		if _, err := target.Namespace(object.GetNamespace()).Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: Tool, Force: true}); err != nil {
			return fmt.Errorf("restore the mesh's settings: apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return KeepSettings(ctx, client, nil)
}
