package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
)

// oneByOne finds the first authorization as the rules say it: by asking each.
func oneByOne(list []Authz, c Client, d Dialect) int32 {
	for i, a := range list {
		if inSome(a.networks, c.Addr.Addr().Unmap().WithZone("")) && meets(a.who, c, d) {
			return int32(i)
		}
	}
	return none
}

func inSome(networks []Network, addr netip.Addr) bool {
next:
	for _, n := range networks {
		if !n.Net.Contains(addr) {
			continue
		}
		for _, except := range n.Except {
			if except.Contains(addr) {
				continue next
			}
		}
		return true
	}
	return false
}

func meets(w who, c Client, d Dialect) bool {
	if w.anyone {
		return true
	}
	if c.TLS != Terminated {
		return false
	}
	if w.anyTLS {
		return true
	}
	if c.Identity == "" {
		return false
	}
	if _, ok := w.exact[c.Identity]; ok {
		return true
	}
	spiffe := strings.HasPrefix(c.Identity, "spiffe://")
	if w.any && !(spiffe && d.OnlyDNSIdentities) {
		return true
	}
	for _, suffix := range w.suffixes {
		if !spiffe && len(c.Identity) > len(suffix) && strings.HasSuffix(c.Identity, suffix) {
			return true
		}
	}
	return false
}

// The few names and addresses that random lists and clients are made of, so that
// they meet often.
var (
	someNames     = []string{"a.b", "x.a.b", "a.a.b", "b", "xa.b", "a..b", ".b", "a.b.", "spiffe://td/a.b", "spiffe://td/x"}
	someSuffixes  = []string{".b", ".a.b", ".", "..b"}
	someAddresses = []string{
		"0.0.0.0", "255.255.255.255", "127.0.0.1", "10.0.0.0", "10.0.0.255", "10.0.1.0", "10.255.255.255", "11.0.0.0", "9.255.255.255",
		"::", "::1", "::a00:1", "fd00::", "fd00::1", "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:10.0.0.1",
	}
	someBits = []int{0, 1, 7, 8, 9, 16, 24, 31, 32, 48, 64, 96, 127, 128}
)

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

func randomPrefix(random *rand.Rand) netip.Prefix {
	addr := netip.MustParseAddr(pick(random, someAddresses)).Unmap()
	return netip.PrefixFrom(addr, min(pick(random, someBits), addr.BitLen()))
}

func randomAuthz(random *rand.Rand) Authz {
	a := Authz{}
	for range 1 + random.IntN(3) {
		n := Network{Net: randomPrefix(random)}
		for range random.IntN(4) {
			n.Except = append(n.Except, randomPrefix(random))
		}
		a.networks = append(a.networks, n)
	}
	switch random.IntN(8) {
	case 0:
		a.who.anyone = true
	case 1:
		a.who.anyTLS = true
	default:
		a.who.exact = map[string]struct{}{}
		for range random.IntN(3) {
			a.who.exact[pick(random, someNames)] = struct{}{}
		}
		for range random.IntN(3) {
			a.who.suffixes = append(a.who.suffixes, pick(random, someSuffixes))
		}
		a.who.any = random.IntN(6) == 0
	}
	return a
}

// compareGrants asks for every client of the few there are.
func compareGrants(t *testing.T, list []Authz) {
	t.Helper()
	g := newGrants(list)
	addresses := []netip.Addr{{}}
	for _, text := range someAddresses {
		addr := netip.MustParseAddr(text)
		addresses = append(addresses, addr, addr.Next(), addr.Prev())
	}
	for _, addr := range addresses {
		for _, state := range TLSStates {
			for _, name := range append([]string{""}, someNames...) {
				for _, d := range []Dialect{{}, Linkerd} {
					compareGrant(t, g, list, Client{Addr: netip.AddrPortFrom(addr, 1), TLS: state, Identity: name}, d)
				}
			}
		}
	}
}

