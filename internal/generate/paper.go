package generate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/manifests"
)

// On paper a scenario runs in a namespace of this name, and its shared clients in
// the other one.
const (
	paperNamespace = "here"
	paperClients   = "clients"
)

// paperValues stand for the named values, which are known on a cluster only.
var paperValues = map[string]string{"namespace": paperNamespace, "clients": paperClients, "run": "run", "outside": "198.18.0.0/30"}

// The addresses of clients inside and outside the cluster's networks.
var (
	paperInside  = netip.MustParseAddr("10.244.0.10")
	paperOutside = netip.MustParseAddr("198.18.0.1")
)

// onPaper is a value with the named values filled in; what it holds is copied.
func onPaper(value any) any {
	switch value := value.(type) {
	case string:
		text, err := scenarios.Expand(value, paperValues)
		if err != nil {
			return value
		}
		return text
	case object:
		out := make(object, len(value))
		for key, inner := range value {
			out[key] = onPaper(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, inner := range value {
			out[i] = onPaper(inner)
		}
		return out
	}
	return value
}

// paper plays a scenario without a cluster.
type paper struct {
	scenario *scenarios.Scenario
	// pods are one of each workload, as it was asked for.
	pods map[string]*corev1.Pod
}

func newPaper(s *scenarios.Scenario) (*paper, error) {
	p := &paper{scenario: s, pods: map[string]*corev1.Pod{}}
	for i := range s.Spec.Workloads {
		w := &s.Spec.Workloads[i]
		if w.Kind != scenarios.Echo {
			continue
		}
		mesh := manifests.Meshed
		if w.Inject != nil && !*w.Inject {
			mesh = manifests.Unmeshed
		}
		for _, made := range manifests.Echo(manifests.Options{Name: w.Name, Namespace: paperNamespace, Labels: w.Labels, Annotations: w.Annotations, Mesh: mesh}) {
			if made.GetKind() != "Deployment" {
				continue
			}
			var deployment appsv1.Deployment
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(made.Object, &deployment); err != nil {
				return nil, fmt.Errorf("read the Deployment of workload %s: %w", w.Name, err)
			}
			w.Declare(&deployment.Spec.Template.Spec)
			pod := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
			pod.Name, pod.Namespace = w.Name, paperNamespace
			pod.Status.PodIP = "10.244.0.100"
			p.pods[w.Name] = pod
		}
	}
	return p, nil
}

// world is the state as the oracle reads it.
func (p *paper) world(s *state) oracle.World {
	w := oracle.World{Settings: oracle.DefaultSettings()}
	w.Namespaces = []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: paperNamespace, Annotations: p.scenario.Spec.Annotations}}}
	for _, e := range s.entries {
		objects.Join(&w, e.world)
	}
	return w
}

// pod is a workload's, with what was edited since it was created.
func (p *paper) pod(s *state, workload string) *corev1.Pod {
	pod := p.pods[workload]
	if pod == nil || s.labels[workload] == nil && s.annotations[workload] == nil {
		return pod
	}
	pod = pod.DeepCopy()
	edit := func(into *map[string]string, with map[string]*string) {
		if *into == nil {
			*into = map[string]string{}
		}
		for _, key := range slices.Sorted(maps.Keys(with)) {
			if with[key] == nil {
				delete(*into, key)
			} else {
				(*into)[key] = *with[key]
			}
		}
	}
	edit(&pod.Labels, s.labels[workload])
	// The default policy is fixed when a pod is created, in the documented dialect.
	edited := maps.Clone(s.annotations[workload])
	delete(edited, api.DefaultPolicyAnnotation)
	edit(&pod.Annotations, edited)
	return pod
}

// cell is one call of a matrix.
type cell struct {
	client, target string
	protocol       scenarios.Protocol
	method, path   string
}

func (c cell) String() string {
	return fmt.Sprintf("%s → %s over %s %s %s", c.client, c.target, c.protocol, c.method, c.path)
}

// Answer is a call and what becomes of it on paper.
type Answer struct {
	Call    *scenarios.Call
	Client  oracle.Client
	Request oracle.Request
	Verdict oracle.Verdict
}

func (a *Answer) cell() cell {
	return cell{a.Call.Client, a.Call.Target, a.Call.Protocol, a.Call.Method, a.Call.Path}
}

// judge asks the oracle what becomes of the calls in a state.
func (p *paper) judge(s *state, calls []*scenarios.Call, rules oracle.Rules) ([]Answer, error) {
	judge := oracle.New(p.world(s), api.Documented())
	judge.Rules = rules
	var out []Answer
	for _, call := range calls {
		target, err := p.scenario.Target(call.Target, call.Protocol)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(p.scenario.Spec.Clients, func(c scenarios.Client) bool { return c.Name == call.Client })
		if at < 0 {
			return nil, fmt.Errorf("no client is called %q", call.Client)
		}
		declared := p.scenario.Spec.Clients[at]
		pod := p.pod(s, target.Component)
		if pod == nil {
			return nil, fmt.Errorf("%s has no pods on paper", target.Component)
		}
		one := Answer{Call: call}
		if one.Client, err = asked.Client(declared, paperAddress(declared), paperIdentity(declared)); err != nil {
			return nil, err
		}
		if one.Request, err = asked.Request(&call.Request, fmt.Sprintf("%s:%d", pod.Status.PodIP, target.Port)); err != nil {
			return nil, err
		}
		one.Verdict = judge.Judge(pod, uint16(target.Port), one.Client, one.Request)
		out = append(out, one)
	}
	return out, nil
}

// Play says what becomes, by some rules, of the calls that each step's matrices
// make.
func Play(s *scenarios.Scenario, rules oracle.Rules) ([][]Answer, error) {
	sheet, err := newPaper(s)
	if err != nil {
		return nil, err
	}
	at := &state{}
	var out [][]Answer
	for i := range s.Spec.Steps {
		step := &s.Spec.Steps[i]
		at.step = i
		if at, err = at.all(step.Actions); err != nil {
			return nil, fmt.Errorf("scenario %s, step %q: %w", s.Metadata.Name, step.Name, err)
		}
		answers, err := sheet.judge(at, callsOf(step), rules)
		if err != nil {
			return nil, fmt.Errorf("scenario %s, step %q: %w", s.Metadata.Name, step.Name, err)
		}
		out = append(out, answers)
	}
	return out, nil
}

func paperAddress(c scenarios.Client) netip.Addr {
	if c.Network == scenarios.Outside {
		return paperOutside
	}
	return paperInside
}

func paperIdentity(c scenarios.Client) string {
	if c.Identity != "" {
		return c.Identity
	}
	account := c.ServiceAccount
	if account == "" {
		account = "default"
	}
	return onPaper(identity(account)).(string)
}
