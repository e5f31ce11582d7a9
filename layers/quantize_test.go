package layers_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/kindtest"
)

// denseOf returns a matrix of cols columns stored as t.
func denseOf(x []float32, cols int, t kernels.DType) *layers.Dense {
	var raw []byte
	for _, v := range x {
		raw = kindtest.AppendFloat(raw, t, v)
	}
	return layers.NewDense(layers.Part{Name: "weight", Type: t, Rows: len(x) / cols, Cols: cols, Read: func(dst []byte, row int) error {
		copy(dst, raw[row*cols*t.Bytes():])
		return nil
	}})
}

func quantize(t testing.TB, d *layers.Dense, r layers.Rounding, h []float32) *layers.Grouped {
	t.Helper()
	g, err := layers.Quantize(d, r, h)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func values(t testing.TB, w layers.Weight) []float32 {
	t.Helper()
	m, err := w.Dense()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// partOf returns all bytes of a part.
func partOf(t testing.TB, w layers.Weight, name string) []byte {
	t.Helper()
	for _, p := range w.Parts() {
		if p.Name == name {
			b := make([]byte, p.Rows*p.Cols*p.Type.Bytes())
			if err := p.Read(b, 0); err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no part %s", name)
	return nil
}

func normal(rng *rand.Rand, n int, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64() * deviation)
	}
	return x
}

// squared returns the sum of h·(x - y)², h repeating.
func squared(x, y, h []float32) float64 {
	var sum float64
	for i, v := range x {
		d := float64(v) - float64(y[i])
		w := 1.0
		if h != nil {
			w = float64(h[i%len(h)])
		}
		sum += w * d * d
	}
	return sum
}

// exhaustive returns the least squared error of x over a fine range of scales and all zero points.
func exhaustive(x, h []float32, bits int, zeros bool) float64 {
	var most float64
	for _, v := range x {
		most = max(most, math.Abs(float64(v)))
	}
	top := float64(int(1)<<bits - 1)
	from, to := (top+1)/2, (top+1)/2
	if zeros {
		from, to = 0, top
	}
	best := math.Inf(1)
	rounded := make([]float32, len(x))
	for z := from; z <= to; z++ {
		for f := -1.7; f < 1.7; f += 0.004 {
			s := f * 2 * most / (top + 1)
			if math.Abs(f) < 0.2 || f < 0 && zeros {
				continue
			}
			for i, v := range x {
				rounded[i] = float32(s * (min(max(math.RoundToEven(float64(v)/s)+z, 0), top) - z))
			}
			best = min(best, squared(x, rounded, h))
		}
	}
	return best
}

// straight returns the error of x on the grid that just holds its largest number, zero in the middle.
func straight(x, h []float32, bits int) float64 {
	var most float32
	for _, v := range x {
		most = max(most, v, -v)
	}
	s := most / float32(int(1)<<(bits-1)-1)
	rounded := make([]float32, len(x))
	for i, v := range x {
		rounded[i] = s * float32(math.RoundToEven(float64(v/s)))
	}
	return squared(x, rounded, h)
}

// TestQuantize holds the error of rounding against that of an exhaustive search, and that without a search.
func TestQuantize(t *testing.T) {
	const rows, cols = 24, 96
	rng := rand.New(rand.NewPCG(1, 2))
	x := normal(rng, rows*cols, 0.02)
	importance := make([]float32, cols)
	for i := range importance {
		importance[i] = float32(math.Exp(rng.NormFloat64()))
	}
	d := denseOf(x, cols, kernels.F32)
	for _, bits := range []int{8, 4, 3, 2} {
		for _, zeros := range []bool{false, true} {
			for _, h := range [][]float32{nil, importance} {
				t.Run(fmt.Sprintf("int%d zeros=%t importance=%t", bits, zeros, h != nil), func(t *testing.T) {
					r := layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16, Zeros: zeros}
					got := squared(x, values(t, quantize(t, d, r, h)), h)
					var least, plain float64
					for i := 0; i < len(x); i += 32 {
						var part []float32
						if h != nil {
							part = h[i%cols:][:32]
						}
						plain += straight(x[i:][:32], part, bits)
						if bits < 8 {
							least += exhaustive(x[i:][:32], part, bits, zeros)
						}
					}
					t.Logf("error %.4g, exhaustive %.4g, straight %.4g", got, least, plain)
					if bits < 8 && got > 1.05*least {
						t.Errorf("error %g, an exhaustive search reaches %g", got, least)
					}
					if got > 0.95*plain {
						t.Errorf("error %g, without a search %g", got, plain)
					}
				})
			}
		}
	}
}

// TestQuantizeOnGrid finds the scale of numbers that lie on a grid of few levels, exactly.
func TestQuantizeOnGrid(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, bits := range []int{4, 3, 2} {
		for _, zeros := range []bool{false, true} {
			const cols = 128
			x := make([]float32, 8*cols)
			for i := range x {
				z := 1 << (bits - 1)
				if zeros {
					z = i / 32 % (1 << bits)
				}
				q := rng.IntN(1 << bits)
				if i%32 < 2 {
					q = i % 32 * (1<<bits - 1) // the extremes occur
				}
				x[i] = float32(q-z) * float32(1+i/32%5) / 1024
			}
			r := layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16, Zeros: zeros}
			for i, v := range values(t, quantize(t, denseOf(x, cols, kernels.F32), r, nil)) {
				if v != x[i] {
					t.Fatalf("%d bits, zeros %t: %g became %g", bits, zeros, x[i], v)
				}
			}
		}
	}
}

