package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/scenarios"
)

// act does one action, waits as it says, and returns a line about it.
func (s *scenarioRun) act(ctx context.Context, a *scenarios.Action) (string, error) {
	switch {
	case a.Apply != nil:
		return s.apply(ctx, a.Apply, a.Wait)
	case a.Manifest != "":
		line, err := s.apply(ctx, s.e.plan.Set.ManifestOf(s.planned.Scenario, a.Manifest), a.Wait)
		return a.Manifest + ": " + line, err
	case a.Delete != nil:
		return s.remove(ctx, a)
	case a.Patch != nil:
		return s.patch(ctx, a)
	case a.Annotate != nil:
		return s.annotate(ctx, "annotations", a.Annotate, a.Wait)
	case a.Label != nil:
		return s.annotate(ctx, "labels", a.Label, a.Wait)
	case a.Restart != nil:
		return "restart " + a.Restart.Workload, s.restart(ctx, s.workload(a.Restart.Workload), a.Restart.Await)
	case a.Deploy != nil:
		w := s.workload(a.Deploy.Workload)
		if err := s.deployWorkload(ctx, w); err != nil {
			return "deploy " + w.Name, err
		}
		return "deploy " + w.Name, s.deployed(ctx, w, a.Deploy.Await)
	case a.Await != nil:
		return "await " + a.Await.Workload, s.deployed(ctx, s.workload(a.Await.Workload), a.Await.Await)
	case a.Remove != nil:
		w := s.workload(a.Remove.Workload)
		return "remove " + w.Name, s.removeWorkload(ctx, w)
	case a.Scale != nil:
		return s.scale(ctx, a.Scale)
	case a.Install != nil:
		options := InstallOptions{DefaultInboundPolicy: a.Install.DefaultInboundPolicy, ClusterNetworks: a.Install.ClusterNetworks, HA: a.Install.HA}
		return s.install(ctx, options)
	case a.Start != nil:
		return s.start(ctx, a.Start)
	case a.Stop != nil:
		return "stop stream " + a.Stop.Stream, s.streams[a.Stop.Stream].stop(ctx)
	case a.Hold != nil:
		return s.hold(ctx, a.Hold)
	}
	return "nothing", nil
}

func (s *scenarioRun) workload(name string) *scenarios.Workload {
	for i := range s.planned.Spec.Workloads {
		if s.planned.Spec.Workloads[i].Name == name {
			return &s.planned.Spec.Workloads[i]
		}
	}
	return nil // the parser has refused it
}

