package compress

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels/cpu"
	"eckart/layers/residual"
	"eckart/model"
	"eckart/model/checkpoint"
)

// demoWalker returns a walker over the demo model for windows of so many tokens.
func demoWalker(t *testing.T, window int) *model.Walker {
	t.Helper()
	c, err := checkpoint.Open("../../cmd/internal/demo/gopher-dense")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	src, err := model.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	w, err := model.NewWalker(src, dev, window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestDriftSums holds what a drift collects against sums in float64, and the correction against one made of those.
func TestDriftSums(t *testing.T) {
	w := demoWalker(t, 40)

	const in, windows, batch = 37, 131, 400 // more tokens than are held at once, in windows of different lengths
	r := rand.New(rand.NewPCG(1, 2))
	products, err := newMultiplier(w.Device(), w.Stream(), 2*in, batch)
	if err != nil {
		t.Fatal(err)
	}
	defer products.close()
	d := newDrift(products, "site", in, batch, true)
	var halves [2]residual.Drift
	for i := range halves {
		halves[i] = residual.Drift{Shift: linalg.New(in, in), Gram: linalg.New(in, in)}
	}
	tokens := 0
	for n := range windows {
		rows := 1 + r.IntN(40)
		tokens += rows
		x, y := make([]float32, rows*in), make([]float32, rows*in)
		for i := range x {
			x[i] = float32(r.NormFloat64())
			y[i] = x[i] + float32(0.2*r.NormFloat64())
		}
		if err := d.add(x, y); err != nil {
			t.Fatal(err)
		}
		for row := range rows {
			for i := range in {
				for j := range in {
					halves[n%2].Shift.Data[i*in+j] += float64(x[row*in+i]-y[row*in+i]) * float64(y[row*in+j])
					halves[n%2].Gram.Data[i*in+j] += float64(y[row*in+i]) * float64(y[row*in+j])
				}
			}
		}
	}
	g, err := d.finish()
	if err != nil {
		t.Fatal(err)
	}
	if g.Tokens() != tokens {
		t.Errorf("%d tokens, want %d", g.Tokens(), tokens)
	}
	for h := range halves {
		for _, m := range []struct {
			name      string
			got, want linalg.Matrix
		}{{"shift", d.halves[h].shift, halves[h].Shift}, {"gram", d.halves[h].y.gram, halves[h].Gram}} {
			for i, v := range m.want.Data {
				if math.Abs(m.got.Data[i]-v) > 1e-5*float64(tokens) {
					t.Fatalf("%s of half %d: element (%d, %d) is %g, want %g", m.name, h, i/in, i%in, m.got.Data[i], v)
				}
			}
		}
	}

	target := linalg.New(3, in)
	for i := range target.Data {
		target.Data[i] = r.NormFloat64()
	}
	made := &Target{W: target}
	strength, err := d.correct(made)
	if err != nil {
		t.Fatal(err)
	}
	if strength < 0.75 { // y is x with noise: what x says is worth following
		t.Errorf("strength %g", strength)
	}
	both := residual.Drift{Shift: linalg.New(in, in), Gram: linalg.New(in, in)}
	for _, h := range halves {
		for i := range h.Gram.Data {
			both.Shift.Data[i] += h.Shift.Data[i]
			both.Gram.Data[i] += h.Gram.Data[i]
		}
	}
	c, err := residual.NewCorrection(both, driftAlpha)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.Corrected(target, strength)
	if err != nil {
		t.Fatal(err)
	}
	again := &Target{W: target}
	if _, err := d.correct(again); err != nil || !slices.Equal(again.W.Data, made.W.Data) { // by what was kept
		t.Errorf("the correction made again is another one (%v)", err)
	}
	for i, v := range want.Data {
		if math.Abs(made.W.Data[i]-v) > 1e-4 {
			t.Fatalf("element %d of the target is %g, want %g", i, made.W.Data[i], v)
		}
	}
}