// TestQuantizeSame rounds a matrix whole, in pieces, by several goroutines, and from each type that holds its numbers: the
// parts are the same bytes.
func TestQuantizeSame(t *testing.T) {
	const rows, cols = 50, 200
	rng := rand.New(rand.NewPCG(5, 6))
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(rng.IntN(257)-128) / 64
	}
	for _, r := range []layers.Rounding{
		{Bits: 8, Group: 32, ScaleType: kernels.F16},
		{Bits: 4, Group: 64, ScaleType: kernels.BF16, Zeros: true},
		{Bits: 3, Group: 0, ScaleType: kernels.F32},
		{Bits: 2, Group: 128, ScaleType: kernels.F16, Zeros: true},
	} {
		whole := quantize(t, denseOf(x, cols, kernels.F32), r, nil)
		for _, stored := range types {
			for _, p := range quantize(t, denseOf(x, cols, stored), r, nil).Parts() {
				want := partOf(t, whole, p.Name)
				rowBytes := p.Cols * p.Type.Bytes()
				got := make([]byte, len(want))
				var reading sync.WaitGroup
				for row := 0; row < rows; row += 7 {
					reading.Go(func() {
						if err := p.Read(got[row*rowBytes:min(row+7, rows)*rowBytes], row); err != nil {
							t.Error(err)
						}
					})
				}
				reading.Wait()
				if !bytes.Equal(got, want) {
					t.Errorf("%+v from %s: %s differs when it is read in pieces", r, stored, p.Name)
				}
			}
		}
	}
}

// TestQuantizeExtremes rounds groups of nothing, of one number, of one sign, of almost nothing: no scale is 0, which would
// be refused, and the numbers stay near.
func TestQuantizeExtremes(t *testing.T) {
	const cols = 33 // the last group has one column
	for _, row := range []struct {
		name string
		at   func(i int) float64
		near float64 // of the largest number, for 4 bits and more
	}{
		{"zeros", func(int) float64 { return 0 }, 0},
		{"minus zeros", func(int) float64 { return math.Copysign(0, -1) }, 0},
		{"one number", func(i int) float64 { return float64(i / 32) }, 0.01},
		{"all the same", func(int) float64 { return 0.3 }, 0.01},
		{"all the same, negative", func(int) float64 { return -0.3 }, 0.01},
		{"positive", func(i int) float64 { return 1 + float64(i)/32 }, 0.2},
		{"negative", func(i int) float64 { return -1 - float64(i)/32 }, 0.2},
		{"one far out", func(i int) float64 { return 1e-3 * float64(i%3+i/31*1000) }, 0.2},
		{"the largest scale", func(i int) float64 { return 60000 * float64(i%2) }, 0.01},
		{"too small for f16", func(i int) float64 { return 1e-9 * float64(i%2) }, 1},
		{"subnormal", func(i int) float64 { return 1e-40 * float64(i%2) }, 1},
	} {
		x := make([]float32, cols)
		var most float64
		for i := range x {
			x[i] = float32(row.at(i))
			most = max(most, math.Abs(row.at(i)))
		}
		for _, bits := range []int{8, 4, 3, 2} {
			for _, zeros := range []bool{false, true} {
				for _, scale := range []kernels.DType{kernels.F16, kernels.BF16, kernels.F32} {
					r := layers.Rounding{Bits: bits, Group: 32, ScaleType: scale, Zeros: zeros}
					near := row.near
					if bits < 4 {
						near = 1
					}
					for i, v := range values(t, quantize(t, denseOf(x, cols, kernels.F32), r, nil)) {
						if d := math.Abs(float64(v - x[i])); !(d <= near*most) {
							t.Fatalf("%s, %+v: %g became %g", row.name, r, x[i], v)
						}
					}
				}
			}
		}
	}
}

// TestQuantizeImportance spends the levels where it is said to matter.
func TestQuantizeImportance(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const rows, cols = 16, 64
	x := normal(rng, rows*cols, 1)
	h := make([]float32, cols)
	h[5], h[40] = 1, 1
	r := layers.Rounding{Bits: 3, Group: 32, ScaleType: kernels.F16}
	d := denseOf(x, cols, kernels.F32)
	with, without := squared(x, values(t, quantize(t, d, r, h)), h), squared(x, values(t, quantize(t, d, r, nil)), h)
	if with > without/10 {
		t.Errorf("error of the columns that matter %g, with all alike %g", with, without)
	}
	if _, err := layers.Quantize(d, r, h[:3]); err == nil || !strings.Contains(err.Error(), "importance of 3 columns for a matrix of 64") {
		t.Errorf("got %v", err)
	}
	clear(h) // nothing matters: anything goes, but for scales that are refused
	values(t, quantize(t, d, r, h))
}

// TestQuantizeRefuses names what cannot be rounded.
func TestQuantizeRefuses(t *testing.T) {
	x := make([]float32, 4*64)
	x[2*64+40] = 3e7
	d := denseOf(x, 64, kernels.F32)
	r := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	_, err := quantize(t, d, r, nil).Dense()
	if want := "row 2: group 1 has numbers that 4 bits with a scale of type f16 do not reach"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	r.ScaleType = kernels.BF16
	values(t, quantize(t, d, r, nil))
	x[3*64+5], x[3*64+6] = float32(math.NaN()), 1
	if _, err := quantize(t, denseOf(x, 64, kernels.F32), r, nil).Dense(); err == nil || !strings.Contains(err.Error(), "row 3: the scale of group 0 is NaN, want a finite number other than 0") {
		t.Errorf("got %v", err)
	}
	r.Bits = 7
	if _, err := layers.Quantize(d, r, nil); err == nil || !strings.Contains(err.Error(), "7 bits") {
		t.Errorf("got %v", err)
	}
}