// expand replaces the named values in a value of an object.
func (s *scenarioRun) expand(value any) any {
	switch value := value.(type) {
	case string:
		text, err := scenarios.Expand(value, s.values)
		if err != nil {
			return value // the parser has refused it
		}
		return text
	case map[string]any:
		out := make(map[string]any, len(value))
		for key, inner := range value {
			out[key] = s.expand(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, inner := range value {
			out[i] = s.expand(inner)
		}
		return out
	}
	return value
}

func (s *scenarioRun) text(value string) string { return s.expand(value).(string) }

// apply applies objects as one kubectl apply does: one after the other without
// waiting, and then waits for all of them.
func (s *scenarioRun) apply(ctx context.Context, objects []scenarios.Object, wait scenarios.Wait) (string, error) {
	var writes []write
	var lines []string
	for _, object := range objects {
		content := s.expand(object.Content).(map[string]any)
		w, err := s.e.kube.apply(ctx, content, s.namespace, false)
		if err != nil {
			return "apply", input(object.Pos, err)
		}
		writes = append(writes, w)
		lines = append(lines, w.kind+" "+w.name)
		if !s.owns(w.namespace) {
			s.undo = append(s.undo, func(ctx context.Context) { _, _ = s.e.kube.remove(ctx, w.kind, w.namespace, w.name) })
		}
	}
	return "apply " + strings.Join(lines, ", "), s.settle(ctx, writes, wait)
}

// owns says whether a namespace goes with the scenario.
func (s *scenarioRun) owns(namespace string) bool {
	return namespace == s.namespace || slices.Contains(s.furtherNamespaces(), namespace)
}

func (s *scenarioRun) inNamespace(name string) string {
	if name == "" {
		return s.namespace
	}
	return s.text(name)
}

func (s *scenarioRun) remove(ctx context.Context, a *scenarios.Action) (string, error) {
	var writes []write
	var lines []string
	for _, ref := range a.Delete {
		w, err := s.e.kube.remove(ctx, ref.Kind, s.inNamespace(ref.Namespace), s.text(ref.Name))
		if err != nil {
			return "delete " + ref.Kind + " " + ref.Name, input(ref.Pos, err)
		}
		writes = append(writes, w)
		lines = append(lines, w.kind+" "+w.name)
	}
	return "delete " + strings.Join(lines, ", "), s.settle(ctx, writes, a.Wait)
}

// input marks a refusal by the API server as a fault of the scenario.
func input(at scenarios.Pos, err error) error {
	var refused *refusedError
	if errors.As(err, &refused) {
		return &inputError{at, err}
	}
	return err
}

func (s *scenarioRun) patch(ctx context.Context, a *scenarios.Action) (string, error) {
	p := a.Patch
	w, err := s.e.kube.merge(ctx, p.Kind, s.inNamespace(p.Namespace), s.text(p.Name), s.expand(p.Merge.Content).(map[string]any))
	if err != nil {
		return "patch " + p.Kind + " " + p.Name, input(p.Pos, err)
	}
	return "patch " + p.Kind + " " + p.Name, s.settle(ctx, []write{w}, a.Wait)
}

// annotate sets annotations or labels of an object or of a workload's pods.
func (s *scenarioRun) annotate(ctx context.Context, field string, a *scenarios.Annotate, wait scenarios.Wait) (string, error) {
	set := map[string]any{}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(a.Set)) {
		set[key] = s.text(a.Set[key])
		parts = append(parts, key+"="+s.text(a.Set[key]))
	}
	for _, key := range a.Remove {
		set[key] = nil
		parts = append(parts, key+"-")
	}
	patch := map[string]any{"metadata": map[string]any{field: set}}
	line := fmt.Sprintf("set %s of %s %s%s: %s", field, a.Kind, a.Name, a.Workload, strings.Join(parts, ", "))
	var writes []write
	if a.Workload == "" {
		w, err := s.e.kube.merge(ctx, a.Kind, s.inNamespace(a.Namespace), s.text(a.Name), patch)
		if err != nil {
			return line, input(a.Pos, err)
		}
		writes = append(writes, w)
		return line, s.settle(ctx, writes, wait)
	}
	for _, pod := range s.componentPods(a.Workload) {
		w, err := s.e.kube.merge(ctx, "Pod", pod.Namespace, pod.Name, patch)
		if err != nil {
			return line, input(a.Pos, err)
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return line, fmt.Errorf("%s has no pods", a.Workload)
	}
	return line, s.settle(ctx, writes, wait)
}

// deployed waits for a new or restarted workload and its policies.
func (s *scenarioRun) deployed(ctx context.Context, w *scenarios.Workload, await scenarios.Await) error {
	if err := s.awaitWorkload(ctx, w, await); err != nil || await == scenarios.AwaitNone || await == scenarios.AwaitCreated {
		return err
	}
	return s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

func (s *scenarioRun) restart(ctx context.Context, w *scenarios.Workload, await scenarios.Await) error {
	old := map[types.UID]bool{}
	grace := graceSeconds
	for name := range w.Components() {
		for _, pod := range s.componentPods(name) {
			old[pod.UID] = true
			if err := s.e.kube.typed.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete pod %s: %w", nameOf(pod), err)
			}
			s.e.forward.drop(nameOf(pod))
		}
	}
	// The old pods leave the list as soon as their deletion is under way.
	err := s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		for name := range w.Components() {
			for _, pod := range s.componentPods(name) {
				if old[pod.UID] {
					return false, "pod " + pod.Name + " is still there"
				}
			}
		}
		return true, ""
	})
	if err != nil {
		return err
	}
	if w.Form == scenarios.FormPod {
		if err := s.gone(ctx, w); err != nil {
			return err
		}
		if err := s.deployWorkload(ctx, w); err != nil {
			return err
		}
	}
	return s.deployed(ctx, w, await)
}

