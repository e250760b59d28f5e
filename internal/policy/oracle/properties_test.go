package oracle_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// The rows show what each rule does alone. Here their objects are thrown
// together, and what must hold in every world is checked.

// pool is every object of the rows, each alone in a world.
func pool(t *testing.T) []oracle.World {
	t.Helper()
	var texts []string
	for _, r := range rows() {
		texts = append(texts, r.objects...)
	}
	slices.Sort(texts)
	var worlds []oracle.World
	for _, text := range slices.Compact(texts) {
		set, err := objects.Read([]objects.Source{{Name: "pool", Stream: strings.NewReader(text)}}, objects.Options{WebhookAway: true})
		if err != nil {
			t.Fatal(err)
		}
		worlds = append(worlds, set.World)
	}
	return worlds
}

// together is one world of several; two objects of one name cannot be.
func together(worlds []oracle.World) oracle.World {
	w := oracle.World{Settings: oracle.DefaultSettings()}
	seen := map[string]bool{}
	for _, one := range worlds {
		merge(&w.Servers, one.Servers, seen)
		merge(&w.ServerAuthorizations, one.ServerAuthorizations, seen)
		merge(&w.AuthorizationPolicies, one.AuthorizationPolicies, seen)
		merge(&w.MeshTLSAuthentications, one.MeshTLSAuthentications, seen)
		merge(&w.NetworkAuthentications, one.NetworkAuthentications, seen)
		merge(&w.HTTPRoutes, one.HTTPRoutes, seen)
		merge(&w.GRPCRoutes, one.GRPCRoutes, seen)
		merge(&w.RateLimits, one.RateLimits, seen)
	}
	return w
}

func merge[T interface {
	GetName() string
	GetNamespace() string
}](into *[]T, from []T, seen map[string]bool) {
	for _, o := range from {
		key := kindOf(o) + " " + o.GetNamespace() + "/" + o.GetName()
		if !seen[key] {
			seen[key] = true
			*into = append(*into, o)
		}
	}
}

func kindOf(object any) string {
	if route, ok := object.(*api.HTTPRoute); ok {
		group, _, _ := strings.Cut(route.APIVersion, "/")
		return "HTTPRoute." + group
	}
	return fmt.Sprintf("%T", object)
}

var (
	localhost      = netip.MustParseAddr("127.0.0.1")
	insideAddress  = netip.MustParseAddr("10.244.0.77")
	outsideAddress = netip.MustParseAddr("198.51.100.1")
)

// questions are some for each way, protocol and port.
func questions(random *rand.Rand) (port uint16, client oracle.Client, request oracle.Request) {
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	ways, protocols := oracle.Ways(), oracle.Protocols()
	client = oracle.Client{Way: ways[random.IntN(len(ways))], Address: insideAddress}
	if random.IntN(3) == 0 {
		client.Address = outsideAddress
	}
	if client.Way == oracle.Meshed || client.Way == oracle.MeshedDirect {
		client.Identity = pick([]string{alice, "bob.ns.serviceaccount.identity.linkerd.cluster.local", "spiffe://corp/alice"})
	}
	request = oracle.Request{Protocol: protocols[random.IntN(len(protocols))], Dribbled: random.IntN(8) == 0, Host: pick([]string{"", "a.example", "x.very.long.example"})}
	if request.Protocol == oracle.GRPC {
		request.Path = pick([]string{"/x.Y/Z", "/any.Thing/Call"})
	} else if request.Protocol.HTTP() {
		request.Method, request.Path = pick([]string{"GET", "POST"}), pick([]string{"/", "/a", "/a/b?a=b", "/b", "/x", "/public/../private", "/a%2Fb", "/live"})
		request.Headers = map[string]string{"a": "b", "x-who": "me"}
	}
	return []uint16{8080, 8081, 9090, api.AdminPort, 7000}[random.IntN(5)], client, request
}

func TestWhatHoldsInEveryWorld(t *testing.T) {
	const seed, worlds, each = 20261122, 400, 25
	random := rand.New(rand.NewPCG(seed, 0))
	all := pool(t)
	_, workload := row{pod: podProbed(probes)}.world(t)
	open := oracle.World{ServerAuthorizations: []*api.ServerAuthorization{{Spec: api.ServerAuthorizationSpec{
		Server: api.ServerReference{Selector: &api.LabelSelector{}}, Client: api.Client{Unauthenticated: true}}}}}
	open.ServerAuthorizations[0].Name, open.ServerAuthorizations[0].Namespace = "opens-everything", "ns"
	outcomes := map[oracle.Outcome]int{}
	for range worlds {
		var some []oracle.World
		for range 2 + random.IntN(10) {
			some = append(some, all[random.IntN(len(all))])
		}
		world := together(some)
		shuffled := world
		for _, list := range []func(){
			func() { shuffle(random, &shuffled.Servers) }, func() { shuffle(random, &shuffled.ServerAuthorizations) }, func() { shuffle(random, &shuffled.AuthorizationPolicies) },
			func() { shuffle(random, &shuffled.HTTPRoutes) }, func() { shuffle(random, &shuffled.GRPCRoutes) }, func() { shuffle(random, &shuffled.RateLimits) },
		} {
			list()
		}
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			for range each {
				port, client, request := questions(random)
				verdict := oracle.New(world, dialect).Judge(workload.Pod, port, client, request)
				outcomes[verdict.Outcome]++
				told := func(claim string, other oracle.Verdict) {
					t.Errorf("seed %d, %s, port %d, %+v, %+v: %s: %s by %s on %s, and %s by %s on %s\n%s\n%s", seed, dialect, port, client, request, claim,
						verdict.Outcome, verdict.Authorization, verdict.Route, other.Outcome, other.Authorization, other.Route, chain(verdict), chain(other))
				}
				again := oracle.New(shuffled, dialect).Judge(workload.Pod, port, client, request)
				if !cmp.Equal(essence(verdict), essence(again)) {
					told("the order of reading matters", again)
				}
				more := oracle.New(together([]oracle.World{world, open}), dialect).Judge(workload.Pod, port, client, request)
				if verdict.Allowed() && !more.Allowed() {
					told("a grant more takes something away (X-33, X-47)", more)
				}
				if verdict.Allowed() && verdict.Outcome != oracle.Unpoliced && len(verdict.Fitting) == 0 {
					told("it is allowed by nothing", verdict)
				}
				if len(verdict.Steps) == 0 || verdict.Steps[len(verdict.Steps)-1].Topic != "answer" {
					told("the chain has no end", verdict)
				}
				local := client
				local.Way, local.Identity, local.Address = oracle.Plain, "", localhost
				if got := oracle.New(world, dialect).Judge(workload.Pod, port, local, request); got.Outcome == oracle.Forbidden || got.Outcome == oracle.PermissionDenied {
					if got.Server.Name != "invalid" {
						told("localhost is denied (B-01)", got)
					}
				}
			}
		}
	}
	for _, outcome := range oracle.Outcomes() {
		if outcomes[outcome] == 0 && outcome != oracle.Unpoliced {
			t.Errorf("no world led to %s", outcome)
		}
	}
	t.Log(outcomes)
}

func shuffle[T any](random *rand.Rand, list *[]T) {
	*list = slices.Clone(*list)
	random.Shuffle(len(*list), func(i, j int) { (*list)[i], (*list)[j] = (*list)[j], (*list)[i] })
}

// essence is a verdict without its chain.
func essence(v oracle.Verdict) oracle.Verdict {
	v.Steps = nil
	slices.SortFunc(v.Fitting, func(a, b oracle.Label) int { return strings.Compare(a.String(), b.String()) })
	return v
}