func compareGrant(t *testing.T, g *grants, list []Authz, c Client, d Dialect) {
	t.Helper()
	if got, want := g.first(c, d), oneByOne(list, c, d); got != want {
		t.Fatalf("%+v: got %d, want %d, of %+v", c, got, want, list)
	}
}

func TestPreparedAuthorizationsGrantAsOneByOne(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 1))
		list := make([]Authz, random.IntN(9))
		for i := range list {
			list[i] = randomAuthz(random)
			if i > 0 && random.IntN(3) == 0 {
				list[i].networks = list[random.IntN(i)].networks
			}
		}
		compareGrants(t, append(list, localhost))
	}
}

func FuzzGrants(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(5))
	f.Fuzz(func(t *testing.T, a, b uint64, n uint8) {
		random := rand.New(rand.NewPCG(a, b))
		list := make([]Authz, n%16)
		for i := range list {
			list[i] = randomAuthz(random)
		}
		g := newGrants(list)
		for range 500 { // of the many that there are
			addr := netip.MustParseAddr(pick(random, someAddresses))
			addr = pick(random, []netip.Addr{addr, addr.Next(), addr.Prev()})
			c := Client{Addr: netip.AddrPortFrom(addr, 1), TLS: pick(random, TLSStates), Identity: pick(random, append(someNames, ""))}
			compareGrant(t, g, list, c, pick(random, []Dialect{{}, Linkerd}))
		}
	})
}

// many is a policy with n authorizations: for an identity of its own each, from
// everywhere, a network of its own, or several identities' shared ones.
func many(n int) *pb.Server {
	list := make([]*pb.Authz, 0, n)
	for i := range n {
		a := grant(fmt.Sprintf("a%05d", i), "0.0.0.0/0")
		switch {
		case n > 1 && i%3 == 0:
			a = grant(fmt.Sprintf("a%05d", i), fmt.Sprintf("10.%d.%d.0/24", i/256%256, i%256))
		case n > 1 && i%3 == 1:
			a.Networks[0].Net = ipNet(fmt.Sprintf("10.%d.0.0/16", i%256))
			fallthrough
		default:
			a.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{
				Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{Identities: []*pb.Identity{{Name: fmt.Sprintf("web%d.ns.serviceaccount.identity.linkerd.cluster.local", i)}}},
			}}}}
		}
		list = append(list, a)
	}
	return detectServer(nil, list...)
}

// clientOf is the one that the last authorization is for.
func clientOf(n int) Client {
	c := from("192.168.7.1")
	c.TLS, c.Identity = Terminated, fmt.Sprintf("web%d.ns.serviceaccount.identity.linkerd.cluster.local", n-1)
	return c
}

// P12: what is done for a decision does not grow with the number of authorizations.
func TestADecisionLooksAtFewOfManyAuthorizations(t *testing.T) {
	const n = 9999 // the last is of the kind that is from everywhere
	p := mustParse(t, many(n), Dialect{})
	d := p.Request(clientOf(n), text{Method: "GET", Path: "/"}.head())
	if d.Verdict != Allow || d.Permit.Authz.Name != "a09998" {
		t.Fatalf("got %+v", d)
	}
	if again := p.Request(clientOf(n), text{Method: "GET", Path: "/"}.head()); again.Permit != d.Permit {
		t.Error("the same reason is told by two permits")
	}
	g := p.permits.grants
	shapes := map[*borders]bool{}
	for _, r := range g.exact {
		if len(r.who) > 1 {
			t.Fatalf("%d authorizations for one identity of its own", len(r.who))
		}
		shapes[r.where] = true
	}
	// 256 networks of second kind, and everywhere.
	if len(shapes) != 257 {
		t.Errorf("%d shapes of networks", len(shapes))
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, n := range []int{1, 9999} {
		p, err := Parse(many(n), Dialect{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for name, c := range map[string]Client{"allowed": clientOf(n), "denied": from("192.168.7.1")} {
			b.Run(fmt.Sprintf("%s by %d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				head := text{Method: "GET", Path: "/"}.head()
				for b.Loop() {
					p.Request(c, head)
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	msg := many(9999)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(msg, Dialect{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
