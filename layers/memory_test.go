package layers_test

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// nearest returns the number of a type with digits binary digits and a least exponent that is nearest to v, ties to even.
func nearest(v float64, digits uint, least int) float64 {
	if v == 0 {
		return 0
	}
	_, exponent := math.Frexp(v)
	keep := int(digits)
	if exponent < least {
		keep -= least - exponent
	}
	if keep < 1 {
		unit := math.Ldexp(1, least-int(digits)) // the smallest number
		if math.Abs(v) <= unit/2 {
			return 0
		}
		return math.Copysign(unit, v)
	}
	f, _ := new(big.Float).SetMode(big.ToNearestEven).SetPrec(uint(keep)).SetFloat64(v).Float64()
	return f
}

// TestNewMatrix rounds once: numbers that lie just beside the middle of two of the type are where twice shows.
func TestNewMatrix(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, p := range []struct {
		t      kernels.DType
		digits uint
		least  int
	}{{kernels.F32, 24, -125}, {kernels.BF16, 8, -125}, {kernels.F16, 11, -13}} {
		values := []float64{0, 1, -1, 0.1, 65504, 1e-5, -1e-7, 3e-8, 2e-8, 0x1p-25, 0x1.0000001p-25}
		for range 3000 {
			v := math.Ldexp(rng.NormFloat64(), rng.IntN(30)-20)
			middle := nearest(v, p.digits, p.least)
			middle += math.Ldexp(middle, -int(p.digits)) // half a step or less beside it
			values = append(values, v, middle, math.Nextafter(middle, 0), math.Nextafter(middle, 1e9), middle*(1+0x1p-40))
		}
		values = slices.DeleteFunc(values, func(v float64) bool { return math.Abs(v) > 65504 })
		m, err := layers.NewMatrix(values, 1, len(values), p.t)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Dense()
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if want := nearest(v, p.digits, p.least); float64(got[i]) != want {
				t.Fatalf("%s: %b becomes %b, want %b", p.t, v, got[i], want)
			}
		}
	}
	m, err := layers.NewMatrix([]float64{1, 2, 3, 4, 5, 6}, 3, 2, kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 16)
	if err := m.Parts()[0].Read(raw, 1); err != nil {
		t.Fatal(err)
	}
	if got := layers.Float32s(raw, kernels.F32); !slices.Equal(got, []float32{3, 4, 5, 6}) {
		t.Errorf("rows 1 and 2 are %v", got)
	}
}

func TestNewMatrixRefuses(t *testing.T) {
	for want, values := range map[string]struct {
		v float64
		t kernels.DType
	}{
		"row 1: the number of column 0 is NaN, which f32 does not hold":    {math.NaN(), kernels.F32},
		"row 1: the number of column 0 is NaN, which bf16 does not hold":   {math.NaN(), kernels.BF16},
		"row 1: the number of column 0 is +Inf, which f16 does not hold":   {math.Inf(1), kernels.F16},
		"row 1: the number of column 0 is -65520, which f16 does not hold": {-65520, kernels.F16},
		"row 1: the number of column 0 is 1e+39, which f32 does not hold":  {1e39, kernels.F32},
		"row 1: the number of column 0 is -1e+39, which bf16 does not":     {-1e39, kernels.BF16},
		"type u8, want f32, f16 or bf16":                                   {1, kernels.U8},
	} {
		_, err := layers.NewMatrix([]float64{0, values.v}, 2, 1, values.t)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := layers.NewMatrix([]float64{0}, 2, 1, kernels.F32); err == nil {
		t.Error("a matrix of 2 x 1 of one number")
	}
}

// TestRoundingQuantize: rounded at once, a matrix has the bits that it has when it is rounded as it is read.
func TestRoundingQuantize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const rows, cols = 9, 70
	w, importance := normal(rng, rows*cols, 1), normal(rng, cols, 1)
	for i := range importance {
		importance[i] *= importance[i]
	}
	values := make([]float64, len(w))
	for i, v := range w {
		values[i] = float64(v)
	}
	stored, err := layers.NewMatrix(values, rows, cols, kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	for _, r := range []layers.Rounding{
		{Bits: 3, Group: 32, ScaleType: kernels.F16},
		{Bits: 4, ScaleType: kernels.BF16, Zeros: true},
	} {
		for _, h := range [][]float32{nil, importance} {
			want, err := layers.Quantize(stored, r, h)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Quantize(slices.Clone(w), rows, h)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range want.Parts() {
				q := got.Parts()[i]
				a, b := make([]byte, p.Rows*p.Cols*p.Type.Bytes()), make([]byte, q.Rows*q.Cols*q.Type.Bytes())
				if err := p.Read(a, 0); err != nil {
					t.Fatal(err)
				}
				if err := q.Read(b, 0); err != nil {
					t.Fatal(err)
				}
				if p.Name != q.Name || !bytes.Equal(a, b) {
					t.Errorf("%d bits, part %s: other bytes", r.Bits, p.Name)
				}
			}
		}
	}
	format := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	if _, err := format.Quantize(w, rows, importance[1:]); err == nil {
		t.Error("importance of fewer columns than there are")
	}
	if _, err := format.Quantize(w[1:], rows, nil); err == nil {
		t.Error("rows of different lengths")
	}
	w[3*cols+40] = 1e9
	if _, err := format.Quantize(w, rows, nil); err == nil || !strings.Contains(err.Error(), "row 3: group 1 has numbers") {
		t.Errorf("a scale beyond f16: got %v", err)
	}
}
