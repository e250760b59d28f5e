package scenarios

import (
	"cmp"
	"time"

	"github.com/invopop/jsonschema"
)

// Fault is something that is broken on purpose, for an interval: while it lasts
// nobody can tell proxies of new policy, so what was in force stays right, and the
// budgets of the proxies that it concerns stand still. It ends with its heal action,
// or without one after the time it is given; whatever happens, with the scenario.
type Fault struct {
	Pos `yaml:"-" json:"-"`
	// Name by which it is healed and stands in reports; the kind when absent.
	Name string    `yaml:"name"`
	Kind FaultKind `yaml:"kind" jsonschema:"required"`
	// Workload whose pods are concerned, for faults of proxies and of their connections to the controller.
	Workload string `yaml:"workload"`
	// For is how long it lasts at least: its heal action waits until then. Without a heal action the fault action itself lasts that long.
	For time.Duration `yaml:"for"`
	// Delay of what is sent either way, for slow connections: 1s when absent.
	Delay time.Duration `yaml:"delay"`
	// Rate of cuts per second, for flapping connections: 10 when absent.
	Rate float64 `yaml:"rate"`
	// Percent of packets that are lost: 5 when absent.
	Percent int `yaml:"percent"`
}

// FaultKind is what is broken.
type FaultKind string

const (
	// ControllerKilled: the policy controller's processes are killed, and kept from starting again.
	ControllerKilled FaultKind = "controller-killed"
	// ControllerPaused: they stop where they are, with their connections open.
	ControllerPaused FaultKind = "controller-paused"
	// ControllerRestarted: they are killed, and started again by the kubelet.
	ControllerRestarted FaultKind = "controller-restarted"
	// ControllersTwo: a second controller runs beside the first.
	ControllersTwo FaultKind = "controllers-two"
	// PolicyStreamCut: connections to the controller are reset, and new ones refused.
	PolicyStreamCut FaultKind = "policy-stream-cut"
	// PolicyStreamBlackholed: nothing arrives on them either way, and nobody is told.
	PolicyStreamBlackholed FaultKind = "policy-stream-blackholed"
	// PolicyStreamDelayed: what is sent on them arrives later.
	PolicyStreamDelayed FaultKind = "policy-stream-delayed"
	// PolicyStreamFlapping: they are reset again and again.
	PolicyStreamFlapping FaultKind = "policy-stream-flapping"
	// APIServerSlow: what the controller asks of the API server takes longer.
	APIServerSlow FaultKind = "api-server-slow"
	// APIServerAway: the controller's connections to the API server are reset, and new ones refused.
	APIServerAway FaultKind = "api-server-away"
	// ProxyKilled: the proxies of a workload are killed, and started again by the kubelet.
	ProxyKilled FaultKind = "proxy-killed"
	// ProxyPaused: they stop where they are, and read nothing.
	ProxyPaused FaultKind = "proxy-paused"
	// ProxyEnded: they are told to end, as when their pod does, and are started again by the kubelet.
	ProxyEnded FaultKind = "proxy-ended"
	// AppKilled: the application of a workload is killed, and started again by the kubelet.
	AppKilled FaultKind = "app-killed"
	// AppPaused: it stops where it is, with its connections open.
	AppPaused FaultKind = "app-paused"
	// CertificateExpired: a workload's pods start again with certificates of a short life, and those come to their end while nobody renews them.
	CertificateExpired FaultKind = "certificate-expired"
	// CertificateRotated: certificates have a short life, so that proxies that start meanwhile renew theirs again and again.
	CertificateRotated FaultKind = "certificate-rotated"
	// IdentityDown: nobody certifies proxies.
	IdentityDown FaultKind = "identity-down"
	// TrustAnchorReplaced: the mesh gets another trust anchor.
	TrustAnchorReplaced FaultKind = "trust-anchor-replaced"
	// AdmissionDown: nobody checks policy objects before they are stored.
	AdmissionDown FaultKind = "admission-down"
	// InjectorDown: nobody adds proxies to pods.
	InjectorDown FaultKind = "injector-down"
	// PacketsLost: what the pods of a workload send and receive is lost in part, by chance.
	PacketsLost FaultKind = "packets-lost"
	// ProxyShortOfFiles: the proxies of a workload can open hardly any connection more.
	ProxyShortOfFiles FaultKind = "proxy-short-of-files"
	// ClockShifted: proxies see another time.
	ClockShifted FaultKind = "clock-shifted"
	// NodeLost: a node goes away with its pods.
	NodeLost FaultKind = "node-lost"
)

// Values lists the closed set.
func (FaultKind) Values() []string {
	return of(ControllerKilled, ControllerPaused, ControllerRestarted, ControllersTwo, PolicyStreamCut, PolicyStreamBlackholed,
		PolicyStreamDelayed, PolicyStreamFlapping, APIServerSlow, APIServerAway, ProxyKilled, ProxyPaused, ProxyEnded, AppKilled, AppPaused,
		CertificateExpired, CertificateRotated, IdentityDown, TrustAnchorReplaced, AdmissionDown, InjectorDown, PacketsLost, ProxyShortOfFiles, ClockShifted, NodeLost)
}

