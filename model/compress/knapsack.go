package compress

import (
	"cmp"
	"slices"
)

// An option is a choice for one matrix with what it costs and what is lost by it, both summed over matrices by allocate.
type option struct {
	cost, loss float64
	index      int // of the choice
}

// A move goes from one option of a matrix to the next more costly one on its hull.
type move struct {
	matrix, to   int // to indexes the hull
	cost, saving float64
}

// allocate picks an option for every matrix: the least loss whose costs add up to at most budget. It returns the indices
// of the options, and ok false where even the cheapest ones cost more.
//
// This is the multiple-choice knapsack problem by its linear relaxation (Sinha and Zoltners 1979): of each matrix only
// the options on the lower convex hull of (cost, loss) can be best for some price of a unit of cost; going along all
// hulls at once from the steepest move to the flattest is optimal wherever it stops, and at a given budget it is off by
// less than one move. What that leaves over goes to the moves that still fit.
func allocate(matrices [][]option, budget float64) (chosen []int, ok bool) {
	hulls, at, spent := start(matrices)
	if spent > budget {
		return nil, false
	}
	for _, m := range moves(hulls) {
		// A matrix takes its moves in order: the saving of a later one counts from the option before it.
		if at[m.matrix] == m.to-1 && spent+m.cost <= budget {
			at[m.matrix] = m.to
			spent += m.cost
		}
	}
	return pick(hulls, at), true
}

// allocateLoss picks the least costly options whose losses add up to at most loss; ok is false where the most costly ones
// lose more.
func allocateLoss(matrices [][]option, loss float64) (chosen []int, ok bool) {
	hulls, at, _ := start(matrices)
	var sum float64
	for i, h := range hulls {
		sum += h[at[i]].loss
	}
	for _, m := range moves(hulls) {
		if sum <= loss {
			break
		}
		at[m.matrix] = m.to
		sum -= m.saving
	}
	return pick(hulls, at), sum <= loss
}

// start returns the hulls of all matrices, the cheapest option on each, and what those cost.
func start(matrices [][]option) (hulls [][]option, at []int, spent float64) {
	for _, options := range matrices {
		h := hull(options)
		hulls = append(hulls, h)
		spent += h[0].cost
	}
	return hulls, make([]int, len(matrices)), spent
}

// hull returns the options on the lower convex hull, from the cheapest to the one that loses least.
func hull(options []option) []option {
	sorted := slices.Clone(options)
	slices.SortStableFunc(sorted, func(a, b option) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.loss, b.loss))
	})
	var h []option
	for _, o := range sorted {
		if len(h) > 0 && o.loss >= h[len(h)-1].loss {
			continue // costs more and loses no less
		}
		for len(h) >= 2 && slope(h[len(h)-2], h[len(h)-1]) <= slope(h[len(h)-1], o) {
			h = h[:len(h)-1]
		}
		h = append(h, o)
	}
	return h
}

// slope returns the loss saved by a unit of cost between two options.
func slope(a, b option) float64 { return (a.loss - b.loss) / (b.cost - a.cost) }

// moves returns all moves along the hulls, those that save most for their cost first.
func moves(hulls [][]option) []move {
	var all []move
	for i, h := range hulls {
		for j := 1; j < len(h); j++ {
			all = append(all, move{i, j, h[j].cost - h[j-1].cost, h[j-1].loss - h[j].loss})
		}
	}
	slices.SortStableFunc(all, func(a, b move) int { return cmp.Compare(b.saving*a.cost, a.saving*b.cost) })
	return all
}

func pick(hulls [][]option, at []int) []int {
	chosen := make([]int, len(hulls))
	for i, h := range hulls {
		chosen[i] = h[at[i]].index
	}
	return chosen
}
