package runtime

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"eckart/kernels"
)

// A sampler chooses the tokens of one sequence. Its stream of random numbers belongs to the sequence and gives one
// number per token, so that the same seed gives the same text in any batch, and after a preemption.
type sampler struct {
	Sampling
	random rand.PCG
	bias   []choice // LogitBias by id
	seen   []seen   // tokens that a penalty may concern
	at     map[int32]int32
}

// seen is a token of the prompt or the output.
type seen struct {
	id    int32
	count int32 // occurrences in the output
}

// scratch is what choosing a token needs for a moment; all sequences share it.
type scratch struct {
	sums    []float64 // per sumBlock logits
	choices []choice
	likely  []choice  // the same, in another order
	raw     []float32 // logits before they were adjusted
	report  report
}

func newScratch(vocab int) *scratch {
	return &scratch{sums: make([]float64, (vocab+sumBlock-1)/sumBlock)}
}

// newSampler returns the sampler of a sequence that starts with prompt.
func newSampler(s Sampling, prompt []int32) *sampler {
	p := &sampler{Sampling: s}
	seed := rand.Uint64()
	if s.Seed != nil {
		seed = *s.Seed
	}
	p.random.Seed(seed, 0x9e3779b97f4a7c15)
	for id, b := range s.LogitBias {
		p.bias = append(p.bias, choice{id, b})
	}
	if p.RepetitionPenalty == 0 {
		p.RepetitionPenalty = 1
	}
	if p.penalizes() {
		p.at = make(map[int32]int32)
		for _, id := range prompt {
			p.see(id)
		}
	}
	return p
}

func (p *sampler) penalizes() bool {
	return p.RepetitionPenalty != 1 || p.PresencePenalty != 0 || p.FrequencyPenalty != 0
}

// see returns the place of a token in seen.
func (p *sampler) see(id int32) int32 {
	at, ok := p.at[id]
	if !ok {
		at = int32(len(p.seen))
		p.seen = append(p.seen, seen{id: id})
		p.at[id] = at
	}
	return at
}

// accept records that id was generated.
func (p *sampler) accept(id int32) {
	if p.at != nil {
		p.seen[p.see(id)].count++
	}
}

// adjusts reports whether adjust would change anything.
func (p *sampler) adjusts(banned []int32) bool {
	return len(p.bias) > 0 || len(p.seen) > 0 || len(banned) > 0
}

// adjust applies bias and penalties to the logits and bans tokens. A mask on logits (constrained output) belongs here.
func (p *sampler) adjust(logits []float32, banned []int32) {
	for _, b := range p.bias {
		logits[b.id] += b.value
	}
	for _, t := range p.seen {
		x := logits[t.id]
		if x > 0 { // Keskar et al. 2019, section 4.1, made to work for negative logits as everyone does
			x /= p.RepetitionPenalty
		} else {
			x *= p.RepetitionPenalty
		}
		if t.count > 0 {
			x -= p.FrequencyPenalty*float32(t.count) + p.PresencePenalty
		}
		logits[t.id] = x
	}
	for _, id := range banned {
		logits[id] = float32(math.Inf(-1))
	}
}

// choose returns the next token, given logits that it changes. Tokens in banned are not chosen. ErrLogits says that no
// token can be.
func (p *sampler) choose(logits []float32, banned []int32, w *scratch) (int32, error) {
	if p.adjusts(banned) {
		p.adjust(logits, banned)
	}
	best := largest(logits)
	if best < 0 {
		return -1, ErrLogits
	}
	return pick(p.choice(), logits, best, w), nil
}

// pick returns the token that c picks from logits, the largest of which is at place best: what a kernels.Chooser does.
func pick(c kernels.Choice, logits []float32, best int, w *scratch) int32 {
	if c.Scale == 0 {
		return int32(best)
	}
	top, low, u := logits[best], logits[best]+c.Low, float64(c.Draw)*0x1p-53
	nucleic := c.TopP > 0 && c.TopP < 1
	if c.TopK > 0 && c.TopK < len(logits) {
		w.choices = largestK(w.choices, logits, c.TopK, low)
		sum := weigh(w.choices, top, c.Scale)
		if nucleic {
			w.choices = w.choices[:prefix(w.choices, float64(c.TopP)*sum)]
		}
		slices.SortFunc(w.choices, func(a, b choice) int { return cmp.Compare(a.id, b.id) })
		return draw(w.choices, u)
	}
	sum := weights(w.sums, logits, top, c.Scale, low)
	if !nucleic {
		return drawAll(logits, w.sums, u*sum, top, c.Scale, low)
	}
	// Tokens less likely than (1-p)/n have no more than 1-p together: the nucleus lies in the others, which are few.
	rest := sum * (1 - float64(c.TopP)) / float64(len(logits))
	low = max(low, top+float32(math.Log(rest))/c.Scale-1e-3)
	w.choices = w.choices[:0]
	for i, x := range logits {
		if x >= low {
			w.choices = append(w.choices, choice{int32(i), x})
		}
	}
	weigh(w.choices, top, c.Scale)
	w.likely = append(w.likely[:0], w.choices...)
	last := w.likely[nucleus(w.likely, float64(c.TopP)*sum)-1]
	w.choices = slices.DeleteFunc(w.choices, func(c choice) bool { return order(c, last) > 0 })
	return draw(w.choices, u)
}

