package history

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

const limited = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: ns}
spec: {podSelector: {}, port: 8080, accessPolicy: all-unauthenticated}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: older, namespace: ns, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: http}
  identity: {requestsPerSecond: 5}
  overrides: [{requestsPerSecond: 10, clientRefs: [{kind: ServiceAccount, name: alice}, {kind: ServiceAccount, name: carol}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: younger, namespace: ns, creationTimestamp: "2026-01-02T00:00:00Z"}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: http}
  total: {requestsPerSecond: 1000}
`

func limitedWorld(t *testing.T) *World { return worldOf(t, limited) }

func worldOf(t *testing.T, manifest string) *World {
	t.Helper()
	set, err := objects.Read([]objects.Source{{Name: "limited", Stream: strings.NewReader(manifest)}}, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set.World.Settings = oracle.DefaultSettings()
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: map[string]string{api.ControlPlaneLabel: "linkerd"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}, {Name: api.ProxyContainer}}}}
	}
	w, err := NewWorld(api.DialectDocumented, set.World, []*corev1.Pod{pod("a"), pod("b")})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func flowOf(pod, account, address string) Flow {
	f := Flow{Pod: "ns/" + pod, Port: 8080, Client: oracle.Client{Way: oracle.Plain, Address: netip.MustParseAddr(address)}, Request: oracle.Request{Protocol: oracle.HTTP1}}
	if account != "" {
		f.Client.Way, f.Client.Identity = oracle.Meshed, account+".ns.serviceaccount.identity.linkerd.cluster.local"
	}
	return f
}

// asAt makes 20 calls per second of each flow for 3 s; limits says how many of
// the calls of a flow are limited, from the end.
func asAt(shows string, flows []Flow, limits ...int) *Question {
	const calls = 60
	q := &Question{Claim: "c", Shows: []string{shows}, Form: Rate, Flows: flows}
	for flow := range flows {
		for n := range calls {
			kind := clients.Allowed
			if n >= calls-limits[flow] {
				kind = clients.Limited
			}
			at := int64(n*50_000 + flow*7)
			q.Observed.Sent = append(q.Observed.Sent, Sent{Flow: flow, At: at, Answered: at + 1500, Kind: kind})
		}
	}
	return q
}

func TestASeriesFitsTheLimitsUnderWhichItWasMade(t *testing.T) {
	w := limitedWorld(t)
	alice, stranger := flowOf("a", "alice", "10.0.0.1"), flowOf("a", "", "10.0.0.2")
	for _, test := range []struct {
		name string
		q    *Question
		fits bool
	}{
		{"as many as the rules say", asAt("", []Flow{alice, stranger}, 21, 41), true},
		{"one more", asAt("", []Flow{alice, stranger}, 22, 42), true},
		{"many more", asAt("", []Flow{alice, stranger}, 28, 41), false},
		{"many less", asAt("", []Flow{alice, stranger}, 21, 30), false},
		{"each as much as the other should", asAt("", []Flow{alice, stranger}, 41, 21), false},
		{"nothing", asAt("", []Flow{alice}, 0), false},
	} {
		differences, err := test.q.judgeIn(w, oracle.DefaultRules())
		if err != nil || (len(differences) == 0) != test.fits {
			t.Errorf("%s: differences %v, %v", test.name, differences, err)
		}
	}
	denied := asAt("", []Flow{alice}, 21)
	denied.Observed.Sent[0].Kind = clients.Forbidden
	if differences, err := denied.judgeIn(w, oracle.DefaultRules()); err != nil || len(differences) == 0 {
		t.Errorf("a denied call among limited ones: differences %v, %v", differences, err)
	}
}

// Two flows of which one is a multiple of the other meet the bucket at the same
// moments again and again: who was first is chance, and no difference.
func TestFlowsThatKeepStepFitWhateverTheirOrder(t *testing.T) {
	w := worldOf(t, strings.NewReplacer("identity: {requestsPerSecond: 5}", "identity: {requestsPerSecond: 4}\n  total: {requestsPerSecond: 8}", "overrides: [{requestsPerSecond: 10", "overrides: [{requestsPerSecond: 5").Replace(limited))
	o, err := w.Oracle(oracle.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(60) {
		chance := rand.New(rand.NewPCG(seed, 1))
		q := &Question{Claim: "c", Form: Rate, Flows: []Flow{flowOf("a", "bob", "10.0.0.1"), flowOf("a", "", "10.0.0.2")}}
		var series []oracle.Paced
		for f, every := range []int64{1_000_000 / 60, 250_000} {
			flow := q.Flows[f]
			limits := o.Judge(w.pod(flow.Pod), flow.Port, flow.Client, flow.Request).Limits
			for at := int64(f) * int64(seed) * 300; at < 3_000_000; at += every {
				sent := Sent{Flow: f, At: at, Answered: at + 1000 + chance.Int64N(4000), Kind: clients.Allowed}
				q.Observed.Sent = append(q.Observed.Sent, sent)
				series = append(series, oracle.Paced{At: time.Duration(sent.At+chance.Int64N(sent.Answered-sent.At)) * time.Microsecond, Client: flow.Client, Limits: limits})
			}
		}
		for i, limited := range o.Limited(series) {
			if limited {
				q.Observed.Sent[i].Kind = clients.Limited
			}
		}
		if differences, err := q.judgeIn(w, oracle.DefaultRules()); err != nil || len(differences) > 0 {
			t.Errorf("order %d: differences %v, %v", seed, differences, err)
		}
	}
}

// What was observed under the rules is at odds with the contrary of each rule
// that it shows.
func TestEveryNegationOfALimitTurnsASeries(t *testing.T) {
	w := limitedWorld(t)
	alice, carol := flowOf("a", "alice", "10.0.0.1"), flowOf("a", "carol", "10.0.0.3")
	stranger, other := flowOf("a", "", "10.0.0.2"), flowOf("a", "", "10.0.0.4")
	questions := []*Question{
		asAt("R-01", []Flow{stranger}, 41), asAt("R-02", []Flow{stranger}, 41), asAt("S-09", []Flow{stranger}, 41),
		asAt("R-03", []Flow{stranger, flowOf("b", "", "10.0.0.2")}, 41, 41),
		asAt("R-05", []Flow{alice}, 21), asAt("R-11", []Flow{alice}, 21), asAt("R-04", []Flow{alice}, 21),
		asAt("R-06", []Flow{stranger, other}, 50, 51), asAt("R-07", []Flow{alice, carol}, 40, 41),
	}
	for _, q := range questions {
		if differences, err := q.judgeIn(w, oracle.DefaultRules()); err != nil || len(differences) > 0 {
			t.Errorf("%s: differences %v, %v", q.Shows, differences, err)
		}
		found := false
		for _, n := range oracle.Negations() {
			if !slices.Contains(q.Shows, n.Rule) {
				continue
			}
			found = true
			rules := oracle.DefaultRules()
			n.Apply(&rules)
			if differences, err := q.judgeIn(w, rules); err != nil || len(differences) == 0 {
				t.Errorf("%s: %s, and nothing differs (%v)", n.Rule, n.As, err)
			}
		}
		if !found {
			t.Errorf("%s has no negation", q.Shows)
		}
	}
}
