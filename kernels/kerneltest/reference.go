package kerneltest

import (
	"math"

	"eckart/kernels"
)

// bounds holds the largest normalized mean squared error a verb may show, by the type of its weights or its cache. The
// references take weights and cache entries as rounded to that type, so what is left is the arithmetic in F32; the
// bounds are some four times the worst error that plain Go shows over the suite. Verbs that only move elements are not
// listed: their results must be equal.
var bounds = map[string][3]float64{
	//          f32    f16    bf16
	"MatMul":        {2e-12, 2e-12, 2e-12},
	"GroupedMatMul": {2e-12},
	"Bias":          {4e-15},
	"RMSNorm":       {5e-13},
	"Angles":        {5e-15},
	"Rotate":        {1e-14},
	"SwiGLU":        {2e-14},
	"Attend":        {4e-13, 4e-13, 4e-13},
}

// round returns f rounded to type t: to nearest, ties to even, infinite where t has no room.
//
//go:norace
func round(t kernels.DType, f float32) float32 {
	digits, lowest, largest := 11, -14, 65504.0
	switch t {
	case kernels.F32:
		return f
	case kernels.BF16:
		digits, lowest, largest = 8, -126, math.Float64frombits(0x47efe00000000000)
	}
	v := float64(f)
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return f
	}
	power := func(n int) float64 { return math.Float64frombits(uint64(n+1023) << 52) } // 2ⁿ
	exp := int(math.Float64bits(v)>>52&0x7ff) - 1023                                   // |v| = m·2^exp, m in [1, 2)
	unit := power(max(exp, lowest) - digits + 1)
	r := math.RoundToEven(v/unit) * unit
	if math.Abs(r) > largest {
		r = math.Inf(int(math.Copysign(1, r)))
	}
	return float32(math.Copysign(r, v))
}

// encode returns the bits of f in type t.
//
//go:norace
func encode(t kernels.DType, f float32) uint32 {
	f = round(t, f)
	u := math.Float32bits(f)
	switch t {
	case kernels.BF16:
		return u >> 16
	case kernels.F16:
		sign := u >> 16 & 0x8000
		v := math.Abs(float64(f))
		switch {
		case f != f:
			return sign | 0x7e00
		case math.IsInf(v, 0):
			return sign | 0x7c00
		case v < 0x1p-14:
			return sign | uint32(v*0x1p24)
		}
		m, exp := math.Frexp(v)
		return sign | uint32(exp+14)<<10 | uint32((m*2-1)*1024)
	}
	return u
}

// The references: the definitions of package kernels, in float64. Like what brings their operands to a device and back (bench.go),
// the longest are kept from the race detector: they run on the test's goroutine, on memory of their own.

//go:norace
func matMulReference(x, w []float32, in int, old []float32) []float64 {
	tokens, out := len(x)/in, len(w)/in
	y := make([]float64, tokens*out)
	for t := range tokens {
		for o := range out {
			var sum float64
			row := w[o*in : (o+1)*in]
			for i, v := range x[t*in : (t+1)*in] {
				sum += float64(v) * float64(row[i])
			}
			if old != nil {
				sum += float64(old[t*out+o])
			}
			y[t*out+o] = sum
		}
	}
	return y
}

//go:norace
func rmsNormReference(x, gain []float32, eps float32) []float64 {
	y := make([]float64, len(x))
	n := len(gain)
	for at := 0; at < len(x); at += n {
		var sum float64
		for _, v := range x[at : at+n] {
			sum += float64(v) * float64(v)
		}
		scale := 1 / math.Sqrt(sum/float64(n)+float64(eps))
		for j, v := range x[at : at+n] {
			y[at+j] = float64(v) * scale * float64(gain[j])
		}
	}
	return y
}

// anglesReference rounds the product of position and frequency to F32, as implementations of rotary embedding do: at a
// long context another rounding is another angle.
func anglesReference(pos []int32, freqs []float32, scale float32) []float64 {
	var y []float64
	for _, p := range pos {
		var sines []float64
		for _, f := range freqs {
			sin, cos := math.Sincos(float64(float32(p) * f))
			y = append(y, cos*float64(scale))
			sines = append(sines, sin*float64(scale))
		}
		y = append(y, sines...)
	}
	return y
}

func rotateReference(x, angles []float32, rows, heads int) []float64 {
	width, turned := len(x)/rows/heads, len(angles)/rows
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	for h := range rows * heads {
		a := angles[h/heads*turned:]
		for j := range turned / 2 {
			cos, sin := float64(a[j]), float64(a[turned/2+j])
			u, v := float64(x[h*width+j]), float64(x[h*width+turned/2+j])
			y[h*width+j] = u*cos - v*sin
			y[h*width+turned/2+j] = v*cos + u*sin
		}
	}
	return y
}

func swiGLUReference(gate, up []float32) []float64 {
	y := make([]float64, len(gate))
	for i, g := range gate {
		y[i] = float64(g) / (1 + math.Exp(-float64(g))) * float64(up[i])
	}
	return y
}

// attendReference attends from one row of one head to keys and values, the last of which stands at the row's own
// position.
//
//go:norace
func attendReference(y []float64, q []float32, keys, values func(token int) []float32, tokens int, a kernels.Attention) {
	low := 0
	if a.Window > 0 {
		low = max(0, tokens-a.Window)
	}
	scores := make([]float64, tokens)
	top := math.Inf(-1)
	for t := low; t < tokens; t++ {
		for d, k := range keys(t) {
			scores[t] += float64(q[d]) * float64(k)
		}
		scores[t] *= float64(a.Scale)
		top = max(top, scores[t])
	}
	var sum float64
	for t := low; t < tokens; t++ {
		scores[t] = math.Exp(scores[t] - top)
		sum += scores[t]
	}
	clear(y)
	for t := low; t < tokens; t++ {
		for d, v := range values(t) {
			y[d] += scores[t] / sum * float64(v)
		}
	}
}
