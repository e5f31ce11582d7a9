package compress_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/model/compress"
	"eckart/model/modeltest"
)

// sampled surveys with a share of the tokens as far as a block and keeps the statistics of that, or those of every block.
func sampled(t *testing.T, dir string, windows [][]int32, o compress.Sampling, layer int) map[string]*compress.Moments {
	t.Helper()
	w := walker(t, modeltest.OpenSource(t, dir), len(windows[0]))
	all := map[string]*compress.Moments{}
	enough := errors.New("enough")
	err := compress.SurveySampled(t.Context(), w, windows, o, nil, func(b compress.BlockStatistics) error {
		if layer == everyBlock || b.Layer == layer {
			maps.Copy(all, b.Sites)
		}
		if b.Layer == layer {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return all
}

const everyBlock = -1

// TestSurveySampledIsUnbiased: over many seeds, the mean of sampled Grams comes to the Gram of all tokens; means and the
// number of tokens are those of all tokens at once.
func TestSurveySampledIsUnbiased(t *testing.T) {
	var lengths []int
	for range 24 {
		lengths = append(lengths, 40)
	}
	windows := someWindows(300, lengths...)
	full := sampled(t, tinyDir, windows, compress.Sampling{Share: 1}, everyBlock)
	const seeds = 60
	sum, one, chosen := map[string]linalg.Matrix{}, map[string]float64{}, 0
	for seed := range uint64(seeds) {
		for name, m := range sampled(t, tinyDir, windows, compress.Sampling{Share: 0.25, Seed: seed}, everyBlock) {
			if seed == 0 {
				sum[name] = linalg.New(m.Gram.Rows, m.Gram.Rows)
				if m.Tokens != 24*40 {
					t.Errorf("%s: %d tokens", name, m.Tokens)
				}
				for j, v := range m.Mean {
					if d := math.Abs(v - full[name].Mean[j]); !(d < 1e-12) {
						t.Errorf("%s: mean %d is off by %g", name, j, d)
					}
				}
			}
			for i, v := range m.Gram.Data {
				sum[name].Data[i] += v / seeds
			}
			one[name] += relative(m.Gram, full[name].Gram) / seeds
			chosen += m.Chosen
		}
	}
	if mean := float64(chosen) / float64(seeds*len(full)*24*40); !(mean > 0.2 && mean < 0.3) {
		t.Errorf("a share of %.3f of the tokens was taken, want 0.25", mean)
	}
	for name, m := range sum {
		// Of independent samples the mean is off by a share 1/sqrt(seeds) of what one is.
		if d := relative(m, full[name].Gram); !(d < 2*one[name]/math.Sqrt(seeds)) {
			t.Errorf("%s: the mean Gram is off by %g, one by %g", name, d, one[name])
		}
	}
}

func TestSurveySampledRefuses(t *testing.T) {
	w := walker(t, modeltest.OpenSource(t, tinyDir), 8)
	for _, share := range []float64{0, -1, 1.5, math.NaN()} {
		err := compress.SurveySampled(t.Context(), w, someWindows(100, 8), compress.Sampling{Share: share}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(share)) {
			t.Errorf("a share of %g: %v", share, err)
		}
	}
}

// whitenedErrors returns the error of a Gram in the norm that factorizations see, l⁻¹·gram·l⁻ᵀ - 1 for the matrix l·lᵀ of
// all tokens: the root mean square over directions, and that of the direction which is worst.
func whitenedErrors(l, gram linalg.Matrix) (rms, worst float64) {
	g := linalg.Matrix{Rows: gram.Rows, Cols: gram.Cols, Data: slices.Clone(gram.Data)}
	linalg.SolveLower(l, g, 0)
	g = g.Transpose()
	linalg.SolveLower(l, g, 0)
	for i := range g.Rows {
		g.Row(i)[i]--
		for _, v := range g.Row(i) {
			rms += v * v
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	v := make([]float64, g.Rows)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	for range 60 { // power iteration
		u := make([]float64, g.Rows)
		worst = 0
		for i := range u {
			for j, e := range g.Row(i) {
				u[i] += e * v[j]
			}
			worst += u[i] * u[i]
		}
		worst = math.Sqrt(worst)
		for i := range u {
			v[i] = u[i] / worst
		}
	}
	return math.Sqrt(rms / float64(g.Rows)), worst
}

// siteRows returns the inputs of the sites of one block for all windows.
func siteRows(t *testing.T, windows [][]int32, layer int) map[string][]float32 {
	t.Helper()
	w := walker(t, modeltest.OpenSource(t, trained), len(windows[0]))
	hidden := make([][]float32, len(windows))
	for i, ids := range windows {
		hidden[i] = make([]float32, len(ids)*w.Config().Dim)
		if err := w.Embed(hidden[i], ids); err != nil {
			t.Fatal(err)
		}
	}
	rows := map[string][]float32{}
	for i := range layer + 1 {
		b, err := w.Block(i, w.Source())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hidden {
			err := b.Forward(h, func(site string, x kernels.Mat) error {
				if i < layer {
					return nil
				}
				r := make([]float32, x.Rows*x.Cols)
				err := w.Read(r, x)
				rows[site] = append(rows[site], r...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// TestSurveySampledNeedsHalf: on a trained model, Grams of tokens that are sampled are nearer to those of all tokens than
// Grams of twice as many in whole windows, which is how a calibration is cut short otherwise. Of tokens drawn evenly one by
// one, half as many again would be needed where the site is wide, and about as many elsewhere.
func TestSurveySampledNeedsHalf(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	const layer, share = 1, 1.0 / 8
	windows := calibration(t, 64)
	full := sampled(t, trained, windows, compress.Sampling{Share: 1}, layer)
	chosen := sampled(t, trained, windows, compress.Sampling{Share: share, Seed: 1}, layer)
	rows := siteRows(t, windows, layer)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, name := range slices.Sorted(maps.Keys(full)) {
		m := full[name]
		in, total := m.Gram.Rows, float64(m.Tokens)
		l, err := linalg.Cholesky(m.Gram)
		if err != nil {
			t.Fatal(err)
		}
		of := func(tokens []int) (rms, worst float64) {
			x := linalg.New(len(tokens), in)
			scale := math.Sqrt(total / float64(len(tokens)))
			for i, r := range tokens {
				for j, v := range rows[name][r*in:][:in] {
					x.Row(i)[j] = float64(v) * scale
				}
			}
			return whitenedErrors(l, linalg.TMul(x, x))
		}
		var tokens []int
		for _, i := range rng.Perm(len(windows))[:int(2*share*float64(len(windows)))] {
			for r := range 512 {
				tokens = append(tokens, i*512+r)
			}
		}
		windowed, windowedWorst := of(tokens)
		evenly, evenlyWorst := of(rng.Perm(m.Tokens)[:len(tokens)])
		got, worst := whitenedErrors(l, chosen[name].Gram)
		// The squared error of n tokens drawn evenly is in proportion to 1/n - 1/total.
		n := float64(chosen[name].Chosen)
		worth := 1 / (got*got/(evenly*evenly)*(1/float64(len(tokens))-1/total) + 1/total)
		t.Logf("%-31s %.0f sampled tokens: %.3f, worst %.2f; %d in windows: %.3f, worst %.2f; drawn evenly: %.3f, worst %.2f; a sampled one is worth %.2f of those",
			name, n, got, worst, len(tokens), windowed, windowedWorst, evenly, evenlyWorst, worth/n)
		if math.Abs(n-share*total) > 0.02*share*total {
			t.Errorf("%s: %.0f tokens were taken, want %g", name, n, share*total)
		}
		if !(got < windowed) {
			t.Errorf("%s: sampled tokens are worse than twice as many in windows", name)
		}
		if least := map[bool]float64{true: 1.5, false: 0.9}[in > 512]; !(worth >= least*n) {
			t.Errorf("%s: a sampled token is worth %.2f tokens drawn evenly, want %g", name, worth/n, least)
		}
	}
}
