package generate

import "math/rand/v2"

// random is the source of all chance of one scenario.
type random struct{ *rand.Rand }

// newRandom depends on nothing but the seed and the scenario's number.
func newRandom(seed int64, index int) random {
	return random{rand.New(rand.NewPCG(uint64(seed), uint64(index)))}
}

// chance is true in so many of a hundred cases.
func (r random) chance(percent int) bool { return r.IntN(100) < percent }

// between is one of low to high, both included.
func (r random) between(low, high int) int { return low + r.IntN(high-low+1) }

// pick is one of the values, each as likely as the others.
func pick[T any](r random, values ...T) T { return values[r.IntN(len(values))] }

// weighted is a value with its share.
type weighted[T any] struct {
	weight int
	value  T
}

// choose is one of the values by their shares.
func choose[T any](r random, values ...weighted[T]) T {
	sum := 0
	for _, v := range values {
		sum += v.weight
	}
	at := r.IntN(sum)
	for _, v := range values {
		if at -= v.weight; at < 0 {
			return v.value
		}
	}
	panic("shares that do not add up")
}

// some are n different ones of the values, in their order.
func some[T any](r random, n int, values ...T) []T {
	taken := r.Perm(len(values))[:min(n, len(values))]
	chosen := make([]bool, len(values))
	for _, at := range taken {
		chosen[at] = true
	}
	var out []T
	for at, value := range values {
		if chosen[at] {
			out = append(out, value)
		}
	}
	return out
}
