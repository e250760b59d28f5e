package oracle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// A law needs no oracle to be believed: whatever the rules are, an authorization
// more denies nobody, and names are names. Here the oracle is held against the laws
// in worlds that are thrown together from the objects of the rows; the live mesh is
// held against them with generated scenarios.
type law struct {
	name string
	// alter makes another world of one; false when the law says nothing of it. What
	// it puts into the first one is there from the beginning.
	alter func(*rapid.T, *oracle.World) (oracle.World, bool)
	// grants says that more may be allowed afterwards; otherwise the outcome stays.
	grants bool
}

var laws = []law{
	{name: "an authorization more never denies more (X-33, X-47)", grants: true, alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w := *from
		if rapid.Bool().Draw(t, "as a policy") {
			p := &api.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: newName(t)}}
			p.Spec.TargetRef = api.LocalTargetReference{Group: api.Group, Kind: api.ServerKind, Name: anyServer(t, w)}
			if rapid.Bool().Draw(t, "of alice") {
				p.Spec.RequiredAuthenticationRefs = []api.AuthenticationReference{{Kind: api.ServiceAccountKind, Name: "alice"}}
			}
			w.AuthorizationPolicies = with(w.AuthorizationPolicies, p)
			return w, true
		}
		a := &api.ServerAuthorization{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: newName(t)}}
		a.Spec.Server.Name = anyServer(t, w)
		if rapid.Bool().Draw(t, "of alice") {
			a.Spec.Client.MeshTLS = &api.MeshTLS{ServiceAccounts: []api.ServiceAccountReference{{Name: "alice"}}}
		} else {
			a.Spec.Client.Unauthenticated = true
		}
		w.ServerAuthorizations = with(w.ServerAuthorizations, a)
		return w, true
	}},
	{name: "renaming changes nothing", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w := *from
		// A prefix for all names of a kind leaves their order, by which ties are
		// broken.
		kinds := []string{api.ServerKind, api.ServerAuthorizationKind, api.AuthorizationPolicyKind, api.MeshTLSAuthenticationKind, api.NetworkAuthenticationKind, api.HTTPRouteKind, api.GRPCRouteKind, api.HTTPLocalRateLimitPolicyKind}
		return renamed(w, rapid.SampledFrom(kinds).Draw(t, "kind")), true
	}},
	{name: "one authorization split in two equals one", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		if rapid.Bool().Draw(t, "a policy") {
			return splitPolicy(t, from), true
		}
		return splitAuthorization(t, from), true
	}},
	{name: "the order of objects is irrelevant", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w := *from
		w.Servers, w.ServerAuthorizations = permuted(t, w.Servers), permuted(t, w.ServerAuthorizations)
		w.AuthorizationPolicies, w.RateLimits = permuted(t, w.AuthorizationPolicies), permuted(t, w.RateLimits)
		w.MeshTLSAuthentications, w.NetworkAuthentications = permuted(t, w.MeshTLSAuthentications), permuted(t, w.NetworkAuthentications)
		w.HTTPRoutes, w.GRPCRoutes = permuted(t, w.HTTPRoutes), permuted(t, w.GRPCRoutes)
		return w, true
	}},
	{name: "what is deleted and made again grants as it did", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w, made := *from, false
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			made = again(t, &w.ServerAuthorizations, (*api.ServerAuthorization).DeepCopy)
		case 1:
			made = again(t, &w.AuthorizationPolicies, (*api.AuthorizationPolicy).DeepCopy)
		case 2:
			made = again(t, &w.MeshTLSAuthentications, (*api.MeshTLSAuthentication).DeepCopy)
		default:
			made = again(t, &w.NetworkAuthentications, (*api.NetworkAuthentication).DeepCopy)
		}
		return w, made
	}},
	{name: "Servers and routes that are all made again, the older ones first, have the ports as they did (X-04)", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w := *from
		later := func(at metav1.Time) metav1.Time {
			if at.IsZero() {
				return at // and so stays younger than all
			}
			return metav1.NewTime(at.Add(24 * time.Hour))
		}
		w.Servers = each(w.Servers, (*api.Server).DeepCopy, func(s *api.Server) { s.CreationTimestamp = later(s.CreationTimestamp) })
		w.HTTPRoutes = each(w.HTTPRoutes, (*api.HTTPRoute).DeepCopy, func(r *api.HTTPRoute) { r.CreationTimestamp = later(r.CreationTimestamp) })
		w.GRPCRoutes = each(w.GRPCRoutes, (*api.GRPCRoute).DeepCopy, func(r *api.GRPCRoute) { r.CreationTimestamp = later(r.CreationTimestamp) })
		return w, true
	}},
	{name: "what is for another namespace is for another namespace (C-17)", alter: func(t *rapid.T, from *oracle.World) (oracle.World, bool) {
		w := *from
		s := &api.Server{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: newName(t)}}
		s.Spec.PodSelector = &api.LabelSelector{}
		s.Spec.Port.IntVal = 8080
		w.Servers = with(w.Servers, s)
		a := &api.ServerAuthorization{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: newName(t)}}
		a.Spec.Server.Name, a.Spec.Client.Unauthenticated = anyServer(t, w), true
		w.ServerAuthorizations = with(w.ServerAuthorizations, a)
		return w, true
	}},
}

