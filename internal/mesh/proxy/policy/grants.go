package policy

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// grants is a list of authorizations, prepared so that the first that permits a
// client is found without going through them: by the client's identity, which is
// looked up, then by its address, which is searched among borders of networks.
// The zero value permits nobody. It is never changed after newGrants.
type grants struct {
	refs []Ref
	// Those that ask for nothing, for a session, for any identity.
	anyone, anyTLS, any reach
	// Those that name an identity, or its end from a dot on.
	exact, suffixes map[string]reach
}

// none is the place of no authorization: behind all others.
const none = math.MaxInt32

// first is the place in the list of the first authorization that permits the
// client, or none.
func (g *grants) first(c Client, d Dialect) int32 {
	addr := c.Addr.Addr().Unmap().WithZone("")
	best := g.anyone.first(addr, none)
	if c.TLS != Terminated {
		return best
	}
	best = g.anyTLS.first(addr, best)
	if c.Identity == "" {
		return best
	}
	if len(g.exact) > 0 {
		best = g.exact[c.Identity].first(addr, best)
	}
	if strings.HasPrefix(c.Identity, spiffeScheme) {
		if !d.OnlyDNSIdentities {
			best = g.any.first(addr, best)
		}
		return best
	}
	best = g.any.first(addr, best)
	if len(g.suffixes) == 0 {
		return best
	}
	for i := 1; i < len(c.Identity); i++ {
		if c.Identity[i] == '.' {
			best = g.suffixes[c.Identity[i:]].first(addr, best)
		}
	}
	return best
}

// reach is where, and by which authorizations, one kind of client may come from.
// Those of the same networks as an earlier one are left out: they never count.
type reach struct {
	where *borders
	// who are the places of authorizations, ascending; where speaks of them by number.
	who []int32
}

// first is the place of the first authorization whose networks hold the address,
// or best when that is before it.
func (r reach) first(addr netip.Addr, best int32) int32 {
	if len(r.who) == 0 || r.who[0] >= best {
		return best
	}
	if i := r.where.at(addr); i != nowhere {
		return min(best, r.who[i])
	}
	return best
}

// newGrants prepares a list.
func newGrants(list []Authz) *grants {
	g := &grants{refs: make([]Ref, len(list))}
	sets := &networkSets{numbers: map[string]int32{}, shapes: map[string]*borders{}}
	var anyone, anyTLS, anyName members
	exact, suffixes := map[string]*members{}, map[string]*members{}
	named := func(of map[string]*members, name string) *members {
		m := of[name]
		if m == nil {
			m = &members{}
			of[name] = m
		}
		return m
	}
	for i := range list {
		a := &list[i]
		g.refs[i] = a.Ref
		set := sets.number(a.networks)
		if a.who.anyone {
			anyone.add(int32(i), set)
		}
		if a.who.anyTLS {
			anyTLS.add(int32(i), set)
		}
		if a.who.any {
			anyName.add(int32(i), set)
		}
		for name := range a.who.exact {
			named(exact, name).add(int32(i), set)
		}
		for _, name := range a.who.suffixes {
			named(suffixes, name).add(int32(i), set)
		}
	}
	g.anyone, g.anyTLS, g.any = sets.reach(&anyone), sets.reach(&anyTLS), sets.reach(&anyName)
	g.exact, g.suffixes = make(map[string]reach, len(exact)), make(map[string]reach, len(suffixes))
	for name, m := range exact {
		g.exact[name] = sets.reach(m)
	}
	for name, m := range suffixes {
		g.suffixes[name] = sets.reach(m)
	}
	return g
}

// members are the authorizations for one kind of client, with the number of each
// one's networks.
type members struct{ who, sets []int32 }

func (m *members) add(place, set int32) { m.who, m.sets = append(m.who, place), append(m.sets, set) }

// networkSets numbers the lists of networks that occur, and makes borders of each
// combination once: ten thousand clients from everywhere share one.
type networkSets struct {
	numbers map[string]int32
	lists   [][]Network
	shapes  map[string]*borders
	// met[n] is the last round of reach in which the list n was met.
	met   []int
	round int
}

func (s *networkSets) number(networks []Network) int32 {
	key := networksKey(networks)
	n, ok := s.numbers[key]
	if !ok {
		n = int32(len(s.lists))
		s.numbers[key], s.lists, s.met = n, append(s.lists, networks), append(s.met, 0)
	}
	return n
}

func (s *networkSets) reach(m *members) reach {
	if len(m.who) == 0 {
		return reach{}
	}
	var (
		key   []byte
		lists [][]Network
		who   []int32
	)
	s.round++
	for i, set := range m.sets {
		if s.met[set] == s.round {
			continue
		}
		s.met[set] = s.round
		key, lists, who = binary.BigEndian.AppendUint32(key, uint32(set)), append(lists, s.lists[set]), append(who, m.who[i])
	}
	shape := s.shapes[string(key)]
	if shape == nil {
		shape = newBorders(lists)
		s.shapes[string(key)] = shape
	}
	return reach{where: shape, who: slices.Clip(who)}
}

// networksKey is the same for lists that are written alike.
func networksKey(networks []Network) string {
	var key []byte
	prefix := func(p netip.Prefix) {
		raw := p.Addr().As16()
		key = append(append(key, raw[:]...), byte(p.Addr().BitLen()), byte(p.Bits()))
	}
	for _, n := range networks {
		prefix(n.Net)
		key = binary.BigEndian.AppendUint32(key, uint32(len(n.Except)))
		for _, except := range n.Except {
			prefix(except)
		}
	}
	return string(key)
}
