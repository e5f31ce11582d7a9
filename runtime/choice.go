package runtime

import (
	"cmp"
	"slices"
)

// A choice is a token that may be chosen, with its logit or its weight.
type choice struct {
	id    int32
	value float32
}

// order puts the larger value first, and of equal ones the lower id: no two tokens are equal in it.
func order(a, b choice) int {
	if c := cmp.Compare(b.value, a.value); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

// largestK returns the k largest of the logits that are at least low, in order, in the memory of dst. It looks at each
// logit once and keeps the best so far in a heap, whose top is the worst of them.
func largestK(dst []choice, logits []float32, k int, low float32) []choice {
	dst = dst[:0]
	i := 0
	for ; i < len(logits) && len(dst) < k; i++ {
		if logits[i] >= low {
			dst = append(dst, choice{int32(i), logits[i]})
		}
	}
	if len(dst) == k && i < len(logits) {
		for at := len(dst)/2 - 1; at >= 0; at-- {
			sink(dst, at)
		}
		low := dst[0].value
		for ; i < len(logits); i++ {
			if x := logits[i]; x > low { // an equal one has a higher id
				dst[0] = choice{int32(i), x}
				sink(dst, 0)
				low = dst[0].value
			}
		}
	}
	slices.SortFunc(dst, order)
	return dst
}

// sink restores the heap below place at.
func sink(heap []choice, at int) {
	for {
		worst := 2*at + 1
		if worst >= len(heap) {
			return
		}
		if r := worst + 1; r < len(heap) && order(heap[r], heap[worst]) > 0 {
			worst = r
		}
		if order(heap[worst], heap[at]) < 0 {
			return
		}
		heap[at], heap[worst] = heap[worst], heap[at]
		at = worst
	}
}

// nucleus reorders the choices and returns how many of the largest weights are needed to reach the sum mass: those are
// the first ones then. It is quickselect with weights: only the part in which the sum is crossed is looked at again, so
// that the work is linear where sorting is not.
func nucleus(c []choice, mass float64) int {
	from, to := 0, len(c)
	for to-from > 16 {
		// The median of three goes last, to partition by.
		mid := int(uint(from+to) / 2)
		if order(c[mid], c[from]) < 0 {
			c[mid], c[from] = c[from], c[mid]
		}
		if order(c[to-1], c[from]) < 0 {
			c[to-1], c[from] = c[from], c[to-1]
		}
		if order(c[mid], c[to-1]) < 0 {
			c[mid], c[to-1] = c[to-1], c[mid]
		}
		pivot := c[to-1]
		var sum float64
		at := from
		for i := from; i < to-1; i++ {
			if order(c[i], pivot) < 0 {
				sum += float64(c[i].value)
				c[i], c[at] = c[at], c[i]
				at++
			}
		}
		c[at], c[to-1] = c[to-1], c[at]
		switch w := float64(pivot.value); {
		case mass <= sum:
			to = at
		case mass <= sum+w:
			return at + 1
		default:
			mass -= sum + w
			from = at + 1
		}
	}
	slices.SortFunc(c[from:to], order)
	return from + prefix(c[from:to], mass)
}

// prefix returns how many leading choices reach the sum mass: at least one, and all when rounding leaves it unreached.
func prefix(c []choice, mass float64) int {
	for i := range c {
		if mass -= float64(c[i].value); mass <= 0 {
			return i + 1
		}
	}
	return len(c)
}