func TestTheOracleObeysTheLaws(t *testing.T) {
	all := pool(t)
	onThePort := oracle.World{Servers: []*api.Server{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rival"}}}}
	onThePort.Servers[0].Spec.PodSelector, onThePort.Servers[0].Spec.Port.IntVal = &api.LabelSelector{}, 8080
	_, workload := row{pod: podProbed(probes)}.world(t)
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			said, denied := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				// Indices, not worlds: of a failure rapid prints what it has drawn.
				some := []oracle.World{}
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 1, 16).Draw(t, "objects") {
					some = append(some, all[i])
				}
				if rapid.Bool().Draw(t, "a Server on the port") {
					some = append(some, onThePort)
				}
				world := together(some)
				world.Settings.DefaultPolicy = rapid.SampledFrom(api.PolicyNames()).Draw(t, "default")
				altered, applies := l.alter(t, &world)
				if !applies {
					t.Skip("the law says nothing of this world")
				}
				dialect := rapid.SampledFrom([]api.Dialect{api.Documented(), api.Linkerd()}).Draw(t, "dialect")
				before, after := oracle.New(world, dialect), oracle.New(altered, dialect)
				for range 25 {
					port, client, request := anyQuestion(t)
					old, new := before.Judge(workload.Pod, port, client, request), after.Judge(workload.Pod, port, client, request)
					said++
					if !old.Allowed() {
						denied++
					}
					if l.grants && (!old.Allowed() || new.Allowed()) || !l.grants && cmp.Equal(plain(old), plain(new)) {
						continue
					}
					t.Fatalf("port %d, %+v, %+v: %s by %s on %s, and then %s by %s on %s\n%s\n%s", port, client, request,
						old.Outcome, old.Authorization, old.Route, new.Outcome, new.Authorization, new.Route, chain(old), chain(new))
				}
			})
			if said == 0 || denied == 0 || denied == said {
				t.Errorf("of %d verdicts %d are denials: nothing is told apart", said, denied)
			}
		})
	}
}

// plain is what of a verdict must stay: not which names it was given for.
func plain(v oracle.Verdict) string {
	return fmt.Sprint(v.Outcome, v.Course, v.Status, v.TLS, v.Logged, len(v.Limits), v.Server.Kind, v.Route.Kind)
}

// newName is one that nothing has, and that comes before or after all others.
func newName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"0-one-more", "zz-one-more"}).Draw(t, "name")
}

// anyServer is the name of some Server of the world, or of none.
func anyServer(t *rapid.T, w oracle.World) string {
	names := []string{"nobody"}
	for _, s := range w.Servers {
		names = append(names, s.Name)
	}
	return rapid.SampledFrom(names).Draw(t, "server")
}

// with is a list with one object more, or in the place of its namesake.
func with[T metav1.Object](list []T, one T) []T {
	list = slices.DeleteFunc(slices.Clone(list), func(o T) bool { return o.GetName() == one.GetName() && o.GetNamespace() == one.GetNamespace() })
	return append(list, one)
}

func permuted[T any](t *rapid.T, list []T) []T {
	if len(list) == 0 {
		return list
	}
	return rapid.Permutation(list).Draw(t, "order")
}

// each is a list of copies, each changed.
func each[T any](list []T, clone func(T) T, change func(T)) []T {
	out := make([]T, len(list))
	for i, o := range list {
		out[i] = clone(o)
		change(out[i])
	}
	return out
}

