package grid

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// columns returns n columns of numbers, or as many rows of a factor: of all sizes, denormal ones among them, and with odd,
// some that are infinite or not numbers.
func columns(rng *rand.Rand, n int, odd bool) [][Side]float32 {
	x := make([][Side]float32, n)
	for i := range x {
		for k := range x[i] {
			v := float32(rng.NormFloat64() * math.Pow(2, float64(rng.IntN(8))))
			switch rng.IntN(40) {
			case 0:
				v *= 0x1p-130
			case 1:
				v *= 0x1p-70 // products of two are denormal
			case 2:
				v = 0
			case 3:
				if odd {
					v = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[rng.IntN(3)]
				}
			}
			x[i][k] = v
		}
	}
	return x
}

// same fails unless got is want, bit for bit; any two that are not numbers are the same.
func same(t *testing.T, what string, got, want float32) {
	t.Helper()
	if math.Float32bits(got) != math.Float32bits(want) && (got == got || want == want) {
		t.Fatalf("%s is %g (%#x), want %g (%#x)", what, got, math.Float32bits(got), want, math.Float32bits(want))
	}
}

// TestSpread holds every set of kernels against the definition, bit for bit.
func TestSpread(t *testing.T) {
	withEachVector(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for n := range 70 {
			for _, odd := range []bool{false, true} {
				x, e, u := Panel(columns(rng, Side, odd)), columns(rng, n, odd), columns(rng, n+1, odd)
				want := x
				for c := range want {
					for r := range want[c] {
						for j := range e {
							product := float32(e[j][r] * u[j][c])
							want[c][r] -= product
						}
					}
				}
				Spread(&x, e, u)
				for c := range want {
					for r := range want[c] {
						same(t, fmt.Sprintf("%d columns: (%d, %d)", n, c, r), x[c][r], want[c][r])
					}
				}
			}
		}
	})
}

// TestRoundPanel holds every set of kernels against the definition: codes are those of Encode, 0 of what is not a number,
// and errors have the same bits.
func TestRoundPanel(t *testing.T) {
	withEachVector(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for i := range 200 {
			top := []int{255, 15, 7, 3}[i%4]
			x, u := Panel(columns(rng, Side, i%3 == 0)), Panel(columns(rng, Side, i%5 == 0))
			var g Grids
			for j := range Side {
				u[j][j] = 0.5 + rng.Float32()
				g.Scale[j] = (0.5 + rng.Float32()) * float32(1-2*rng.IntN(2))
				g.Inverse[j] = 1 / g.Scale[j]
				g.Zero[j] = float32(rng.IntN(top + 1))
			}
			if i%7 == 0 {
				g.Scale[3], g.Inverse[3] = float32(math.NaN()), float32(math.NaN())
				g.Scale[4], g.Inverse[4] = float32(math.Inf(1)), 0
			}
			var codes [Side][Side]byte
			got := x
			RoundPanel(&codes, &got, &u, &g, top)
			for r := range Side {
				for j := range Side {
					code := make([]byte, 1)
					if steps := x[j][r] * g.Inverse[r]; steps == steps {
						Encode(code, []float32{x[j][r]}, g.Inverse[r], int(g.Zero[r]), top)
					}
					if codes[j][r] != code[0] {
						t.Fatalf("panel %d, top %d: code (%d, %d) of %g is %d, want %d", i, top, j, r, x[j][r], codes[j][r], code[0])
					}
					rounded := float32(g.Scale[r] * float32(int(code[0])-int(g.Zero[r])))
					e := (x[j][r] - rounded) / u[j][j]
					same(t, fmt.Sprintf("panel %d, top %d: error (%d, %d)", i, top, j, r), got[j][r], e)
					for c := j + 1; c < Side; c++ {
						product := float32(e * u[j][c])
						x[c][r] -= product
					}
				}
			}
		}
	})
}

// BenchmarkSpread spreads the errors of a block.
func BenchmarkSpread(b *testing.B) {
	const n = 128
	e, u := make([][Side]float32, n), make([][Side]float32, n)
	for i := range n {
		for k := range Side {
			e[i][k], u[i][k] = float32(i%7)-3, float32(k%5)-2
		}
	}
	withEachVector(b, func(b *testing.B) {
		var x Panel
		for b.Loop() {
			Spread(&x, e, u)
		}
		b.ReportMetric(float64(b.N)*n*Side*Side/float64(b.Elapsed().Nanoseconds()), "G/s")
	})
}

// BenchmarkRoundPanel rounds one panel.
func BenchmarkRoundPanel(b *testing.B) {
	var start, u Panel
	var g Grids
	for i := range Side {
		g.Scale[i], g.Inverse[i], g.Zero[i] = 0.1, 1/float32(0.1), 8
		for k := range Side {
			start[i][k] = float32(i*k%13)*0.11 - 0.7
		}
		for k := i; k < Side; k++ {
			u[i][k] = 1 / float32(1+k-i)
		}
	}
	withEachVector(b, func(b *testing.B) {
		var codes [Side][Side]byte
		for b.Loop() {
			x := start
			RoundPanel(&codes, &x, &u, &g, 15)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*Side*Side), "ns/weight")
	})
}
