package policy

import (
	"container/heap"
	"net/netip"
	"slices"
)

// borders tells of an address which of several lists of networks is the first to
// hold it. The addresses of both families, in order, are cut into stretches that
// all lists treat as one.
type borders struct {
	// from[i] begins a stretch, which is held first by list first[i].
	from  []netip.Addr
	first []int32
}

// nowhere is the number of no list.
const nowhere = -1

// at is the number of the first list that holds the address; nowhere for none.
// Its time grows with the logarithm of the number of networks.
func (b *borders) at(addr netip.Addr) int32 {
	low, high := 0, len(b.from) // from[:low] <= addr < from[high:]
	for low < high {
		middle := int(uint(low+high) >> 1)
		if addr.Less(b.from[middle]) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == 0 {
		return nowhere
	}
	return b.first[low-1]
}

// stretch is a run of addresses of one family, its ends included, that a list holds.
type stretch struct {
	from, to netip.Addr
	list     int32
}

// newBorders goes through the addresses in order, with the lists in force kept in
// a heap.
func newBorders(lists [][]Network) *borders {
	var all []stretch
	for i, networks := range lists {
		for _, n := range networks {
			if !n.Net.IsValid() {
				continue // holds nothing
			}
			all = n.stretches(all, int32(i))
		}
	}
	slices.SortFunc(all, func(a, b stretch) int { return a.from.Compare(b.from) })
	// What one list holds or does not can change where a stretch begins or ends.
	var changes []netip.Addr
	for _, s := range all {
		changes = append(changes, s.from)
		if next, ok := after(s.to); ok {
			changes = append(changes, next)
		}
	}
	slices.SortFunc(changes, netip.Addr.Compare)
	b := &borders{}
	var open openStretches
	for _, at := range slices.Compact(changes) {
		for len(all) > 0 && all[0].from == at {
			heap.Push(&open, all[0])
			all = all[1:]
		}
		for len(open) > 0 && open[0].to.Less(at) {
			heap.Pop(&open)
		}
		list := int32(nowhere)
		if len(open) > 0 {
			list = open[0].list
		}
		if n := len(b.first); n == 0 && list != nowhere || n > 0 && b.first[n-1] != list {
			b.from, b.first = append(b.from, at), append(b.first, list)
		}
	}
	b.from, b.first = slices.Clip(b.from), slices.Clip(b.first)
	return b
}

// stretches appends the network without its excepts. An except of the other
// family takes nothing away.
func (n Network) stretches(to []stretch, list int32) []stretch {
	whole := span(n.Net, list)
	var excepts []stretch
	for _, except := range n.Except {
		if except.Addr().Is4() == n.Net.Addr().Is4() && except.Overlaps(n.Net) {
			excepts = append(excepts, span(except, list))
		}
	}
	slices.SortFunc(excepts, func(a, b stretch) int { return a.from.Compare(b.from) })
	for _, e := range excepts {
		if whole.from.Less(e.from) {
			to = append(to, stretch{whole.from, e.from.Prev(), list})
		}
		if !e.to.Less(whole.to) {
			return to
		}
		if !e.to.Less(whole.from) {
			whole.from = e.to.Next()
		}
	}
	return append(to, whole)
}

// span is a prefix from its first to its last address.
func span(p netip.Prefix, list int32) stretch {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := range last {
		if host := len(last)*8 - p.Bits() - (len(last)-1-i)*8; host > 0 {
			last[i] |= byte(1<<min(host, 8) - 1)
		}
	}
	to, _ := netip.AddrFromSlice(last)
	return stretch{p.Addr(), to, list}
}

// after is the address behind one in the order of both families; ok is false
// behind the last.
func after(addr netip.Addr) (next netip.Addr, ok bool) {
	if next = addr.Next(); next.IsValid() {
		return next, true
	}
	return netip.IPv6Unspecified(), addr.Is4()
}

// openStretches is a heap with the first list on top.
type openStretches []stretch

func (o openStretches) Len() int           { return len(o) }
func (o openStretches) Less(i, j int) bool { return o[i].list < o[j].list }
func (o openStretches) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }

// Push implements heap.Interface.
func (o *openStretches) Push(x any) { *o = append(*o, x.(stretch)) }

// Pop implements heap.Interface.
func (o *openStretches) Pop() any {
	last := (*o)[len(*o)-1]
	*o = (*o)[:len(*o)-1]
	return last
}