// JSONSchema is the list.
func (v FaultKind) JSONSchema() *jsonschema.Schema { return enumSchema(v) }

// OfPods says whether the fault is one of single pods: it names their workload,
// and disturbs no other scenario.
func (v FaultKind) OfPods() bool {
	switch v {
	case PolicyStreamCut, PolicyStreamBlackholed, PolicyStreamDelayed, PolicyStreamFlapping, ProxyKilled, ProxyPaused, ProxyEnded, AppKilled, AppPaused,
		PacketsLost, ProxyShortOfFiles:
		return true
	}
	return false
}

// NamesWorkload says whether the fault names a workload: one of pods does, and so
// does one that pods are started again for.
func (v FaultKind) NamesWorkload() bool { return v.OfPods() || v == CertificateExpired }

// Momentary says whether the fault is over by itself: what was killed comes back.
func (v FaultKind) Momentary() bool {
	return v == ControllerRestarted || v == ProxyKilled || v == ProxyEnded || v == AppKilled
}

const (
	// defaultFaultDelay and defaultFlaps are what a fault has that says nothing.
	defaultFaultDelay = time.Second
	defaultFlaps      = 10.0
	defaultLoss       = 5
	// maxFaultDelay and maxFlaps bound what makes sense.
	maxFaultDelay = time.Minute
	maxFlaps      = 100.0
)

// Called is the fault's name.
func (f *Fault) Called() string { return cmp.Or(f.Name, string(f.Kind)) }

// Slowness is the delay of slow connections.
func (f *Fault) Slowness() time.Duration { return cmp.Or(f.Delay, defaultFaultDelay) }

// Every is the time between two cuts of flapping connections.
func (f *Fault) Every() time.Duration {
	return time.Duration(float64(time.Second) / cmp.Or(f.Rate, defaultFlaps))
}

// Loss is the share of packets that are lost, in percent.
func (f *Fault) Loss() int { return cmp.Or(f.Percent, defaultLoss) }

// Healed says whether an action of the scenario heals the fault of that name.
func (s *Scenario) Healed(name string) bool {
	for _, step := range s.Spec.Steps {
		for _, action := range step.Actions {
			if action.Heal == name {
				return true
			}
		}
	}
	return false
}

// fault checks a fault, and what heals one.
func (v *validator) fault(a *Action) {
	if a.Heal != "" {
		v.known(a.Pos, "fault", a.Heal, v.faults)
		delete(v.faults, a.Heal) // once, until it begins again
	}
	f := a.Fault
	if f == nil {
		return
	}
	if v.faults[f.Called()] {
		v.add(f.Pos, "the fault %q lasts already: heal it first, or give this one another name", f.Called())
	}
	healed := v.s.Healed(f.Called())
	if healed {
		v.faults[f.Called()] = true
	}
	switch {
	case f.Kind.NamesWorkload() && f.Workload == "":
		v.add(f.Pos, "%s is a fault of pods: give their workload", f.Kind)
	case f.Kind.NamesWorkload():
		v.workload(f.Pos, f.Workload)
	case f.Workload != "":
		v.add(f.Pos, "%s is no fault of a workload's pods: remove workload", f.Kind)
	}
	if !f.Kind.OfPods() && !v.s.Spec.Serial && f.Kind != "" {
		v.add(f.Pos, "%s changes what other scenarios rely on: the scenario needs serial: true", f.Kind)
	}
	if f.Kind.Momentary() == (healed || f.For > 0) && f.Kind != "" {
		if f.Kind.Momentary() {
			v.add(f.Pos, "%s is over by itself: remove for, and what heals it", f.Kind)
		} else {
			v.add(f.Pos, "nothing says how long the fault lasts: give for, or heal it in a later action")
		}
	}
	slow := f.Kind == PolicyStreamDelayed || f.Kind == APIServerSlow
	if f.Delay != 0 && (!slow || f.Delay < 0 || f.Delay > maxFaultDelay) {
		v.add(f.Pos, "delay %s: only slow connections have one, up to %s", f.Delay, maxFaultDelay)
	}
	if f.Rate != 0 && (f.Kind != PolicyStreamFlapping || f.Rate < 0 || f.Rate > maxFlaps) {
		v.add(f.Pos, "rate %v: only flapping connections have one, up to %v", f.Rate, maxFlaps)
	}
	if f.Percent != 0 && (f.Kind != PacketsLost || f.Percent < 0 || f.Percent >= 100) {
		v.add(f.Pos, "percent %d: only packets are lost by it, and not all of them", f.Percent)
	}
}
