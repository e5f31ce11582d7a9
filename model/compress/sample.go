package compress

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says of how many tokens a survey computes products. Where Grams are wide, products take as long as the model
// itself, and most tokens tell nothing that others do not. A token x is chosen with a probability in proportion to its
// sensitivity, the share of the sum of squares that it alone makes up, added up over columns:
//
//	s(x) = Σⱼ xⱼ²/mⱼ, m the mean squares of the tokens before
//
// which is its leverage x·C⁻¹·xᵀ with the diagonal of C in the place of C (Drineas et al. 2012, "Fast approximation of
// matrix coherence and statistical leverage"); and its products count as many times as the probability is small, so that
// the Gram matrix is right on average. Means are of all tokens.
//
// Leverages in the Gram of what was chosen so far, factorized again and again, choose no better: of directions that are rare
// it knows too few tokens, and spikes, which matter most, lie along columns. TestSurveySampledNeedsHalf logs what sampling
// reaches, and docs/compression.md what could be: even the leverages of all tokens, which are the best of all scores, make a
// token worth 1.1 to 1.6 of those drawn evenly.
type Sampling struct {
	Share float64 // of tokens, above 0 and at most 1; at 1 all are taken, as they are
	Seed  uint64
}

// evenShare of the probability is spread evenly, which bounds the weight of a token.
const evenShare = 0.1

// A sampler collects the moments of one site from some of its tokens.
type sampler struct {
	chosen  *accumulator // rows, over the root of their probability
	budget  float64      // tokens that may still be chosen
	left    int          // tokens that are still to come
	seen    int
	sums    []float64 // of all rows
	squares []float64 // of their elements
	scored  float64   // sum of the scores so far
	scores  int       // of so many tokens
	// Probabilities are added up, and a token is chosen where the sum passes a whole number (systematic sampling): chosen
	// tokens are spread over the text, and there are as many as there should be.
	passed float64
	rows   []float32 // chosen of those at hand
}

// newSampler returns a sampler of a site with a total of tokens.
func newSampler(site string, in, batch, total int, o Sampling) *sampler {
	h := fnv.New64a()
	_, _ = h.Write([]byte(site)) // a hash takes everything
	return &sampler{
		chosen: newAccumulator(site, in, batch), budget: o.Share * float64(total), left: total,
		sums: make([]float64, in), squares: make([]float64, in), passed: rand.New(rand.NewPCG(o.Seed, h.Sum64())).Float64(),
	}
}

// add implements collector. What a token's chance depends on is known before the window that it is in.
func (s *sampler) add(m *multiplier, x []float32) error {
	in := s.chosen.in
	if i := slices.IndexFunc(x, notFinite); i >= 0 {
		return fmt.Errorf("survey: the input of %s is %g in column %d of token %d", s.chosen.site, x[i], i%in, i/in)
	}
	inverse := make([]float64, in) // of mean squares
	for j, v := range s.squares {
		if v > 0 {
			inverse[j] = float64(s.seen) / v
		}
	}
	rate := s.budget / float64(s.left)
	mean := s.scored / float64(max(1, s.scores))
	s.rows = s.rows[:0]
	rows := len(x) / in
	for i := range rows {
		row := x[i*in:][:in]
		score := 0.0
		for j, v := range row {
			f := float64(v)
			score += f * f * inverse[j]
		}
		for j, v := range row {
			f := float64(v)
			s.sums[j] += f
			s.squares[j] += f * f
		}
		p := rate
		switch {
		case mean > 0:
			p = min(1, rate*((1-evenShare)*score/mean+evenShare))
		case s.seen > 0: // the first window that is scored has no mean to compare with but what scores sum to
			p = min(1, rate*((1-evenShare)*score/float64(in)+evenShare))
		}
		if s.seen > 0 {
			s.scored += score
			s.scores++
		}
		s.budget -= p
		s.passed += p
		if s.passed < 1 {
			continue
		}
		s.passed--
		weight := float32(1 / math.Sqrt(p))
		for _, v := range row {
			s.rows = append(s.rows, v*weight)
		}
	}
	s.budget = max(0, s.budget)
	s.seen += rows
	s.left = max(1, s.left-rows)
	return s.chosen.add(m, s.rows)
}

// finish implements collector.
func (s *sampler) finish(m *multiplier) (*Moments, error) {
	out, err := s.chosen.finish(m)
	if err != nil {
		return nil, err
	}
	out.Tokens = s.seen
	for j := range out.Mean {
		out.Mean[j] = s.sums[j] / float64(s.seen)
	}
	return out, nil
}