// gone waits until a bare Pod's name is free.
func (s *scenarioRun) gone(ctx context.Context, w *scenarios.Workload) error {
	name := types.NamespacedName{Namespace: s.space(w.Namespace), Name: w.Name}
	return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		_, there := s.e.pods.get(name)
		return !there, fmt.Sprintf("pod %s is still there", name)
	})
}

func (s *scenarioRun) removeWorkload(ctx context.Context, w *scenarios.Workload) error {
	namespace := s.space(w.Namespace)
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	var err error
	if w.Form == scenarios.FormPod {
		err = s.e.kube.typed.CoreV1().Pods(namespace).Delete(ctx, w.Name, options)
	} else {
		err = s.e.kube.typed.AppsV1().Deployments(namespace).Delete(ctx, w.Name, options)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", w.Name, err)
	}
	return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		pods := s.componentPods(w.Name)
		return len(pods) == 0, fmt.Sprintf("%s still has %d pods", w.Name, len(pods))
	})
}

func (s *scenarioRun) scale(ctx context.Context, a *scenarios.Scale) (string, error) {
	line := fmt.Sprintf("scale Deployment %s/%s to %d", a.Namespace, a.Name, a.Replicas)
	before, err := s.e.setReplicas(ctx, a.Namespace, a.Name, int32(a.Replicas))
	if err != nil {
		return line, input(a.Pos, err)
	}
	s.undo = append(s.undo, func(ctx context.Context) {
		if s.e.Leave {
			return // the cluster ends with the run
		}
		if _, err := s.e.setReplicas(ctx, a.Namespace, a.Name, before); err == nil {
			_ = s.e.awaitRollout(ctx, a.Namespace, false)
		}
	})
	return line, s.e.awaitRollout(ctx, a.Namespace, true)
}

func (e *run) setReplicas(ctx context.Context, namespace, name string, replicas int32) (int32, error) {
	deployments := e.kube.typed.AppsV1().Deployments(namespace)
	scale, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("read the size of Deployment %s/%s: %w", namespace, name, refusal(err))
	}
	before := scale.Spec.Replicas
	scale.Spec.Replicas = replicas
	if _, err := deployments.UpdateScale(ctx, name, scale, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
		return 0, fmt.Errorf("set the size of Deployment %s/%s: %w", namespace, name, refusal(err))
	}
	return before, nil
}

// awaitRollout waits until every Deployment of the namespace runs what it
// should. With gone it waits for the last of the old pods, too.
func (e *run) awaitRollout(ctx context.Context, namespace string, gone bool) error {
	return eventually(ctx, installBudget, func() error {
		list, err := e.kube.typed.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list the Deployments of %s: %w", namespace, err)
		}
		for _, d := range list.Items {
			want := int32(1)
			if d.Spec.Replicas != nil {
				want = *d.Spec.Replicas
			}
			st := d.Status
			if st.ObservedGeneration < d.Generation || st.UpdatedReplicas != want || st.AvailableReplicas != want || st.Replicas != want {
				for _, pod := range e.pods.list(namespace, d.Spec.Selector.MatchLabels) {
					if !ready(pod) {
						return fmt.Errorf("Deployment %s/%s is not rolled out: %s", namespace, d.Name, why(pod))
					}
				}
				return fmt.Errorf("Deployment %s/%s is not rolled out: %d of %d pods are available and new", namespace, d.Name, min(st.UpdatedReplicas, st.AvailableReplicas), want)
			}
			// A pod that is on its way out still answers whoever is connected.
			if n := e.pods.leaving(namespace, d.Spec.Selector.MatchLabels); gone && n > 0 {
				return fmt.Errorf("Deployment %s/%s is not rolled out: %d old pods are still there", namespace, d.Name, n)
			}
		}
		return nil
	})
}

