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
	vocab := rowLength(reference, logits, len(next))
	all, exps := make([]position, len(next)), make([][]float64, max(1, threads))
	forRows(len(next), threads, func(thread, r int) {
		if exps[thread] == nil {
			exps[thread] = make([]float64, vocab)
		}
		of := reference[r*vocab:][:vocab]
		all[r] = compare(summarize(exps[thread], of), of, exps[thread], logits[r*vocab:][:vocab], next[r])
	})
	return m.record(all, next)
}

// AddPrepared is AddRows for a reference, of len(next) rows, that is compared with several models.
func (m *Meter) AddPrepared(reference *Reference, logits []float32, next []int32, threads int) error {
	vocab := rowLength(reference.logits, logits, len(reference.rows))
	all := make([]position, len(next))
	forRows(len(next), threads, func(_, r int) {
		of, exps := reference.logits[r*vocab:][:vocab], reference.exps[r*vocab:][:vocab]
		all[r] = compare(reference.rows[r], of, exps, logits[r*vocab:][:vocab], next[r])
	})
	return m.record(all, next)
}

// rowLength returns the number of logits of a position.
func rowLength(reference, logits []float32, rows int) int {
	vocab := len(logits) / max(1, rows)
	if len(reference) != len(logits) || vocab*rows != len(logits) {
		panic(fmt.Sprintf("BUG: %d and %d logits of %d positions", len(reference), len(logits), rows))
	}
	return vocab
}

// record adds positions and the tokens that follow them, or none of them.
func (m *Meter) record(all []position, next []int32) error {
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

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// forRows calls f for every row, on as many goroutines as threads, which it numbers.
func forRows(rows, threads int, f func(thread, r int)) {
	var all sync.WaitGroup
	for t := range min(threads, rows) {
		all.Go(func() {
			for r := t; r < rows; r += threads {
				f(t, r)
			}
		})
	}
	all.Wait()
}