// again makes one object again, last and youngest of all.
func again[T metav1.Object](t *rapid.T, list *[]T, clone func(T) T) bool {
	if len(*list) == 0 {
		return false
	}
	one := clone(rapid.SampledFrom(*list).Draw(t, "object"))
	one.SetCreationTimestamp(metav1.NewTime(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)))
	*list = with(*list, one)
	return true
}

// renamed gives all objects of a kind another name, and all who refer to them.
func renamed(w oracle.World, kind string) oracle.World {
	const prefix = "renamed-"
	rename := func(name *string) { *name = prefix + *name }
	target := func(ref *api.LocalTargetReference) {
		if strings.EqualFold(ref.Kind, kind) && ref.Name != "" {
			rename(&ref.Name)
		}
	}
	w.Servers = each(w.Servers, (*api.Server).DeepCopy, func(s *api.Server) {
		if kind == api.ServerKind {
			rename(&s.Name)
		}
	})
	w.ServerAuthorizations = each(w.ServerAuthorizations, (*api.ServerAuthorization).DeepCopy, func(a *api.ServerAuthorization) {
		switch {
		case kind == api.ServerAuthorizationKind:
			rename(&a.Name)
		case kind == api.ServerKind && a.Spec.Server.Name != "":
			rename(&a.Spec.Server.Name)
		}
	})
	w.AuthorizationPolicies = each(w.AuthorizationPolicies, (*api.AuthorizationPolicy).DeepCopy, func(p *api.AuthorizationPolicy) {
		if kind == api.AuthorizationPolicyKind {
			rename(&p.Name)
		}
		target(&p.Spec.TargetRef)
		for i := range p.Spec.RequiredAuthenticationRefs {
			if ref := &p.Spec.RequiredAuthenticationRefs[i]; strings.EqualFold(ref.Kind, kind) {
				rename(&ref.Name)
			}
		}
	})
	w.MeshTLSAuthentications = each(w.MeshTLSAuthentications, (*api.MeshTLSAuthentication).DeepCopy, func(a *api.MeshTLSAuthentication) {
		if kind == api.MeshTLSAuthenticationKind {
			rename(&a.Name)
		}
	})
	w.NetworkAuthentications = each(w.NetworkAuthentications, (*api.NetworkAuthentication).DeepCopy, func(a *api.NetworkAuthentication) {
		if kind == api.NetworkAuthenticationKind {
			rename(&a.Name)
		}
	})
	parents := func(refs []api.ParentReference) {
		for i := range refs {
			if kind == api.ServerKind && refs[i].Kind != nil && strings.EqualFold(*refs[i].Kind, kind) {
				rename(&refs[i].Name)
			}
		}
	}
	w.HTTPRoutes = each(w.HTTPRoutes, (*api.HTTPRoute).DeepCopy, func(r *api.HTTPRoute) {
		if kind == api.HTTPRouteKind {
			rename(&r.Name)
		}
		parents(r.Spec.ParentRefs)
	})
	w.GRPCRoutes = each(w.GRPCRoutes, (*api.GRPCRoute).DeepCopy, func(r *api.GRPCRoute) {
		if kind == api.GRPCRouteKind {
			rename(&r.Name)
		}
		parents(r.Spec.ParentRefs)
	})
	w.RateLimits = each(w.RateLimits, (*api.HTTPLocalRateLimitPolicy).DeepCopy, func(p *api.HTTPLocalRateLimitPolicy) {
		if kind == api.HTTPLocalRateLimitPolicyKind {
			rename(&p.Name)
		}
		target(&p.Spec.TargetRef)
	})
	return w
}