// install pipes the installer's manifests into the cluster, as the document's
// upgrade does. Before another scenario needs them, and at the end of the run,
// the defaults are installed again.
func (s *scenarioRun) install(ctx context.Context, options InstallOptions) (string, error) {
	line := "install"
	if options.DefaultInboundPolicy != "" {
		line += " --default-inbound-policy " + options.DefaultInboundPolicy
	}
	if len(options.ClusterNetworks) > 0 {
		line += " --cluster-networks " + strings.Join(options.ClusterNetworks, ",")
	}
	if options.HA {
		line += " --ha"
	}
	line += " | apply"
	s.e.installed = true
	s.waiting(line)
	if err := s.e.install(ctx, options); err != nil {
		return line, err
	}
	return line, s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

func (e *run) install(ctx context.Context, options InstallOptions) error {
	if e.Manifests == nil {
		return errors.New("this run has no installer of the mesh")
	}
	text, err := e.Manifests(options)
	if err != nil {
		return fmt.Errorf("print the mesh's manifests: %w", err)
	}
	objects, err := scenarios.Objects("the mesh's manifests", text)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if _, err := e.kube.apply(ctx, object.Content, meshNamespace, false); err != nil {
			return err
		}
	}
	if err := e.awaitRollout(ctx, meshNamespace, false); err != nil {
		return err
	}
	want := options.DefaultInboundPolicy
	if want == "" {
		want = e.Mesh.DefaultPolicy
	}
	return eventually(ctx, settleBudget, func() error { return e.injects(ctx, want) })
}

// defaultPolicyEnv is how the injector hands a pod its default policy.
const defaultPolicyEnv = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"

// injects says whether a pod that is created now gets that default policy. The
// old injector may answer for a moment after the new one is ready; so the
// injector is asked, by creating a pod without keeping it.
func (e *run) injects(ctx context.Context, policy string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mp-" + e.short() + "-asks", Namespace: e.shared.namespace,
		Annotations: map[string]string{injectKey: string(injected(true))}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "none", Image: "meshproof/none"}}}}
	if err := e.shared.ensure(ctx); err != nil {
		return err
	}
	answer, err := e.kube.typed.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return fmt.Errorf("ask the injector: %w", err)
	}
	for _, container := range answer.Spec.Containers {
		for _, env := range container.Env {
			if container.Name == proxyContainer && env.Name == defaultPolicyEnv {
				if env.Value != policy {
					return fmt.Errorf("the injector still gives new pods the default policy %s", env.Value)
				}
				return nil
			}
		}
	}
	return errors.New("the injector gave a new pod no proxy with a default policy")
}

// request resolves a request of the scenario for a client.
func (s *scenarioRun) request(ctx context.Context, r *scenarios.Request, id string) (clients.Request, client, error) {
	from, ok := s.clients[r.Client]
	if !ok {
		return clients.Request{}, from, fmt.Errorf("client %s is not there", r.Client)
	}
	target, err := s.planned.Target(r.Target, r.Protocol)
	if err != nil {
		return clients.Request{}, from, err
	}
	address, err := s.address(ctx, target, r.Via)
	if err != nil {
		return clients.Request{}, from, err
	}
	out := clients.Request{ID: id, Protocol: clients.Protocol(r.Protocol), Address: address, Method: r.Method, Path: r.Path, Headers: r.Headers,
		Connection: clients.Connection(r.Connection), Timeout: r.Timeout, SpeakAfter: r.SpeakAfter}
	if out.Timeout == 0 {
		out.Timeout = callTimeout
	}
	if r.Protocol == scenarios.GRPC {
		out.Method, out.Path = r.Path, ""
		if out.Method == "" {
			out.Method = echoMethod
		}
	}
	return from.tls(out, identity(s.space(target.Workload.Namespace), s.accountOf(target))), from, nil
}

// echoMethod is what a gRPC call of an echo workload calls when the scenario
// names no method.
const echoMethod = "/meshproof.echo.v1.Echo/Say"

func (s *scenarioRun) accountOf(t scenarios.Target) string {
	if t.Workload.Kind != scenarios.Emojivoto {
		return t.Workload.ServiceAccount
	}
	if t.Component == "vote-bot" {
		return ""
	}
	return t.Component
}

