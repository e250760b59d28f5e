package paper

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/probed"
)

// deploy creates the pods of a workload, as the injector does: what it resolves
// now stays in the proxy's container.
func (p *Play) deploy(w *scenarios.Workload) {
	namespace := p.real(w.Namespace)
	inject := w.Inject == nil || *w.Inject
	if edited := p.templates[w.Name]; edited != nil {
		w = edited
	}
	switch w.Kind {
	case scenarios.Emojivoto:
		p.read(w, namespace, bytes.NewReader(emojivoto.Manifest()))
		return
	case scenarios.FromManifest:
		p.read(w, namespace, p.stream(p.Set.ManifestOf(p.Scenario, w.Manifest)))
		return
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: namespace, Labels: map[string]string{"app": w.Name}}, Spec: corev1.PodSpec{ServiceAccountName: cmp.Or(w.ServiceAccount, "default")}}
	maps.Copy(pod.Labels, w.Labels)
	container := corev1.Container{Name: w.Name}
	for name, port := range w.Components()[w.Name].Ports {
		if !slices.Contains(w.Undeclared, name) {
			container.Ports = append(container.Ports, corev1.ContainerPort{Name: name, ContainerPort: int32(port.Container)})
		}
	}
	container.ReadinessProbe, container.LivenessProbe = probeOf(w.Readiness, "http-ready"), probeOf(w.Liveness, "http-live")
	pod.Spec.Containers = []corev1.Container{container}
	if w.Declares() {
		w.Declare(&pod.Spec)
	}
	p.create(pod, inject, w.Annotations)
	p.pods[w.Name] = pod
}

// read creates the pods of a manifest's workloads.
func (p *Play) read(w *scenarios.Workload, namespace string, manifest io.Reader) {
	set, err := objects.Read([]objects.Source{{Name: w.Name, Stream: manifest}}, objects.Options{})
	if err != nil {
		failf("workload %s: %w", w.Name, err)
	}
	for _, one := range set.Workloads {
		pod := one.Pod.DeepCopy()
		pod.Namespace = namespace
		annotations := maps.Clone(pod.Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		maps.Copy(annotations, w.Annotations)
		p.create(pod, w.Inject == nil || *w.Inject, annotations)
		p.pods[one.Pod.Name] = pod
	}
}

// stream is a manifest of the objects.
func (p *Play) stream(list []scenarios.Object) io.Reader {
	var text bytes.Buffer
	for _, o := range list {
		object, err := json.Marshal(o.Content)
		if err != nil {
			failf("%w", err)
		}
		text.WriteString("---\n" + p.named(string(object)) + "\n")
	}
	return &text
}

func probeOf(kind scenarios.ProbeKind, port string) *corev1.Probe {
	if kind != scenarios.ProbeHTTP {
		return nil // other kinds add nothing to policy (P-01)
	}
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: probed.Path, Port: intstr.FromString(port)}}}
}

func (p *Play) create(pod *corev1.Pod, inject bool, annotations map[string]string) {
	pod.Annotations = maps.Clone(annotations)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if !inject {
		pod.Annotations[api.InjectAnnotation] = api.InjectDisabled
		return
	}
	if p.baring != "" {
		pod.UID = types.UID("bare") // it is there, and shows that it has none
		return
	}
	namespace := p.namespaces[pod.Namespace]
	policy, _ := p.Rules.DefaultPolicy(p.settings, pod, namespace, p.reads())
	var opaque []string
	for _, port := range oracle.Ports(pod) {
		if is, _ := p.Rules.OpaqueByDefault(pod, namespace, uint16(port.ContainerPort), p.reads()); is {
			opaque = append(opaque, strconv.Itoa(int(port.ContainerPort)))
		}
	}
	// What the injector copies from the namespace, unless the pod says it (D-08).
	for _, key := range []string{api.DefaultPolicyAnnotation, api.OpaquePortsAnnotation, api.SkipInboundPortsAnnotation, api.RequireIdentityAnnotation} {
		if value, there := namespace.Annotations[key]; there && pod.Annotations[key] == "" {
			pod.Annotations[key] = value
		}
	}
	if _, said := pod.Annotations[api.OpaquePortsAnnotation]; !said && len(opaque) > 0 {
		pod.Annotations[api.OpaquePortsAnnotation] = strings.Join(opaque, ",") // D-16
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[api.ControlPlaneLabel] = "linkerd"
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(api.AdminPort)}}}
	}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: api.ProxyContainer,
		Env:   []corev1.EnvVar{{Name: api.ProxyDefaultPolicyVariable, Value: string(policy)}},
		Ports: []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: api.InboundPort}, {Name: api.AdminPortName, ContainerPort: api.AdminPort}},
		// P-15
		LivenessProbe: probe("/live"), ReadinessProbe: probe("/ready")})
}

// template edits the annotations and labels of a workload's new pods, which replace
// the old ones.
func (p *Play) template(patch *scenarios.Patch) {
	w := *p.workload(patch.Name)
	if edited := p.templates[w.Name]; edited != nil {
		w = *edited
	}
	var change struct {
		Spec struct {
			Template struct {
				Metadata struct{ Annotations, Labels map[string]*string }
			}
		}
	}
	text, err := json.Marshal(patch.Merge.Content)
	if err == nil {
		err = json.Unmarshal([]byte(p.named(string(text))), &change)
	}
	if err != nil {
		failf("read the patch of Deployment %s: %w", patch.Name, err)
	}
	merge := func(old map[string]string, edits map[string]*string) map[string]string {
		out := maps.Clone(old)
		if out == nil {
			out = map[string]string{}
		}
		for key, value := range edits {
			if value == nil {
				delete(out, key)
			} else {
				out[key] = *value
			}
		}
		return out
	}
	edits := change.Spec.Template.Metadata
	if len(edits.Annotations)+len(edits.Labels) == 0 {
		return
	}
	w.Annotations, w.Labels = merge(w.Annotations, edits.Annotations), merge(w.Labels, edits.Labels)
	p.templates[w.Name] = &w
	p.deploy(&w)
}
