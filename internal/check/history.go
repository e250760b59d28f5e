package check

import (
	"math/bits"
	"time"
)

// History is what happened at one port of one proxy. Times are offsets from any
// one instant.
type History struct {
	// Writes in the order in which they were made; the first one makes version 1.
	// Version 0 was in force before.
	Writes []Write
	// Requests in any order.
	Requests []Request
	// Budget is how long after its acknowledgement a write may take to come into
	// force; Unlimited leaves staleness out of the question.
	Budget time.Duration
	// Suspended are the intervals in which the proxy could not be told of
	// anything. A write whose budget would end in one, or was running when it
	// began, has the rest of its budget after it.
	Suspended []Interval
}

// Unlimited is a budget that nothing exceeds.
const Unlimited time.Duration = -1

// Write makes a version.
type Write struct {
	// Call is when it was asked for, and Ack when it was acknowledged.
	Call, Ack time.Duration
	// InForce is when the proxy was known to go by it, which ends its budget; 0:
	// nobody knows.
	InForce time.Duration
}

// Request is one answer.
type Request struct {
	Call, Return time.Duration
	// Fits are the versions under which the answer is right.
	Fits Versions
	// Elsewhere says that it is not known whether this proxy has answered: the
	// request is held against what was written and what is overdue, and its order
	// among the others tells nothing (N1 and N3 without N2).
	Elsewhere bool
}

// Interval is closed.
type Interval struct{ From, To time.Duration }

// Versions is a set of version numbers.
type Versions struct {
	bits []uint64
	// all holds every number, those of versions to come too: the answer tells
	// nothing of the policy.
	all bool
}

// All is every version.
func All() Versions { return Versions{all: true} }

// Of is the set of these versions.
func Of(versions ...int) Versions {
	var s Versions
	for _, v := range versions {
		for len(s.bits) <= v/64 {
			s.bits = append(s.bits, 0)
		}
		s.bits[v/64] |= 1 << (v % 64)
	}
	return s
}

// Contains reports whether v is one of them.
func (s Versions) Contains(v int) bool { return s.from(v) == v }

// Any reports whether the set holds every number, those of versions to come too:
// what fits it tells nothing.
func (s Versions) Any() bool { return s.all }

// Within reports whether the set holds one of the versions from least to most.
func (s Versions) Within(least, most int) bool { return s.from(least) <= most }

// none is greater than every version.
const none = int(^uint(0) >> 1)

// Or is what is in either set.
func (s Versions) Or(other Versions) Versions {
	if s.all || other.all {
		return All()
	}
	both := make([]uint64, max(len(s.bits), len(other.bits)))
	copy(both, s.bits)
	for i, word := range other.bits {
		both[i] |= word
	}
	return Versions{bits: both}
}

// from is the smallest version of the set that is at least v, or none.
func (s Versions) from(v int) int {
	if s.all {
		return v
	}
	for word := v / 64; word < len(s.bits); word++ {
		rest := s.bits[word]
		if word == v/64 {
			rest &= ^uint64(0) << (v % 64)
		}
		if rest != 0 {
			return word*64 + bits.TrailingZeros64(rest)
		}
	}
	return none
}

// last is the greatest version of the set that is at most v, or -1.
func (s Versions) last(v int) int {
	for ; v >= 0; v-- {
		if s.Contains(v) {
			return v
		}
	}
	return -1
}
