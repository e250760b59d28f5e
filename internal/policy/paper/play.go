// Package paper plays scenarios without a cluster.
//
// A scenario goes in; its writes change a world that exists on paper only, and
// every call, matrix cell, held connection, stream and policy claim is put to the
// oracle. Out comes where a written expectation and the rules disagree, what the
// rules say of every call, and what the streams get from one write to the next.
//
// Nothing is called and nothing waits: what is about counters, logs, pods or time
// is left out, and says so. Pods on paper are one per workload.
package paper

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// Why a claim is not put to the oracle.
const (
	skippedItself = "the scenario itself skips it"
	aboutTraffic  = "it is about many calls while something changes, and the oracle knows settled worlds only"
	aboutCounting = "it is about what proxies count and tell, and the oracle counts nothing"
	aboutCluster  = "it is about pods, events and health, which are no matter of policy"
	aboutCommands = "it is about the output of a program"
	aboutOthers   = "it is about a probe that is no request to a port"
	aboutGoingOn  = "it is about a connection or stream that goes on whatever the rules say of the next"
	aboutDialects = "it is for another dialect"
	notAsked      = "it says itself that the rules do not decide it"
)

const (
	paperClients = "mp-clients"
	paperOutside = "198.51.100.0/30"
)

var (
	insideAddress  = netip.MustParseAddr("10.244.0.77")
	outsideAddress = netip.MustParseAddr("198.51.100.1")
)

// Play is a scenario that is played on paper.
type Play struct {
	Set      *scenarios.Set
	Scenario *scenarios.Scenario
	Dialect  scenarios.Dialect
	// Rules are the rule book unless somebody has put others in.
	Rules oracle.Rules
	// Differs is told what is wrong with a claim; nil tells nobody.
	Differs func(scenarios.Claim, string)
	// Saw is told what the rules say of every call, in order; nil tells nobody.
	Saw func(scenarios.Claim, oracle.Verdict)
	// SawSeries is told how many calls of every flow of a series are limited, and
	// then of all; nil tells nobody.
	SawSeries func(scenarios.Claim, Counted)
	// SawWindow is told what each stream gets from write to write of a step; nil
	// tells nobody.
	SawWindow func(Window)
	// Asked counts expectations by kind of claim, and LeftOut claims by reason.
	Asked, LeftOut map[string]int

	settings oracle.Settings
	// namespaces by their real names.
	namespaces map[string]*corev1.Namespace
	// pods by the name of the component, and templates of workloads that were
	// edited.
	pods      map[string]*corev1.Pod
	templates map[string]*scenarios.Workload
	// written are the policy objects by kind, namespace and name.
	written map[string]map[string]any
	clock   time.Time
	// now judges the world as it is; nil after a change. In a step that is frozen
	// it is what it was before.
	now    *oracle.Oracle
	frozen bool
	// unchecked are the objects that were written while nobody checked them, and
	// unchecking the fault that keeps them from being checked.
	unchecked  map[string]bool
	unchecking string
	// baring is the fault by which nobody adds proxies to pods that are made.
	baring string
	// held are the connections that actions have opened.
	held map[string]scenarios.Request
}

// failure is why a scenario cannot be played.
type failure struct{ error }

func failf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// New is a scenario before its first step, by the rules of the rule book.
func New(set *scenarios.Set, scenario *scenarios.Scenario, dialect scenarios.Dialect) *Play {
	return &Play{Set: set, Scenario: scenario, Dialect: dialect, Rules: oracle.DefaultRules(), Asked: map[string]int{}, LeftOut: map[string]int{},
		Differs: func(scenarios.Claim, string) {}, settings: oracle.DefaultSettings(),
		namespaces: map[string]*corev1.Namespace{}, pods: map[string]*corev1.Pod{}, templates: map[string]*scenarios.Workload{}, written: map[string]map[string]any{}, unchecked: map[string]bool{},
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), held: map[string]scenarios.Request{}}
}

// reads is the dialect as the rules know it.
func (p *Play) reads() api.Dialect {
	dialect, err := api.ParseDialect(string(p.Dialect))
	if err != nil {
		failf("%w", err)
	}
	return dialect
}

// Run takes the steps in order. An error says what cannot be played on paper, such
// as the deletion of something that does not exist.
func (p *Play) Run() (err error) {
	defer func() {
		switch why := recover().(type) {
		case nil:
		case failure:
			err = why.error
		default:
			panic(why)
		}
	}()
	spec := p.Scenario.Spec
	if !p.Dialect.For(spec.Dialects) {
		p.LeftOut[aboutDialects]++
		return nil
	}
	p.namespace("", spec.Annotations, spec.Labels)
	for _, n := range spec.Namespaces {
		p.namespace(n.Name, n.Annotations, n.Labels)
	}
	p.namespaces[paperClients] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: paperClients}}
	for i := range spec.Workloads {
		if !spec.Workloads[i].Later {
			p.deploy(&spec.Workloads[i])
		}
	}
	for i := range spec.Steps {
		p.step(&spec.Steps[i])
	}
	return nil
}