// splitAuthorization makes two ServerAuthorizations of one that names several
// clients.
func splitAuthorization(t *rapid.T, from *oracle.World) oracle.World {
	several := slices.DeleteFunc(slices.Clone(from.ServerAuthorizations), func(a *api.ServerAuthorization) bool {
		tls := a.Spec.Client.MeshTLS
		return a.Spec.Client.Unauthenticated || tls == nil || tls.UnauthenticatedTLS || len(tls.Identities)+len(tls.ServiceAccounts) < 2
	})
	if len(several) == 0 {
		one := &api.ServerAuthorization{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "to-split"}}
		one.Spec.Server.Name = anyServer(t, *from)
		one.Spec.Client.MeshTLS = &api.MeshTLS{Identities: []string{"*.other.serviceaccount.identity.linkerd.cluster.local"}, ServiceAccounts: []api.ServiceAccountReference{{Name: "alice"}, {Name: "bob"}}}
		several, from.ServerAuthorizations = append(several, one), with(from.ServerAuthorizations, one)
	}
	one := rapid.SampledFrom(several).Draw(t, "to be split")
	tls := one.Spec.Client.MeshTLS
	first, second := one.DeepCopy(), one.DeepCopy()
	cut := rapid.IntRange(1, len(tls.Identities)+len(tls.ServiceAccounts)-1).Draw(t, "after")
	names := min(cut, len(tls.Identities))
	first.Spec.Client.MeshTLS.Identities, second.Spec.Client.MeshTLS.Identities = tls.Identities[:names], tls.Identities[names:]
	first.Spec.Client.MeshTLS.ServiceAccounts, second.Spec.Client.MeshTLS.ServiceAccounts = tls.ServiceAccounts[:cut-names], tls.ServiceAccounts[cut-names:]
	second.Name += "-too"
	w := *from
	w.ServerAuthorizations = with(with(w.ServerAuthorizations, first), second)
	return w
}

// splitPolicy makes two AuthorizationPolicies, with an authentication each, of one
// that asks for one of several identities.
func splitPolicy(t *rapid.T, from *oracle.World) oracle.World {
	authentication := func(name string, identities ...string) *api.MeshTLSAuthentication {
		a := &api.MeshTLSAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		a.Spec.Identities = identities
		return a
	}
	server := anyServer(t, *from)
	policy := func(name string) *api.AuthorizationPolicy {
		p := &api.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		p.Spec.TargetRef = api.LocalTargetReference{Group: api.Group, Kind: api.ServerKind, Name: server}
		p.Spec.RequiredAuthenticationRefs = []api.AuthenticationReference{{Group: api.Group, Kind: api.MeshTLSAuthenticationKind, Name: name}}
		return p
	}
	all := []string{alice, "*.other.serviceaccount.identity.linkerd.cluster.local", "spiffe://corp/alice"}
	from.MeshTLSAuthentications = with(from.MeshTLSAuthentications, authentication("to-split", all...))
	from.AuthorizationPolicies = with(from.AuthorizationPolicies, policy("to-split"))
	cut := rapid.IntRange(1, len(all)-1).Draw(t, "after")
	w := *from
	w.MeshTLSAuthentications = with(with(w.MeshTLSAuthentications, authentication("to-split", all[:cut]...)), authentication("to-split-too", all[cut:]...))
	w.AuthorizationPolicies = with(w.AuthorizationPolicies, policy("to-split-too"))
	return w
}

// anyQuestion is questions with what rapid draws.
func anyQuestion(t *rapid.T) (port uint16, client oracle.Client, request oracle.Request) {
	client = oracle.Client{Way: rapid.SampledFrom(oracle.Ways()).Draw(t, "way"), Address: insideAddress}
	if rapid.IntRange(0, 2).Draw(t, "from") == 2 {
		client.Address = outsideAddress
	}
	if client.Way == oracle.Meshed || client.Way == oracle.MeshedDirect {
		client.Identity = rapid.SampledFrom([]string{alice, "bob.ns.serviceaccount.identity.linkerd.cluster.local", "spiffe://corp/alice"}).Draw(t, "identity")
	}
	request = oracle.Request{Protocol: rapid.SampledFrom(oracle.Protocols()).Draw(t, "protocol"), Host: rapid.SampledFrom([]string{"", "a.example", "x.very.long.example"}).Draw(t, "host")}
	switch {
	case request.Protocol == oracle.GRPC:
		request.Path = rapid.SampledFrom([]string{"/x.Y/Z", "/any.Thing/Call"}).Draw(t, "path")
	case request.Protocol.HTTP():
		request.Method = rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method")
		request.Path = rapid.SampledFrom([]string{"/", "/a", "/a/b?a=b", "/b", "/x", "/public/../private", "/a%2Fb", "/live"}).Draw(t, "path")
		request.Headers = map[string]string{"a": "b", "x-who": "me"}
	}
	return rapid.SampledFrom([]uint16{8080, 8080, 8080, 8081, 9090, api.AdminPort, 7000}).Draw(t, "port"), client, request
}
