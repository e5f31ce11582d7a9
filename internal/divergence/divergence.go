// Package divergence says how far the predictions of one model are from those of another, and from a text: it owns
// log-softmax, the Kullback-Leibler divergence, and what both are summed up to. All of it is computed in float64, in nats.
package divergence

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// A Meter compares a model with a reference, position by position. Its zero value is ready; it is for one goroutine.
type Meter struct {
	kl               []float64 // of each position
	sum              float64   // of kl
	agree            int       // positions where the most likely token is the same
	reference, other Score
}

// A Result is what a Meter has seen. Of no position, all of it is 0.
type Result struct {
	Tokens int // positions compared
	// The divergence KL(reference || model) of the predictions at a position; percentiles are interpolated between
	// neighbours, as numpy does.
	KLMean, KLP50, KLP90, KLP99, KLMax float64
	Top1                               float64 // share of positions where both have the same most likely token
	Reference, Model                   Score   // of the tokens that follow, where Add was told
}

// A NotFiniteError is about logits that have no softmax.
type NotFiniteError struct {
	Row       int
	Reference bool // they are the reference's
}

// Error names the model and the row.
func (e *NotFiniteError) Error() string {
	of := ""
	if e.Reference {
		of = " of the reference"
	}
	return fmt.Sprintf("the logits%s in row %d are not finite", of, e.Row)
}

// Add takes the logits (vocab) of both models at a position. next is the token that follows there, whose loss counts for
// the perplexities; -1 stands for none. Logits that have no softmax are a *NotFiniteError, and the position is left out.
func (m *Meter) Add(reference, logits []float32, next int32) error {
	return m.AddRows(reference, logits, []int32{next}, 1)
}

// AddRows is Add for positions that follow one another, of which both logits are (len(next), vocab), on as many
// goroutines as threads. The result does not depend on how many. On an error no position is added.
func (m *Meter) AddRows(reference, logits []float32, next []int32, threads int) error {
	if len(next) == 0 {
		return nil
	}
	if len(reference) != len(logits) || len(logits)%len(next) != 0 {
		panic(fmt.Sprintf("BUG: %d and %d logits of %d positions", len(reference), len(logits), len(next)))
	}
	vocab := len(logits) / len(next)
	all := make([]position, len(next))
	forRows(len(next), threads, func(r int) {
		all[r] = compare(reference[r*vocab:(r+1)*vocab], logits[r*vocab:(r+1)*vocab], next[r])
	})
	for r, p := range all {
		if !finite(p.reference) || !finite(p.model) || !finite(p.kl) {
			return &NotFiniteError{Row: r, Reference: !finite(p.reference)}
		}
	}
	for r, p := range all {
		m.kl = append(m.kl, p.kl)
		m.sum += p.kl
		if p.agree {
			m.agree++
		}
		if next[r] >= 0 {
			m.reference.Add(p.reference)
			m.other.Add(p.model)
		}
	}
	return nil
}

// Mean returns the mean divergence so far.
func (m *Meter) Mean() float64 { return m.sum / float64(max(1, len(m.kl))) }

// Scores returns what the two models made of the tokens so far.
func (m *Meter) Scores() (reference, model Score) { return m.reference, m.other }

// Result sums up what was added. It sorts: for figures on the way there are Mean and Scores.
func (m *Meter) Result() Result {
	r := Result{Tokens: len(m.kl), Reference: m.reference, Model: m.other}
	if len(m.kl) == 0 {
		return r
	}
	s := slices.Sorted(slices.Values(m.kl))
	r.KLMean, r.KLP50, r.KLP90, r.KLP99, r.KLMax = m.Mean(), percentile(s, 0.5), percentile(s, 0.9), percentile(s, 0.99), s[len(s)-1]
	r.Top1 = float64(m.agree) / float64(len(s))
	return r
}

// percentile returns the value below which a share of the sorted values lies.
func percentile(sorted []float64, share float64) float64 {
	at := share * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// A position is what two models predict at one place.
type position struct {
	kl               float64
	reference, model float64 // losses of the next token; without one, those of the most likely token
	agree            bool
}

// compare computes KL(p || q) = Σ p·(ln p - ln q) for p and q the softmax of reference and logits. With x and y the
// logits less the largest of each, ln p = x - ln Σ exp x, so that the sum is Σ p·(x - y) - ln Σ exp x + ln Σ exp y: one
// pass, and exactly 0 for logits that are the same.
func compare(reference, logits []float32, next int32) position {
	a, b := peak(reference), peak(logits)
	topX, topY := float64(reference[a]), float64(logits[b])
	var sumX, sumY, cross float64
	for i, v := range reference {
		x, y := float64(v)-topX, float64(logits[i])-topY
		p := math.Exp(x)
		sumX += p
		sumY += math.Exp(y)
		if p > 0 { // a token that is impossible may be impossible for both
			cross += p * (x - y)
		}
	}
	logX, logY := math.Log(sumX), math.Log(sumY)
	// Rounding may take what is nearly 0 below it.
	d := position{kl: max(0, cross/sumX-logX+logY), reference: logX, model: logY, agree: a == b}
	if next >= 0 {
		d.reference += topX - float64(reference[next])
		d.model += topY - float64(logits[next])
	}
	return d
}

// peak returns the index of the largest logit, the first of several.
func peak(logits []float32) int {
	top := 0
	for i, v := range logits {
		if v > logits[top] {
			top = i
		}
	}
	return top
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// forRows calls f for every row, on as many goroutines as threads.
func forRows(rows, threads int, f func(r int)) {
	var all sync.WaitGroup
	for t := range min(threads, rows) {
		all.Go(func() {
			for r := t; r < rows; r += threads {
				f(r)
			}
		})
	}
	all.Wait()
}