func (p *Play) step(step *scenarios.Step) {
	if !p.Dialect.For(step.Dialects) {
		p.LeftOut[aboutDialects] += len(step.Claims)
		return
	}
	if p.frozen = step.Frozen; p.frozen {
		p.oracle() // as it is before the step
	}
	windows := p.open(step)
	for range max(step.Repeat, 1) {
		for i := range step.Actions {
			if action := &step.Actions[i]; p.Dialect.For(action.Dialects) {
				p.act(*action)
				p.look(windows, action)
			}
		}
	}
	for _, window := range windows {
		p.compare(window)
	}
	for _, claim := range step.Claims {
		p.claim(claim)
	}
	if step.Frozen {
		p.now = nil
	}
}

// real is the real name of one of the scenario's namespaces, "" its own.
func (p *Play) real(name string) string {
	if name == "" {
		return cmp.Or(p.Scenario.Spec.Namespace, "mp-"+p.Scenario.Metadata.Name)
	}
	for _, n := range p.Scenario.Spec.Namespaces {
		if n.Name == name && n.Exact {
			return name
		}
	}
	return "mp-" + name
}

func (p *Play) namespace(name string, annotations, labels map[string]string) {
	real := p.real(name)
	p.namespaces[real] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: real, Labels: labels, Annotations: maps.Clone(annotations)}}
}

