package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// bundleFolder is below scenarios/NAME in the run's folder.
	bundleFolder = "bundle"
	// logLimit bounds what is kept of one container's log; the end is kept.
	logLimit = 1 << 20
	// logLines is how many of its last lines are asked for, and logMost how many
	// bytes of them are read to get to their end.
	logLines = 5000
	logMost  = 16 * logLimit
)

// bundled are the kinds of objects that a bundle holds. Secrets are not among
// them.
var bundled = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "Service"}, {Version: "v1", Kind: "ServiceAccount"},
	{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Group: policyGroup, Version: "v1beta1", Kind: "Server"}, {Group: policyGroup, Version: "v1beta1", Kind: "ServerAuthorization"},
}

// gather writes the evidence of a scenario that failed, before anything is
// cleaned up: objects, events, logs, metrics, decision records and what the
// controller serves. What cannot be had is left out.
func (s *scenarioRun) gather(ctx context.Context) {
	defer s.lane.In(walltime.Evidence)()
	if s.e.Dir == "" || s.attempt || s.res.Outcome == result.Passed || s.res.Outcome == result.Skipped || ctx.Err() != nil {
		return // nothing to explain, or nobody who would wait for it
	}
	ctx, cancel := context.WithTimeout(ctx, bundleBudget)
	defer cancel()
	relative := filepath.Join("scenarios", s.res.Name, bundleFolder)
	b := &bundle{folder: filepath.Join(s.e.Dir, relative)}
	s.waiting("the evidence of the failure")
	namespaces := append([]string{s.namespace}, s.furtherNamespaces()...)
	if s.usesShared() {
		namespaces = append(namespaces, s.e.shared.namespaces()...)
	}
	for _, namespace := range namespaces {
		s.gatherObjects(ctx, b, namespace)
		b.write(filepath.Join(namespace, "events.txt"), []byte(strings.Join(s.e.kube.allEvents(ctx, namespace), "\n")+"\n"))
	}
	group := newGroup()
	for _, namespace := range append(namespaces, meshNamespace) {
		for _, pod := range s.e.pods.list(namespace, nil) {
			group.do(func() error { s.gatherPod(ctx, b, pod); return nil })
		}
	}
	_ = group.wait()
	if b.written() {
		s.res.Bundle = relative
	}
}

func (s *scenarioRun) usesShared() bool {
	return slices.ContainsFunc(s.planned.Spec.Clients, func(c scenarios.Client) bool { return c.Shared })
}

func (s *scenarioRun) gatherObjects(ctx context.Context, b *bundle, namespace string) {
	var text strings.Builder
	for _, gvk := range bundled {
		resource, _, err := s.e.kube.resource(gvk, namespace)
		if err != nil {
			continue
		}
		list, err := resource.List(ctx, metav1.ListOptions{})
		if err != nil {
			fmt.Fprintf(&text, "# %s: %v\n", gvk.Kind, err)
			continue
		}
		for _, item := range list.Items {
			unstructured.RemoveNestedField(item.Object, "metadata", "managedFields")
			if encoded, err := yaml.Marshal(item.Object); err == nil {
				fmt.Fprintf(&text, "---\n%s", encoded)
			}
		}
	}
	b.write(filepath.Join(namespace, "objects.yaml"), []byte(text.String()))
}

func (s *scenarioRun) gatherPod(ctx context.Context, b *bundle, pod *corev1.Pod) {
	folder := filepath.Join(pod.Namespace, pod.Name)
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		lines := int64(logLines)
		stream, err := s.e.kube.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container.Name, TailLines: &lines}).Stream(ctx)
		if err != nil {
			continue
		}
		text := lastOf(stream)
		stream.Close()
		b.write(filepath.Join(folder, container.Name+".log"), text)
	}
	if !meshed(pod) || !ready(pod) || pod.Namespace == meshNamespace {
		return
	}
	if text, err := s.e.metrics(ctx, nameOf(pod)); err == nil {
		b.write(filepath.Join(folder, "metrics.txt"), text)
	}
	var records []byte
	if s.e.get(ctx, nameOf(pod), proxyPort, "/decisions", map[string][]string{"since": {"0"}}, &records) == nil {
		b.write(filepath.Join(folder, "decisions.json"), records)
	}
	var inForce []byte
	if s.e.get(ctx, nameOf(pod), proxyPort, "/policy", nil, &inForce) == nil {
		b.write(filepath.Join(folder, "policy-in-force.json"), inForce)
	}
	served := map[string]json.RawMessage{}
	for component, ports := range s.interest {
		if !slices.ContainsFunc(s.componentPods(component), func(p *corev1.Pod) bool { return p.UID == pod.UID }) {
			continue
		}
		for port := range ports {
			if answer, err := s.e.askController(ctx, nameOf(pod), port, versions{}); err == nil {
				served[strconv.Itoa(port)] = answer.raw
			}
		}
	}
	if encoded, err := json.MarshalIndent(served, "", "  "); err == nil && len(served) > 0 {
		b.write(filepath.Join(folder, "policy-served.json"), encoded)
	}
}

// lastOf is the end of a log, where it tells of what has just failed, from the
// beginning of a line.
func lastOf(log io.Reader) []byte {
	text, _ := io.ReadAll(io.LimitReader(log, logMost)) // as far as it can be had
	if len(text) <= logLimit {
		return text
	}
	text = text[len(text)-logLimit:]
	return text[bytes.IndexByte(text, '\n')+1:]
}

// bundle is a folder of evidence that several goroutines write into.
type bundle struct {
	folder string
	files  atomic.Int64
}

func (b *bundle) write(name string, text []byte) {
	path := filepath.Join(b.folder, name)
	if len(text) == 0 || os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return
	}
	if os.WriteFile(path, text, 0o644) == nil {
		b.files.Add(1)
	}
}

func (b *bundle) written() bool { return b.files.Load() > 0 }
