package divergence_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/internal/divergence"
)

// softmax is the plain one, in float64.
func softmax(logits []float32) []float64 {
	p, sum := make([]float64, len(logits)), 0.0
	for i, v := range logits {
		p[i] = math.Exp(float64(v))
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func normal(random *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(scale * random.NormFloat64())
	}
	return x
}

// TestMeter holds every figure against the definition, from differences that are nearly nothing to large ones, whether
// positions come one by one or many at once.
func TestMeter(t *testing.T) {
	const vocab, rows = 301, 97
	random := rand.New(rand.NewPCG(1, 2))
	for _, noise := range []float64{1e-3, 0.1, 3} {
		reference := normal(random, rows*vocab, 3)
		logits := normal(random, rows*vocab, noise)
		next := make([]int32, rows)
		var kl []float64
		var sum, lossP, lossQ, agree float64
		tokens := 0
		for r := range rows {
			for i := range vocab {
				logits[r*vocab+i] += reference[r*vocab+i]
			}
			if next[r] = int32(random.IntN(vocab)); r%5 == 0 {
				next[r] = -1
			}
			p, q := softmax(reference[r*vocab:][:vocab]), softmax(logits[r*vocab:][:vocab])
			d := 0.0
			for i := range p {
				d += p[i] * math.Log(p[i]/q[i])
			}
			kl, sum = append(kl, d), sum+d
			if slices.Index(p, slices.Max(p)) == slices.Index(q, slices.Max(q)) {
				agree++
			}
			if next[r] >= 0 {
				tokens++
				lossP -= math.Log(p[next[r]])
				lossQ -= math.Log(q[next[r]])
			}
		}
		slices.Sort(kl)

		var one, many, prepared divergence.Meter
		var of divergence.Reference
		for r := range rows {
			if err := one.Add(reference[r*vocab:][:vocab], logits[r*vocab:][:vocab], next[r]); err != nil {
				t.Fatal(err)
			}
		}
		for r := 0; r < rows; r += 40 {
			to := min(r+40, rows)
			if err := many.AddRows(reference[r*vocab:to*vocab], logits[r*vocab:to*vocab], next[r:to], 3); err != nil {
				t.Fatal(err)
			}
			of.Set(reference[r*vocab:to*vocab], to-r, 2)
			if err := prepared.AddPrepared(&of, logits[r*vocab:to*vocab], next[r:to], 3); err != nil {
				t.Fatal(err)
			}
		}
		got := one.Result()
		for name, m := range map[string]*divergence.Meter{"many rows at once": &many, "a prepared reference": &prepared} {
			if again := m.Result(); again != got {
				t.Errorf("%s: %+v, want %+v", name, again, got)
			}
		}
		near := func(name string, got, want float64) {
			if math.Abs(got-want) > 1e-9*math.Abs(want)+1e-14 {
				t.Errorf("noise %g: %s %.12g, want %.12g", noise, name, got, want)
			}
		}
		near("mean", got.KLMean, sum/rows)
		near("mean so far", one.Mean(), sum/rows)
		// 96 steps between the values: whole ones for the median, 86.4 and 95.04 for the others.
		near("p50", got.KLP50, kl[48])
		near("p90", got.KLP90, kl[86]+0.4*(kl[87]-kl[86]))
		near("p99", got.KLP99, kl[95]+0.04*(kl[96]-kl[95]))
		near("max", got.KLMax, kl[96])
		near("top1", got.Top1, agree/rows)
		near("reference perplexity", got.Reference.Perplexity(), math.Exp(lossP/float64(tokens)))
		near("perplexity", got.Model.Perplexity(), math.Exp(lossQ/float64(tokens)))
		if got.Tokens != rows || got.Model.Tokens != tokens || tokens == rows {
			t.Errorf("%d positions, %d tokens, want %d and %d", got.Tokens, got.Model.Tokens, rows, tokens)
		}
	}
}

// TestDifferences: a token whose logit changes little, a good deal or beyond all measure changes both predictions as the
// definition says, to the last digits, and so do all tokens of a row together.
func TestDifferences(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	differences := []float64{0, 1e-12, -1e-7, 1e-3, 40, -40, 90, -90, 700, -700, 1e4, -1e5, math.Inf(-1)}
	for d := -4.02; d < 4.02; d += 1.0 / 512 { // the middle between the table's steps, and its ends
		differences = append(differences, d, d+1e-7)
	}
	// check compares a row, whose largest logit is 0 and that of token 0 in both, with sums that are computed plainly.
	check := func(name string, reference, logits []float32) {
		t.Helper()
		var sumX, sumY, cross float64
		for i, v := range reference {
			x, y := float64(v), float64(logits[i])
			sumX, sumY = sumX+math.Exp(x), sumY+math.Exp(y)
			if x > -740 {
				cross += math.Exp(x) * (x - y)
			}
		}
		var m divergence.Meter
		err := m.Add(reference, logits, 0)
		got, want := m.Result(), cross/sumX-math.Log(sumX)+math.Log(sumY)
		var bad *divergence.NotFiniteError
		if math.IsInf(want, 1) {
			if !errors.As(err, &bad) {
				t.Errorf("%s: a token that is impossible for the model alone: %+v, error %v", name, got, err)
			}
			return
		}
		bound := 1e-15 * (4 + math.Abs(cross/sumX) + math.Log(sumX) + math.Log(sumY)) * math.Sqrt(float64(len(logits)))
		if err != nil || math.Abs(got.KLMean-want) > bound || math.Abs(math.Log(got.Model.Perplexity())-math.Log(sumY)) > bound {
			t.Errorf("%s: divergence %.17g and loss %.17g, want %.17g and %.17g to %.2g, error %v",
				name, got.KLMean, math.Log(got.Model.Perplexity()), want, math.Log(sumY), bound, err)
		}
	}
	reference, logits := []float32{0}, []float32{0}
	for _, d := range differences {
		for _, x := range []float64{-2.5, -50, -800} {
			if x+d <= 0 {
				check(fmt.Sprintf("difference %g at %g", d, x), []float32{0, float32(x)}, []float32{0, float32(x + d)})
			}
		}
		if x := -3 - 5*random.Float64(); x+d < 0 && d > -1e3 {
			reference, logits = append(reference, float32(x)), append(logits, float32(x+d))
		}
	}
	check("all of them", reference, logits)
}

// TestSame: a model does not differ from itself, nor from one whose logits are shifted, far from zero or not.
func TestSame(t *testing.T) {
	logits := normal(rand.New(rand.NewPCG(1, 2)), 1000, 5)
	logits[7] = float32(math.Inf(-1)) // a token that is impossible
	for shift, most := range map[float32]float64{0: 0, 1 << 14: 1e-5} {
		other := slices.Clone(logits)
		for i := range other {
			other[i] += shift
		}
		var m divergence.Meter
		if err := m.Add(logits, other, -1); err != nil {
			t.Fatal(err)
		}
		if r := m.Result(); r.KLMax > most || r.Top1 != 1 || r.Tokens != 1 || r.Model.Tokens != 0 || r.Model.Perplexity() != 0 {
			t.Errorf("shifted by %g: %+v", shift, r)
		}
	}
	var none divergence.Meter
	if r := none.Result(); r != (divergence.Result{}) {
		t.Errorf("nothing compared: %+v", r)
	}
}

// TestNotFinite: what has no softmax is an error that says whose it is, and counts for nothing.
func TestNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	good := []float32{1, 2}
	for _, c := range []struct {
		name              string
		reference, logits []float32
		next              int32
		ofReference       bool
	}{
		{"NaN", good, []float32{nan, 1}, 0, false},
		{"NaN last", good, []float32{1, nan}, -1, false},
		{"infinite", good, []float32{1, inf}, 0, false},
		{"nothing possible", good, []float32{-inf, -inf}, -1, false},
		{"impossible for the model alone", good, []float32{-inf, 1}, 1, false},
		{"NaN in the reference", []float32{nan, 1}, good, 1, true},
		{"impossible next token", []float32{-inf, 1}, []float32{-inf, 1}, 0, true},
	} {
		var m divergence.Meter
		err := m.AddRows(slices.Concat(good, c.reference), slices.Concat(good, c.logits), []int32{1, c.next}, 2)
		var bad *divergence.NotFiniteError
		if !errors.As(err, &bad) || bad.Row != 1 || bad.Reference != c.ofReference || m.Result().Tokens != 0 {
			t.Errorf("%s: error %v after %d positions", c.name, err, m.Result().Tokens)
		}
	}
}

