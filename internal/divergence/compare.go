package divergence

import "math"

// A Reference holds logits of a reference model, made ready to be compared with those of any number of models. Its zero
// value holds none. While nobody sets it, goroutines may share it.
type Reference struct {
	logits []float32 // (rows, vocab)
	exps   []float64 // (rows, vocab): the exponentials of logits less the largest of the row
	rows   []summary
}

// Set has r hold logits (rows, vocab), which must stay as they are, on as many goroutines as threads. It takes 8 bytes a
// logit, which it keeps for the next time. Logits that have no softmax are an error where they are compared.
func (r *Reference) Set(logits []float32, rows, threads int) {
	r.logits, r.rows = logits, make([]summary, rows)
	if len(r.exps) < len(logits) {
		r.exps = make([]float64, len(logits))
	}
	vocab := len(logits) / max(1, rows)
	forRows(rows, threads, func(_, i int) {
		r.rows[i] = summarize(r.exps[i*vocab:][:vocab], logits[i*vocab:][:vocab])
	})
}

// A summary is what a comparison needs to know of all logits of a row.
type summary struct {
	peak int     // where the largest is
	top  float64 // the largest
	sum  float64 // of the exponentials of logits less the largest
}

// summarize sets exps to the exponentials of logits less the largest, and sums them up.
func summarize(exps []float64, logits []float32) summary {
	s := summary{peak: peak(logits)}
	s.top = float64(logits[s.peak])
	exps = exps[:len(logits)]
	for i, v := range logits {
		exps[i] = math.Exp(float64(v) - s.top)
		s.sum += exps[i]
	}
	return s
}

// A position is what two models predict at one place.
type position struct {
	kl               float64
	reference, model float64 // losses of the next token; without one, those of the most likely token
	agree            bool
}

// compare computes KL(p || q) = Σ p·(ln p - ln q) for p and q the softmax of reference, of which are known its summary and
// exps, and of logits. With x and y the logits less the largest of each, ln p = x - ln Σ exp x, so that the sum is
// Σ p·(x - y) - ln Σ exp x + ln Σ exp y: one pass, and exactly 0 for logits that are the same.
//
// Where y is near x, as nearly everywhere for a model that was hardly changed, exp y is exp x · exp(y - x), and the second
// factor comes from a table and four terms of its series, to 3e-16.
func compare(known summary, reference []float32, exps []float64, logits []float32, next int32) position {
	b := peak(logits)
	top := float64(logits[b])
	shift := top - known.top
	var sum, cross float64
	exps, logits = exps[:len(reference)], logits[:len(reference)]
	for i, v := range reference {
		p, y := exps[i], float64(logits[i])
		d := y - float64(v) - shift // y - x
		if math.Abs(d) < nearLimit {
			t := d*nearSteps + roundToInt
			rest := d - (t-roundToInt)/nearSteps
			q := p * nearExps[(math.Float64bits(t)+nearExps0)%uint64(len(nearExps))]
			sum += q + q*rest*(1+rest*0.5+rest*rest*(1.0/6+rest*(1.0/24)))
			cross += p * d
			continue
		}
		sum += math.Exp(y - top)
		if p > 0 { // a token that is impossible may be impossible for both
			cross += p * d
		}
	}
	logX, logY := math.Log(known.sum), math.Log(sum)
	// Rounding may take what is nearly 0 below it.
	p := position{kl: max(0, logY-logX-cross/known.sum), reference: logX, model: logY, agree: known.peak == b}
	if next >= 0 {
		p.reference += known.top - float64(reference[next])
		p.model += top - float64(logits[next])
	}
	return p
}

// The exponentials of differences below nearLimit are those of multiples of 1/nearSteps, times those of what is left. With a
// limit of 2, models that differ by that much took half as long again (BenchmarkMeter with noise of 2); the table has 16 kB.
const (
	nearSteps  = 256
	nearExps0  = 4 * nearSteps          // where exp 0 is
	nearLimit  = 4 - 1.0/nearSteps      // so that what is rounded up is in the table too
	roundToInt = float64(1<<52 + 1<<51) // added, leaves an integer in the last bits of a float64
)

// nearExps holds exp((i - nearExps0)/nearSteps).
var nearExps = func() (t [2 * nearExps0]float64) {
	for i := range t {
		t[i] = math.Exp(float64(i-nearExps0) / nearSteps)
	}
	return t
}()

// peak returns the index of the largest logit, the first of several. Of logits that are not all numbers it returns any.
func peak(logits []float32) int {
	at, top := 0, logits[0]
	for i, v := range logits {
		if !(v <= top) { // v > top takes twice as long: it is compiled to moves where there is nothing to do
			at, top = i, v
		}
	}
	return at
}
