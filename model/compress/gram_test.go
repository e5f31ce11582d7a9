package compress

import (
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels/cpu"
)

// plain returns the sum of xᵀ·x and the mean of the rows of x (rows, in), in float64.
func plain(x []float32, in int) (gram linalg.Matrix, mean []float64) {
	gram, mean = linalg.New(in, in), make([]float64, in)
	rows := len(x) / in
	for i := range rows {
		row := x[i*in:][:in]
		for j, v := range row {
			mean[j] += float64(v) / float64(rows)
			for k, u := range row {
				gram.Data[j*in+k] += float64(v) * float64(u)
			}
		}
	}
	return gram, mean
}

// farthest returns the largest difference between elements of two Gram matrices, relative to the product of the two
// columns' norms, which bounds the element.
func farthest(a, b linalg.Matrix) (worst float64) {
	for i := range a.Rows {
		for j := range a.Cols {
			scale := math.Sqrt(b.Row(i)[i] * b.Row(j)[j])
			if d := math.Abs(a.Row(i)[j]-b.Row(i)[j]) / max(scale, math.SmallestNonzeroFloat32); !(d <= worst) {
				worst = d
			}
		}
	}
	return worst
}

// TestAccumulator holds moments against plain sums for widths around the grain of products and of transposing, and for
// windows that do not fill batches.
func TestAccumulator(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	stream, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		in, batch int
		windows   []int
	}{
		{1, 8, []int{3}},
		{31, 40, []int{40, 1, 39, 2}},
		{33, 64, []int{32, 32, 7}},
		{gramRows, 33, []int{33, 33}},
		{gramRows + 1, 100, []int{50, 50, 50, 13}},
		{2*gramRows + 45, 70, []int{70, 3}},
	} {
		m, err := newMultiplier(dev, stream, c.in+5, c.batch) // wider than this site
		if err != nil {
			t.Fatal(err)
		}
		a := newAccumulator("site", c.in, c.batch)
		var all []float32
		for _, rows := range c.windows {
			x := make([]float32, rows*c.in)
			for i := range x {
				x[i] = float32(rng.NormFloat64() + 0.5)
			}
			if err := a.add(m, x); err != nil {
				t.Fatal(err)
			}
			all = append(all, x...)
		}
		got, err := a.finish(m)
		if err != nil {
			t.Fatal(err)
		}
		gram, mean := plain(all, c.in)
		if d := farthest(got.Gram, gram); !(d <= 1e-6) {
			t.Errorf("%d columns: the Gram matrix is off by %g", c.in, d)
		}
		for j, v := range mean {
			if !(math.Abs(got.Mean[j]-v) <= 1e-12) {
				t.Errorf("%d columns: mean %d is %g, want %g", c.in, j, got.Mean[j], v)
			}
		}
		for i := range c.in {
			for j := range i {
				if v := got.Gram.Row(i)[j]; v != got.Gram.Row(j)[i] || v != float64(float32(v)) {
					t.Fatalf("%d columns: elements (%d, %d) are %g and %g", c.in, i, j, v, got.Gram.Row(j)[i])
				}
			}
		}
		if got.Tokens != len(all)/c.in {
			t.Errorf("%d tokens, want %d", got.Tokens, len(all)/c.in)
		}
		if err := m.arena.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChange(t *testing.T) {
	before := []float32{1, 0, 3, 4, 2, 0, 0, 0, 0, 0}
	after := []float32{5, 0, -3, -4, 0, 1, 0, 0, 7, 7}
	if got, want := change(before, after, 2), 0.0+2+1+0+1; math.Abs(got-want) > 1e-12 {
		t.Errorf("change %g, want %g", got, want)
	}
}

// BenchmarkGram adds the products of a batch at the widths of a model of 1 billion parameters.
func BenchmarkGram(b *testing.B) {
	dev, err := cpu.Open(cpu.Options{Threads: cpu.DefaultThreads()})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	stream, err := dev.NewStream()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   int
	}{{"256", 256}, {"2048", 2048}, {"8192", 8192}} {
		b.Run(c.name, func(b *testing.B) {
			m, err := newMultiplier(dev, stream, c.in, batchTokens)
			if err != nil {
				b.Fatal(err)
			}
			defer m.arena.Close()
			x := make([]float32, c.in*stride(batchTokens))
			for i := range x {
				x[i] = float32(i%7) - 3
			}
			sum := linalg.New(c.in, c.in)
			for b.Loop() {
				if err := m.add(sum, x, stride(batchTokens), batchTokens); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(c.in)*float64(c.in)*batchTokens/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
