package compress

import (
	"math"
	"math/rand/v2"
	"testing"
)

// randomOptions returns some options for each of n matrices, the costs of which are whole numbers.
func randomOptions(r *rand.Rand, n int) [][]option {
	matrices := make([][]option, n)
	for i := range matrices {
		for j := range 2 + r.IntN(5) {
			matrices[i] = append(matrices[i], option{cost: float64(1 + r.IntN(20)), loss: r.Float64(), index: j})
		}
	}
	return matrices
}

// total sums up what chosen costs and loses.
func total(matrices [][]option, chosen []int) (cost, loss float64) {
	for i, c := range chosen {
		cost += matrices[i][c].cost
		loss += matrices[i][c].loss
	}
	return cost, loss
}

// best returns the least loss within budget, by dynamic programming over whole costs; infinite if nothing fits.
func best(matrices [][]option, budget int) float64 {
	least := make([]float64, budget+1)
	for _, options := range matrices {
		next := make([]float64, budget+1)
		for b := range next {
			next[b] = math.Inf(1)
			for _, o := range options {
				if c := int(o.cost); c <= b {
					next[b] = min(next[b], least[b-c]+o.loss)
				}
			}
		}
		least = next
	}
	return least[budget]
}

// largest returns the most that one move along a hull saves.
func largest(matrices [][]option) float64 {
	var most float64
	for _, options := range matrices {
		h := hull(options)
		for j := 1; j < len(h); j++ {
			most = max(most, h[j-1].loss-h[j].loss)
		}
	}
	return most
}

func TestAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		matrices := randomOptions(r, 1+r.IntN(12))
		budget := r.IntN(150)
		want := best(matrices, budget)
		chosen, ok := allocate(matrices, float64(budget))
		if ok != !math.IsInf(want, 1) {
			t.Fatalf("budget %d of %v: ok is %v and the optimum %g", budget, matrices, ok, want)
		}
		if !ok {
			continue
		}
		cost, loss := total(matrices, chosen)
		if cost > float64(budget) {
			t.Fatalf("costs %g of %d", cost, budget)
		}
		// The relaxation is off by less than the move that did not fit.
		if loss < want-1e-12 || loss > want+largest(matrices) {
			t.Fatalf("loses %g, the optimum is %g", loss, want)
		}
	}
}

func TestAllocateLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		matrices := randomOptions(r, 1+r.IntN(12))
		most := 3 * r.Float64()
		chosen, ok := allocateLoss(matrices, most)
		cost, loss := total(matrices, chosen)
		if ok != (loss <= most+1e-12) {
			t.Fatalf("loses %g of %g, ok is %v", loss, most, ok)
		}
		if !ok {
			continue
		}
		// What costs so much less that a whole move would fit cannot lose as little.
		var widest float64
		for _, options := range matrices {
			h := hull(options)
			for j := 1; j < len(h); j++ {
				widest = max(widest, h[j].cost-h[j-1].cost)
			}
		}
		if under := int(cost - widest - 1); under > 0 && best(matrices, under) <= most {
			t.Fatalf("%d suffices for a loss of %g, and %g was spent", under, most, cost)
		}
	}
}

// TestHull holds a case by hand: of five options the dominated and the one above the hull go.
func TestHull(t *testing.T) {
	h := hull([]option{{10, 1, 0}, {1, 10, 1}, {4, 9, 2}, {5, 4, 3}, {12, 2, 4}})
	if len(h) != 3 || h[0].index != 1 || h[1].index != 3 || h[2].index != 0 {
		t.Errorf("hull %v", h)
	}
}

// TestEntities holds what a planner chooses from at a site against all combinations of its matrices' choices and those that
// they can only have together: the same is best at every price.
func TestEntities(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	cost := func(f Footprint) float64 { return float64(f.Bytes()) }
	random := func() outcome {
		return outcome{Choice: Choice{Form: formRound}, size: Footprint{Kept: int64(1 + r.IntN(40))}, err: r.Float64()}
	}
	joint, apart := 0, 0
	for range 200 {
		s := siteCandidates{matrices: make([]candidates, 3)}
		all := []option{{}}
		for i := range s.matrices {
			m := &s.matrices[i]
			m.sensitivity = 1 + r.Float64()
			var sums []option
			for range 2 + r.IntN(4) {
				o := random()
				m.outcomes = append(m.outcomes, o)
				for _, before := range all {
					sums = append(sums, option{cost: before.cost + cost(o.size), loss: before.loss + m.sensitivity*o.err})
				}
			}
			all = sums
		}
		for rank := range r.IntN(3) {
			shared := []Stored{{1, 1 + r.IntN(10), nil}}
			sum := option{cost: float64(shared[0].Bytes()), index: 1}
			for i := range s.matrices {
				o, m := random(), &s.matrices[i]
				sum.cost += cost(o.size)
				sum.loss += m.sensitivity * o.err
				o.Choice, o.size.Shared = Choice{Form: formJoint, Rank: rank + 1}, shared
				m.outcomes = append(m.outcomes, o)
			}
			all = append(all, sum)
		}
		want := hull(all)
		got := s.entities(cost, 0)
		if len(got) == 1 {
			joint++
			h := hull(got[0].options)
			if len(h) != len(want) {
				t.Fatalf("a hull of %d options, want %d", len(h), len(want))
			}
			for i, o := range h {
				var loss float64
				for k, of := range got[0].outcomes[o.index] {
					loss += s.matrices[k].sensitivity * of.err
				}
				if math.Abs(o.loss-want[i].loss) > 1e-9 || math.Abs(o.cost-want[i].cost) > 1e-9 || math.Abs(loss-o.loss) > 1e-9 {
					t.Fatalf("option %d costs %g and loses %g (%g), want %g and %g", i, o.cost, o.loss, loss, want[i].cost, want[i].loss)
				}
			}
			continue
		}
		apart++
		for _, o := range want {
			if o.index == 1 {
				t.Errorf("what loses %g for %g together is never chosen", o.loss, o.cost)
			}
		}
	}
	if joint < 20 || apart < 20 {
		t.Errorf("%d sites as one, %d apart: the test says little", joint, apart)
	}
}