// address is the Service's, unless the pod's is asked for or the Service does
// not have the port.
func (s *scenarioRun) address(ctx context.Context, t scenarios.Target, via scenarios.Via) (string, error) {
	if via != scenarios.ViaPod && t.PortName != "" && t.PortName != scenarios.AdminPortName && t.Service != "" {
		namespace := s.space(t.Workload.Namespace)
		service, err := s.service(ctx, namespace, t.Service)
		if err != nil {
			return "", err
		}
		return net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(t.ServicePort)), nil
	}
	pods := s.componentPods(t.Component)
	if len(pods) == 0 || pods[0].Status.PodIP == "" {
		return "", fmt.Errorf("%s has no pod with an address", t.Component)
	}
	return net.JoinHostPort(pods[0].Status.PodIP, strconv.Itoa(t.Port)), nil
}

func (s *scenarioRun) service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	s.mu.Lock()
	known := s.services[namespace+"/"+name]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	service, err := s.e.kube.typed.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find Service %s/%s: %w", namespace, name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[namespace+"/"+name] = service
	return service, nil
}

// streamRun is a stream of calls with the answers so far. Several claims may
// judge one stream at a time, each under mu.
type streamRun struct {
	mu      sync.Mutex
	client  client
	name    string
	seq     int64
	answers []control.Numbered
	missed  int64
	dropped int64
	stopped bool
}

func (s *scenarioRun) start(ctx context.Context, a *scenarios.Stream) (string, error) {
	line := fmt.Sprintf("start stream %s: %s calls %s over %s at %v/s", a.Name, a.Client, a.Target, a.Protocol, a.Rate)
	request, from, err := s.request(ctx, &a.Request, "")
	if err != nil {
		return line, err
	}
	stream := &streamRun{client: from, name: s.res.Name + "-" + a.Name}
	request.ID = stream.name
	if err := from.agent.StartStream(ctx, control.StreamSpec{Name: stream.name, Request: request, Rate: a.Rate}); err != nil {
		return line, err
	}
	s.streams[a.Name] = stream
	// The stream flows before the next action: one answer is awaited.
	return line, stream.read(ctx, callTimeout)
}

// read takes over the answers that have come; with a wait it waits for the
// first of them.
func (r *streamRun) read(ctx context.Context, wait time.Duration) error {
	page, err := r.client.agent.Stream(ctx, r.name, r.seq, wait)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", r.name, err)
	}
	r.take(page)
	return nil
}

func (r *streamRun) take(page control.StreamPage) {
	r.answers = append(r.answers, page.Outcomes...)
	for _, one := range page.Outcomes {
		r.seq = max(r.seq, one.Seq)
	}
	r.missed, r.dropped = page.Missed, r.dropped+page.Dropped
}

func (r *streamRun) stop(ctx context.Context) error {
	page, err := r.client.agent.StopStream(ctx, r.name, r.seq)
	if err != nil {
		return fmt.Errorf("stop stream %s: %w", r.name, err)
	}
	r.take(page)
	r.stopped = true
	return nil
}

// positions are how many calls each running stream has made.
func (s *scenarioRun) positions(ctx context.Context) map[string]int64 {
	out := map[string]int64{}
	for name, stream := range s.streams {
		if !stream.stopped {
			_ = stream.read(ctx, 0)
		}
		out[name] = stream.lastCall()
	}
	return out
}

func (r *streamRun) lastCall() int64 {
	last := int64(0)
	for _, one := range r.answers {
		last = max(last, one.Call)
	}
	return last
}

// heldRun is a connection that is held open.
type heldRun struct {
	client client
	name   string
	target scenarios.Target
	spec   *scenarios.Hold
	state  clients.HeldState
}

func (s *scenarioRun) hold(ctx context.Context, a *scenarios.Hold) (string, error) {
	line := fmt.Sprintf("hold connection %s: %s to %s over %s", a.Name, a.Client, a.Target, a.Protocol)
	request, from, err := s.request(ctx, &a.Request, "")
	if err != nil {
		return line, err
	}
	held := &heldRun{client: from, name: s.res.Name + "-" + a.Name, spec: a}
	held.target, _ = s.planned.Target(a.Target, a.Protocol)
	held.state, err = from.agent.OpenConnection(ctx, control.ConnectionSpec{Name: held.name, Request: request})
	if err != nil {
		return line, err
	}
	s.held[a.Name] = held
	if !held.state.Open || held.state.EchoesReceived == 0 {
		return line, fmt.Errorf("the connection did not come about: %s %s", held.state.How, held.state.Message)
	}
	return line, nil
}