// choice says how the next token is chosen, from logits that need no adjusting, and draws its random number. What it means
// is kernels.Chooser's: host and devices choose the same token, but for the rounding of sums.
func (p *sampler) choice() kernels.Choice {
	if p.Temperature < MinTemperature {
		return kernels.Choice{}
	}
	c := kernels.Choice{Scale: 1 / p.Temperature, Low: float32(math.Inf(-1)), TopK: p.TopK, TopP: p.TopP}
	if p.MinP > 0 {
		c.Low = p.Temperature * float32(math.Log(float64(p.MinP)))
	}
	c.Draw = p.random.Uint64() >> 11 // the token's one random number
	return c
}

// weigh turns the logits of choices into weights and returns their sum.
func weigh(c []choice, top, scale float32) (sum float64) {
	for i := range c {
		c[i].value = exp32((c[i].value - top) * scale)
		sum += float64(c[i].value)
	}
	return sum
}

// draw returns the choice at the part u of the sum of weights.
func draw(c []choice, u float64) int32 {
	var sum float64
	for i := range c {
		sum += float64(c[i].value)
	}
	return c[prefixAfter(c, u*sum)].id
}

// prefixAfter returns the place at which the running sum of weights first exceeds mass. When rounding leaves it
// unreached, that is the last place with a weight.
func prefixAfter(c []choice, mass float64) int {
	last := 0
	for i := range c {
		if c[i].value > 0 {
			last = i
		}
		if mass -= float64(c[i].value); mass < 0 {
			return i
		}
	}
	return last
}

// drawAll returns the token at which the running sum of weights first exceeds mass, given the sums of blocks of them.
func drawAll(logits []float32, sums []float64, mass float64, top, scale, low float32) int32 {
	at, last := 0, 0
	for b, sum := range sums {
		if sum > 0 {
			last = b
		}
	}
	for at < last && mass >= sums[at] {
		mass -= sums[at]
		at++
	}
	chosen := 0
	for i := at * sumBlock; i < min((at+1)*sumBlock, len(logits)); i++ {
		if logits[i] < low {
			continue
		}
		weight := exp32((logits[i] - top) * scale)
		if weight > 0 {
			chosen = i
		}
		if mass -= float64(weight); mass < 0 {
			break
		}
	}
	return int32(chosen)
}

// A report is the log-probabilities of one position, before the token is chosen.
type report struct {
	logits []float32 // raw
	norm   float64   // logarithm of the sum of their exponentials
	top    []Candidate
}

// logprob returns the logarithm of the probability of id.
func (r *report) logprob(id int32) float32 { return float32(float64(r.logits[id]) - r.norm) }

// observe returns the log-probabilities of raw logits with the n likeliest tokens. When the logits are about to be
// adjusted it keeps a copy. The report is valid until the next.
func observe(logits []float32, n int, adjusts bool, w *scratch) *report {
	r := &w.report
	*r = report{logits: logits}
	if adjusts {
		w.raw = append(w.raw[:0], logits...)
		r.logits = w.raw
	}
	best := largest(logits)
	if best < 0 {
		return r // choosing a token will say so
	}
	top := logits[best]
	r.norm = float64(top) + math.Log(weights(w.sums, logits, top, 1, float32(math.Inf(-1))))
	if n > 0 {
		w.choices = largestK(w.choices, logits, min(n, len(logits)), float32(math.Inf(-1)))
		r.top = make([]Candidate, len(w.choices))
		for i, c := range w.choices {
			r.top[i] = Candidate{c.id, r.logprob(c.id)}
		}
	}
	return r
}
