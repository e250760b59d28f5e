// Package manifests writes the Kubernetes objects of the workloads and of the
// client pods.
//
// Options go in (where, as whom, meshed or not), typed objects are filled, and
// unstructured ones come out, ready for an apply; YAML prints them. Pods satisfy
// the restricted PodSecurity profile. Nothing is sent anywhere, and nothing is
// injected: that is asked for by annotation.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/workloads/images"
)

const (
	// agentImage is the image of everything that has no published name.
	agentImage = images.Agent
	agentPath  = "/usr/local/bin/meshproof-agent"
	// graceSeconds is how long a pod of ours gets to stop. The programs stop at
	// once; Kubernetes' default of 30 s would be the length of a test.
	graceSeconds int64 = 2

	// milliCPU is what each container asks for. Pods that ask for nothing get
	// next to nothing while a node is busy starting others, and a proxy or client
	// that stands still looks like a policy.
	milliCPU int64 = 5

	injectAnnotation  = "linkerd.io/inject"
	networkAnnotation = "meshproof.dev/network"
	// appLabel carries a workload's name and is what its Service selects.
	appLabel = "app"
)

// Mesh says whether a pod gets a proxy.
type Mesh string

// The values of Mesh are those of the annotation linkerd.io/inject.
const (
	// AsNamespace leaves it to the namespace.
	AsNamespace Mesh = ""
	Meshed      Mesh = "enabled"
	Unmeshed    Mesh = "disabled"
)

// Options are what workloads and clients have in common.
type Options struct {
	Name      string
	Namespace string
	// ServiceAccount is created too, unless it is "" or "default".
	ServiceAccount string
	Mesh           Mesh
	// Outside puts the pod into a network that is outside every default
	// clusterNetworks (embedded cluster only).
	Outside bool
	// Spread are labels: pods of the namespace that have them are spread over
	// the nodes as evenly as can be. Empty leaves it to the scheduler.
	Spread map[string]string
	// Apart is the app label of pods of the namespace on whose node this one
	// must not run; empty: anywhere.
	Apart string
	// Nodes are the names of the only nodes that will do; empty: all.
	Nodes []string
	// Labels and Annotations are added to the pod's.
	Labels, Annotations map[string]string
	// Replicas of a Deployment, 1 when 0. Client pods have none.
	Replicas int32
}

// Namespace is a namespace object.
func Namespace(name string, labels, annotations map[string]string) *unstructured.Unstructured {
	return convert(&corev1.Namespace{TypeMeta: kind("v1", "Namespace"),
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations}})
}

// YAML prints objects as YAML documents.
func YAML(objects []*unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for _, object := range objects {
		text, err := sigsyaml.Marshal(object.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Parse reads YAML documents, such as emojivoto.Manifest's. Empty ones are left
// out.
func Parse(text []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read YAML document %d: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func kind(version, name string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: name}
}

// convert turns a typed object into an unstructured one, without the empty
// fields that typed ones have and nobody wrote.
func convert(object runtime.Object) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		panic(fmt.Errorf("convert a %T of this package: %w", object, err))
	}
	delete(content, "status")
	for _, path := range [][]string{{"metadata", "creationTimestamp"}, {"spec", "template", "metadata", "creationTimestamp"}, {"spec", "strategy"}} {
		unstructured.RemoveNestedField(content, path...)
	}
	return &unstructured.Unstructured{Object: content}
}

func (o Options) object() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace, Labels: map[string]string{appLabel: o.Name}}
}

// podMeta is the metadata of a pod or template.
func (o Options) podMeta() metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Labels: map[string]string{appLabel: o.Name}, Annotations: map[string]string{}}
	if o.Mesh != AsNamespace {
		meta.Annotations[injectAnnotation] = string(o.Mesh)
	}
	if o.Outside {
		meta.Annotations[networkAnnotation] = "outside"
	}
	maps.Copy(meta.Labels, o.Labels)
	maps.Copy(meta.Annotations, o.Annotations)
	return meta
}

// podSpec holds one container, restricted as PodSecurity wants it.
func (o Options) podSpec(container corev1.Container) corev1.PodSpec {
	no, yes, grace, user := false, true, graceSeconds, int64(images.User)
	container.SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	container.Image, container.ImagePullPolicy = agentImage, corev1.PullIfNotPresent
	container.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milliCPU, resource.DecimalSI)}
	return corev1.PodSpec{
		TopologySpreadConstraints:     o.spread(),
		Affinity:                      o.affinity(),
		ServiceAccountName:            o.ServiceAccount,
		AutomountServiceAccountToken:  &no,
		TerminationGracePeriodSeconds: &grace,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{container},
	}
}

func (o Options) spread() []corev1.TopologySpreadConstraint {
	if len(o.Spread) == 0 {
		return nil
	}
	return []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: o.Spread}}}
}

func (o Options) affinity() *corev1.Affinity {
	if o.Apart == "" && len(o.Nodes) == 0 {
		return nil
	}
	affinity := &corev1.Affinity{}
	if o.Apart != "" {
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: o.Apart}}}}}
	}
	if len(o.Nodes) > 0 {
		affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: o.Nodes}}}}}}
	}
	return affinity
}

func (o Options) serviceAccount() []*unstructured.Unstructured {
	if o.ServiceAccount == "" || o.ServiceAccount == "default" {
		return nil
	}
	return []*unstructured.Unstructured{convert(&corev1.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"),
		ObjectMeta: metav1.ObjectMeta{Name: o.ServiceAccount, Namespace: o.Namespace}})}
}

// deployment is the ServiceAccount, the Deployment and a Service with one port
// for each of the container's, under the same number.
func (o Options) deployment(container corev1.Container) []*unstructured.Unstructured {
	replicas := max(o.Replicas, 1)
	selector := map[string]string{appLabel: o.Name}
	service := &corev1.Service{TypeMeta: kind("v1", "Service"), ObjectMeta: o.object(), Spec: corev1.ServiceSpec{Selector: selector}}
	for _, port := range container.Ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: port.Name, Port: port.ContainerPort,
			TargetPort: intstr.FromInt32(port.ContainerPort)})
	}
	return append(o.serviceAccount(),
		convert(&appsv1.Deployment{TypeMeta: kind("apps/v1", "Deployment"), ObjectMeta: o.object(), Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{ObjectMeta: o.podMeta(), Spec: o.podSpec(container)}}}),
		convert(service))
}