// named puts named values in.
func (p *Play) named(text string) string {
	pairs := []string{"${namespace}", p.real(""), "${clients}", paperClients, "${outside}", paperOutside, "${run}", "run"}
	for _, n := range p.Scenario.Spec.Namespaces {
		pairs = append(pairs, "${ns."+n.Name+"}", p.real(n.Name))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (p *Play) workload(name string) *scenarios.Workload {
	for i := range p.Scenario.Spec.Workloads {
		if w := &p.Scenario.Spec.Workloads[i]; w.Name == name {
			return w
		}
	}
	if w, _, found := p.Scenario.Component(name); found {
		return w
	}
	failf("no workload is called %s", name)
	panic("unreachable")
}

// act is what an action writes; what it does besides, traffic for instance, is no
// matter of policy.
func (p *Play) act(a scenarios.Action) {
	if !p.frozen {
		p.now = nil
	}
	switch {
	case a.Apply != nil:
		for _, o := range a.Apply {
			p.apply(o.Content)
		}
	case a.Manifest != "":
		for _, o := range p.Set.ManifestOf(p.Scenario, a.Manifest) {
			p.apply(o.Content)
		}
	case a.Delete != nil:
		for _, ref := range a.Delete {
			key := p.key(ref.Kind, ref.Namespace, ref.Name)
			if p.written[key] == nil {
				failf("%s is deleted and does not exist", key)
			}
			delete(p.written, key)
		}
	case a.Patch != nil && a.Patch.Kind == "Deployment":
		p.template(a.Patch)
	case a.Patch != nil:
		p.patch(p.key(a.Patch.Kind, a.Patch.Namespace, a.Patch.Name), a.Patch.Merge.Content)
	case a.Annotate != nil:
		p.mark(a.Annotate, "annotations", func(m *metav1.ObjectMeta) *map[string]string { return &m.Annotations })
	case a.Label != nil:
		p.mark(a.Label, "labels", func(m *metav1.ObjectMeta) *map[string]string { return &m.Labels })
	case a.Deploy != nil:
		p.deploy(p.workload(a.Deploy.Workload))
	case a.Restart != nil:
		p.deploy(p.workload(a.Restart.Workload))
	case a.Remove != nil:
		delete(p.pods, a.Remove.Workload)
	case a.Fault != nil && a.Fault.Kind == scenarios.AdmissionDown && a.Fault.For == 0:
		p.unchecking = cmp.Or(a.Fault.Name, string(a.Fault.Kind))
	case a.Fault != nil && a.Fault.Kind == scenarios.InjectorDown && a.Fault.For == 0:
		p.baring = cmp.Or(a.Fault.Name, string(a.Fault.Kind))
	case a.Heal != "" && a.Heal == p.unchecking:
		p.unchecking = ""
	case a.Heal != "" && a.Heal == p.baring:
		p.baring = ""
	case a.Hold != nil:
		p.held[a.Hold.Name] = a.Hold.Request
	case a.Install != nil:
		p.settings = oracle.DefaultSettings()
		if policy := a.Install.DefaultInboundPolicy; policy != "" {
			p.settings.DefaultPolicy = api.PolicyName(policy)
		}
		if a.Install.ClusterNetworks != nil {
			p.settings.ClusterNetworks = nil
			for _, text := range a.Install.ClusterNetworks {
				p.settings.ClusterNetworks = append(p.settings.ClusterNetworks, netip.MustParsePrefix(p.named(text)))
			}
		}
		if a.Install.ProbeNetworks != nil {
			p.settings.ProbeNetworks = nil
			for _, text := range a.Install.ProbeNetworks {
				p.settings.ProbeNetworks = append(p.settings.ProbeNetworks, netip.MustParsePrefix(p.named(text)))
			}
		}
	}
}

// key is what an object is kept under; a kind without its group is of policy, or
// is a GRPCRoute.
func (p *Play) key(kind, namespace, name string) string {
	if kind == api.GRPCRouteKind {
		kind += "." + api.GatewayGroup
	}
	kind = strings.TrimSuffix(kind, "."+api.Group)
	return kind + " " + cmp.Or(p.named(namespace), p.real("")) + "/" + p.named(name)
}

// apply keeps the time at which an object was first made.
func (p *Play) apply(content map[string]any) {
	text, err := json.Marshal(content)
	if err != nil {
		failf("%w", err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(p.named(string(text))), &object); err != nil {
		failf("%w", err)
	}
	meta := object["metadata"].(map[string]any)
	namespace, _ := meta["namespace"].(string)
	group, _, _ := strings.Cut(object["apiVersion"].(string), "/")
	key := p.key(object["kind"].(string)+"."+group, namespace, meta["name"].(string))
	meta["namespace"] = cmp.Or(namespace, p.real(""))
	p.clock = p.clock.Add(time.Second)
	meta["creationTimestamp"] = p.clock.Format(time.RFC3339)
	if old := p.written[key]; old != nil {
		meta["creationTimestamp"] = old["metadata"].(map[string]any)["creationTimestamp"]
	}
	p.written[key], p.unchecked[key] = object, p.unchecking != ""
}

func (p *Play) patch(key string, merge map[string]any) {
	old := p.written[key]
	if old == nil {
		failf("%s is patched and does not exist", key)
	}
	before, err := json.Marshal(old)
	if err != nil {
		failf("%w", err)
	}
	change, err := json.Marshal(merge)
	if err != nil {
		failf("%w", err)
	}
	after, err := jsonpatch.MergePatch(before, []byte(p.named(string(change))))
	if err != nil {
		failf("%w", err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(after, &object); err != nil {
		failf("%w", err)
	}
	p.written[key] = object
}

// mark edits annotations or labels of a workload's pods, a namespace or a policy.
func (p *Play) mark(a *scenarios.Annotate, field string, of func(*metav1.ObjectMeta) *map[string]string) {
	edit := func(meta *metav1.ObjectMeta) {
		values := of(meta)
		if *values == nil {
			*values = map[string]string{}
		}
		maps.Copy(*values, a.Set)
		for _, key := range a.Remove {
			delete(*values, key)
		}
	}
	switch {
	case a.Workload != "":
		for name := range p.workload(a.Workload).Components() {
			edit(&p.pods[name].ObjectMeta)
		}
	case a.Kind == "Namespace":
		edit(&p.namespaces[p.named(a.Name)].ObjectMeta)
	default:
		values := map[string]any{}
		for key, value := range a.Set {
			values[key] = value
		}
		for _, key := range a.Remove {
			values[key] = nil
		}
		p.patch(p.key(a.Kind, a.Namespace, a.Name), map[string]any{"metadata": map[string]any{field: values}})
	}
}

// oracle is one for the world as it is now.
func (p *Play) oracle() oracle.Oracle {
	if p.now == nil {
		now := p.judge()
		p.now = &now
	}
	return *p.now
}

func (p *Play) judge() oracle.Oracle {
	// Some namespaces are passed over by the webhook.
	var texts [2]bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(p.written)) {
		object, err := json.Marshal(p.written[key])
		if err != nil {
			failf("%w", err)
		}
		text := &texts[0]
		if p.unchecked[key] || p.passedOver(p.written[key]["metadata"].(map[string]any)["namespace"].(string)) {
			text = &texts[1]
		}
		text.WriteString("---\n")
		text.Write(object)
		text.WriteString("\n")
	}
	world := p.policies(&texts[0], false)
	objects.Join(&world, p.policies(&texts[1], true))
	for _, n := range p.namespaces {
		world.Namespaces = append(world.Namespaces, n)
	}
	world.Settings = p.settings
	now := oracle.New(world, p.reads())
	now.Rules = p.Rules
	return now
}

func (p *Play) passedOver(namespace string) bool {
	return p.namespaces[namespace] != nil && p.namespaces[namespace].Labels["config.linkerd.io/admission-webhooks"] == "disabled"
}

func (p *Play) policies(text *bytes.Buffer, webhookAway bool) oracle.World {
	set, err := objects.Read([]objects.Source{{Name: p.Scenario.Metadata.Name, Stream: text}}, objects.Options{WebhookAway: webhookAway})
	if err != nil {
		failf("%w", err)
	}
	if len(set.Others) > 0 {
		failf("%v is no policy", set.Others)
	}
	return set.World
}
