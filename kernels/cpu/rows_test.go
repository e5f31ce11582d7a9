package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/kernels"
)

// put sets an element of a row, rounded to the matrix's type.
func put(m kernels.Mat, row, col int, f float32) {
	switch m.Type {
	case kernels.F32:
		m.Float32s(row)[col] = f
	case kernels.F16:
		m.Uint16s(row)[col] = f16FromFloat32(f)
	case kernels.BF16:
		m.Uint16s(row)[col] = bf16FromFloat32(f)
	}
}

// get returns an element of a row.
func get(m kernels.Mat, row, col int) float32 {
	switch m.Type {
	case kernels.F16:
		return float32FromF16(m.Uint16s(row)[col])
	case kernels.BF16:
		return float32FromBF16(m.Uint16s(row)[col])
	default:
		return m.Float32s(row)[col]
	}
}

// ulps returns how many units in the last place got is from want.
func ulps(got float32, want float64) float64 {
	_, exp := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(exp, -125)-24)
}

// The exponential of the assembly is within 1.5 units in the last place wherever its result is a normal number, 0 or
// infinite beyond, and NaN for NaN.
func TestExponential(t *testing.T) {
	for _, isa := range ISAs() {
		c := attentionFor(isa)
		if c.softmax == nil {
			continue
		}
		t.Run(isa.String(), func(t *testing.T) {
			const groups = 8
			scores, state := make([]float32, groups*16), make([]float32, 16+stateExtra)
			// exp takes what is in scores; 0 is the largest and the first.
			exp := func(x []float32) {
				clear(state)
				state[16+stateSums] = float32(math.Inf(-1))
				c.softmax(&x[0], groups, &state[0], 16, 1)
			}
			worst, at := 0.0, float32(0)
			for x := float32(0); x > -87.3; {
				scores[0] = 0
				for i := 1; i < len(scores); i++ {
					scores[i] = x
					x -= 1.7e-4 + 1e-7*x
				}
				in := slices.Clone(scores)
				exp(scores)
				for i, p := range scores {
					if e := ulps(p, math.Exp(float64(in[i]))); in[i] > -87.3 && e > worst {
						worst, at = e, in[i]
					}
				}
			}
			if worst > 1.5 {
				t.Errorf("exp(%v) is %.2f units in the last place off", at, worst)
			}
			clear(scores)
			scores[1], scores[2], scores[3] = -104, -1e30, float32(math.Inf(-1))
			exp(scores)
			if p := scores[1:4]; p[0] != 0 || p[1] != 0 || p[2] != 0 {
				t.Errorf("exp of very little is %v, want 0", p)
			}
			scores[5] = float32(math.NaN())
			exp(scores)
			if p := scores[5]; p == p {
				t.Errorf("exp(NaN) is %v", p)
			}
		})
	}
}

// A NaN in a row shows in its result, whatever instructions ran: a broken model must not look sound.
func TestNaNShows(t *testing.T) {
	nan := float32(math.NaN())
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 1)
		rng := rand.New(rand.NewPCG(5, 6))
		for _, n := range []int{1, 8, 15, 40} {
			x, up := random(rng, 1, n, n, kernels.F32), random(rng, 1, n, n, kernels.F32)
			gain, y := random(rng, 1, n, n, kernels.F32), random(rng, 1, n, n, kernels.F32)
			x.Float32s(0)[n/2] = nan
			s.RMSNorm(y, x, gain, 1e-5)
			for j, v := range y.Float32s(0) {
				if v == v {
					t.Errorf("RMSNorm of %d with a NaN: element %d is %v", n, j, v)
				}
			}
			s.SwiGLU(y, x, up)
			if v := y.Float32s(0)[n/2]; v == v {
				t.Errorf("SwiGLU of %d: NaN becomes %v", n, v)
			}
		}
		c := newAttendCase(t, 2, 1, 32, 1, 0, 20, 1, kernels.F16)
		s.Store(c.layers[0], c.k, c.v, c.slots)
		c.q.Float32s(19)[3] = nan
		c.attend(s, 0)
		if v := c.y.Float32s(19)[0]; v == v {
			t.Errorf("Attend from a NaN is %v", v)
		}
		if v := c.y.Float32s(19)[32]; v != v {
			t.Errorf("Attend of another head is %v", v)
		}
	})
}

// The assembly rounds as plain Go does: every F16 and BF16 value, their neighbours and the middles between them.
func TestNarrow(t *testing.T) {
	for _, isa := range ISAs() {
		for _, ty := range []kernels.DType{kernels.F16, kernels.BF16} {
			narrow := attentionFor(isa).narrow[ty]
			if narrow == nil {
				continue
			}
			t.Run(isa.String()+"/"+ty.String(), func(t *testing.T) {
				round, widen, step := f16FromFloat32, float32FromF16, uint32(1<<12)
				if ty == kernels.BF16 {
					round, widen, step = bf16FromFloat32, float32FromBF16, 1<<15
				}
				var in []float32
				for b := range 1 << 16 {
					u := math.Float32bits(widen(uint16(b)))
					for _, d := range []uint32{0, 1, step - 1, step, step + 1} {
						in = append(in, math.Float32frombits(u+d))
					}
				}
				for len(in)%16 != 0 {
					in = append(in, 0)
				}
				got := make([]uint16, len(in))
				narrow(&got[0], &in[0], len(in))
				for i, f := range in {
					// The bits of a NaN are nobody's business.
					if want := round(f); got[i] != want && !(f != f && widen(got[i]) != widen(got[i])) {
						t.Fatalf("%v (%#x) becomes %#x, want %#x", f, math.Float32bits(f), got[i], want)
					}
				}
			})
		}
	}
}

// BenchmarkRows measures the verbs on rows by the bytes that they read and write.
func BenchmarkRows(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, isa := range ISAs() {
		s := openStream(b, Options{ISA: isa}, 1)
		for _, rows := range []int{1, 512} {
			m := func(rows, cols int) kernels.Mat { return random(rng, rows, cols, cols, kernels.F32) }
			x, y, gain := m(rows, 960), m(rows, 960), m(1, 960)
			gate, up, product := m(rows, 2560), m(rows, 2560), m(rows, 2560)
			table, freqs := m(rows, 64), m(1, 32)
			pos := kernels.Mat{Rows: rows, Cols: 1, Stride: 1, Type: kernels.I32}
			pos.Host = make([]byte, pos.Bytes())
			for _, v := range []struct {
				name  string
				bytes int64
				run   func()
			}{
				{"Bias", 2 * y.Bytes(), func() { s.Bias(y, gain) }},
				{"RMSNorm", 2 * y.Bytes(), func() { s.RMSNorm(y, x, gain, 1e-5) }},
				{"Angles", table.Bytes(), func() { s.Angles(table, pos, freqs, 1) }},
				{"Rotate", 2 * x.Bytes(), func() { s.Rotate(x, table, 15) }},
				{"SwiGLU", 3 * gate.Bytes(), func() { s.SwiGLU(product, gate, up) }},
			} {
				b.Run(fmt.Sprintf("%s/%s/rows=%d", isa, v.name, rows), func(b *testing.B) {
					for b.Loop() {
						v.run()
					}
					b.SetBytes(v.bytes)
				})
			}
		}
	}
}
