package order_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/policy/order"
)

func server(name, more string) string {
	return fmt.Sprintf("{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: %s, namespace: ns}, spec: {podSelector: {}, port: 8080%s}}", name, more)
}

func grant(name, server, account string) string {
	return fmt.Sprintf("{apiVersion: policy.linkerd.io/v1beta1, kind: ServerAuthorization, metadata: {name: %s, namespace: ns}, spec: {server: {name: %s}, client: {meshTLS: {serviceAccounts: [{name: %s}]}}}}", name, server, account)
}

const route = "{apiVersion: policy.linkerd.io/v1beta3, kind: HTTPRoute, metadata: {name: all, namespace: ns}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}], rules: [{matches: [{path: {type: PathPrefix, value: /}}]}]}}"

func read(t *testing.T, texts []string) *objects.Set {
	t.Helper()
	set, err := objects.Read([]objects.Source{{Name: "test", Stream: strings.NewReader(strings.Join(texts, "\n---\n"))}}, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// planned is the plan of a change: what is there, what is applied in this order,
// and what is deleted after that (KIND NAME). alice and bob call GET /.
func planned(t *testing.T, policy api.PolicyName, there, applied, gone []string) *order.Plan {
	t.Helper()
	before, change := read(t, there), read(t, applied)
	before.World.Settings.DefaultPolicy = policy
	c := order.Change{Before: before.World, After: before.World, Dialect: api.Documented(), Rules: oracle.DefaultRules()}
	for _, w := range change.Written {
		c.Writes = append(c.Writes, order.Write{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name})
		objects.Take(&c.After, change.World, w.Kind, w.Namespace, w.Name)
	}
	for _, text := range gone {
		kind, name, _ := strings.Cut(text, " ")
		c.Writes = append(c.Writes, order.Write{Deleted: true, Kind: kind, Namespace: "ns", Name: name})
		objects.Take(&c.After, oracle.World{}, kind, "ns", name)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}}}
	for _, name := range []string{"alice", "bob"} {
		client := oracle.Client{Way: oracle.Meshed, Address: netip.MustParseAddr("10.0.0.8"), Identity: name + ".ns.serviceaccount.identity.linkerd.cluster.local"}
		c.Calls = append(c.Calls, order.Call{Name: name, Pod: pod, Port: 8080, Client: client, Request: oracle.Request{Protocol: oracle.HTTP1}})
	}
	p, err := c.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// story is an order with its gaps, such as "apply Server http; alice deny 1-2".
func story(p *order.Plan, o order.Order) string {
	var parts []string
	for _, i := range o.Steps {
		w := p.Writes[i]
		parts = append(parts, map[bool]string{true: "-", false: "+"}[w.Deleted]+w.Name)
	}
	text := strings.Join(parts, " ")
	for _, g := range o.Gaps {
		text += fmt.Sprintf("; %s %s %d-%d", p.Calls[g.Call].Name, g.Kind, g.After, g.Until)
	}
	return text
}

func TestTheRecommendedOrderHasNoGapThatAnotherOneAvoids(t *testing.T) {
	for name, row := range map[string]struct {
		policy               api.PolicyName
		there, applied, gone []string
		given, best          string
		clean, orders        float64
	}{
		"the authorization before its Server": {api.AllUnauthenticated, nil, []string{server("http", ""), grant("alice", "http", "alice")}, nil,
			"+http +alice; alice deny 1-2", "+alice +http", 1, 2},
		"under deny either will do": {api.Deny, nil, []string{server("http", ""), grant("alice", "http", "alice")}, nil,
			"+http +alice", "+http +alice", 2, 2},
		"the new Server before the old one goes": {api.AllUnauthenticated, []string{server("a", ""), grant("alice", "a", "alice")}, []string{server("b", ""), grant("more", "b", "alice")}, []string{"Server a", "ServerAuthorization alice"},
			"+b +more -a -alice", "+b +more -a -alice", 2, 24},
		"the Server goes before its replacement is there": {api.AllUnauthenticated, []string{server("b", "")}, []string{server("a", "")}, []string{"Server b"},
			"+a -b", "+a -b", 1, 2},
		"an authorization is exchanged": {api.Deny, []string{server("http", ""), grant("old", "http", "alice")}, []string{grant("new", "http", "alice")}, []string{"ServerAuthorization old"},
			"+new -old", "+new -old", 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := planned(t, row.policy, row.there, row.applied, row.gone)
			if got := story(p, p.AsWritten); got != row.given {
				t.Errorf("as given: %s, want %s", got, row.given)
			}
			if got := story(p, p.Best); got != row.best {
				t.Errorf("recommended: %s, want %s", got, row.best)
			}
			if !p.Exact || p.Clean != row.clean || p.Orders != row.orders {
				t.Errorf("%.0f of %.0f orders have no gap (exact %v), want %.0f of %.0f", p.Clean, p.Orders, p.Exact, row.clean, row.orders)
			}
		})
	}
}