func TestLosses(t *testing.T) {
	// Softmax of these is 1/8, 1/8, 1/4, 1/2, however far from zero they lie.
	for _, shift := range []float32{0, 1e4, -1e4} {
		row := []float32{0, 0, math.Ln2, 2 * math.Ln2}
		for i := range row {
			row[i] += shift
		}
		got := make([]float64, 4)
		divergence.Losses(got, slices.Concat(row, row, row, row), []int32{0, 1, 2, 3}, 3)
		for id, want := range []float64{3, 3, 2, 1} {
			if bits := got[id] / math.Ln2; math.Abs(bits-want) > 2e-3 {
				t.Errorf("logits %v: loss of %d is %g bits, want %g", row, id, bits, want)
			}
		}
	}
	got := []float64{0}
	if divergence.Losses(got, []float32{1, float32(math.NaN())}, []int32{0}, 1); !math.IsNaN(got[0]) {
		t.Errorf("with a logit that is not a number: %g", got[0])
	}
}

func TestScore(t *testing.T) {
	var s divergence.Score
	for _, l := range []float64{1, 2, 3, 6} {
		s.Add(l)
	}
	// Mean 3, variance (4+1+0+9)/4 = 3.5, error of the mean sqrt(3.5/3).
	if got, want := s.Perplexity(), math.Exp(3); math.Abs(got-want) > 1e-12 {
		t.Errorf("perplexity %g, want %g", got, want)
	}
	if got, want := s.StandardError(), math.Exp(3)*math.Sqrt(3.5/3); math.Abs(got-want) > 1e-12 {
		t.Errorf("standard error %g, want %g", got, want)
	}
}