func TestWhatOpensAPortInBetweenIsAnAllowGap(t *testing.T) {
	// Both Servers deny bob. Without either, the port is open to everybody.
	p := planned(t, api.AllUnauthenticated, []string{server("a", "")}, []string{server("b", "")}, []string{"Server a"})
	if got, want := story(p, p.Best), "+b -a"; got != want {
		t.Errorf("recommended: %s, want %s", got, want)
	}
	if got, want := story(p, p.Walk([]int{1, 0})), "-a +b; alice allow 1-2; bob allow 1-2"; got != want {
		t.Errorf("the other way round: %s, want %s", got, want)
	}
	opened := planned(t, api.AllUnauthenticated, []string{server("a", "")}, nil, []string{"Server a"})
	if len(opened.AsWritten.Gaps) != 0 {
		t.Errorf("what changes between before and after is no gap: %+v", opened.AsWritten.Gaps)
	}
}

func TestWhatIsWrittenAtOnceMayBeSeenKindByKind(t *testing.T) {
	p := planned(t, api.AllUnauthenticated, nil, []string{grant("alice", "http", "alice"), server("http", "")}, nil)
	if len(p.AsWritten.Gaps) != 0 {
		t.Errorf("one after the other there is no gap: %s", story(p, p.AsWritten))
	}
	if len(p.AtOnce) != 1 || p.Calls[p.AtOnce[0].Call].Name != "alice" || p.AtOnce[0].Kind != order.Deny {
		t.Errorf("at once alice may be denied: %+v", p.AtOnce)
	}
}

func TestTooManyOrdersAreSearched(t *testing.T) {
	// Twenty grants come and the Server first of all: it must come last.
	applied := []string{server("http", "")}
	for i := range 20 {
		applied = append(applied, grant(fmt.Sprintf("g%02d", i), "http", map[bool]string{true: "alice", false: fmt.Sprintf("nobody-%d", i)}[i == 11]))
	}
	p := planned(t, api.AllUnauthenticated, nil, applied, nil)
	if p.Exact || len(p.AsWritten.Gaps) == 0 || len(p.Best.Gaps) != 0 {
		t.Errorf("exact %v; as given %s; found %s", p.Exact, story(p, p.AsWritten), story(p, p.Best))
	}
	if sorted := slices.Sorted(slices.Values(p.Best.Steps)); len(slices.Compact(sorted)) != len(applied) {
		t.Errorf("the order is not one of all writes: %v", p.Best.Steps)
	}
	if text := text(t, p); !strings.Contains(text, "too many to walk") {
		t.Errorf("the report does not say that it has searched:\n%s", text)
	}
}

func text(t *testing.T, p *order.Plan) string {
	t.Helper()
	var out strings.Builder
	if err := p.Report().WriteText(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestTheWalkIsRight compares what is found by walking worlds with what is found by
// walking each order.
func TestTheWalkIsRight(t *testing.T) {
	there := []string{server("b", ""), grant("old", "b", "alice")}
	applied := []string{server("a", ", proxyProtocol: HTTP/1"), grant("bob", "a", "bob"), grant("alice", "a", "alice"), strings.Replace(route, "name: http", "name: a", 1)}
	p := planned(t, api.AllUnauthenticated, there, applied, []string{"Server b", "ServerAuthorization old"})
	clean, fewest := 0, -1
	var permute func(rest, done []int)
	permute = func(rest, done []int) {
		if len(rest) == 0 {
			gaps := 0
			for _, g := range p.Walk(done).Gaps {
				gaps += g.Until - g.After
				if g.Kind == order.Allow {
					gaps += 1000 * (g.Until - g.After)
				}
			}
			if gaps == 0 {
				clean++
			}
			if fewest < 0 || gaps < fewest {
				fewest = gaps
			}
			return
		}
		for i := range rest {
			permute(slices.Delete(slices.Clone(rest), i, i+1), append(slices.Clone(done), rest[i]))
		}
	}
	var all []int
	for i := range p.Writes {
		all = append(all, i)
	}
	permute(all, nil)
	best := 0
	for _, g := range p.Best.Gaps {
		best += g.Until - g.After
	}
	if float64(clean) != p.Clean || best != fewest {
		t.Errorf("walking the orders finds %d without a gap and one that costs %d, walking the worlds %.0f and %d", clean, fewest, p.Clean, best)
	}
	if clean == 0 || float64(clean) == p.Orders {
		t.Errorf("%d of %.0f orders are clean: nothing is told apart", clean, p.Orders)
	}
}
