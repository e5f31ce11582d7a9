package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/kernels"
)

// variants returns the options that select different code on this processor.
func variants() []Options {
	var all []Options
	for _, isa := range ISAs() {
		all = append(all, Options{ISA: isa})
	}
	if o := (Options{ISA: AVX512, Activations: ActivationsBF16}); slices.Contains(ISAs(), AVX512) && rounds(o) {
		all = append(all, o)
	}
	return all
}

// rounds reports whether activations meet BF16 weights as BF16.
func rounds(o Options) bool { return codeFor(o.ISA, o.Activations).matMul.round != nil }

func variant(o Options) string {
	if rounds(o) {
		return o.ISA.String() + "-bf16"
	}
	return o.ISA.String()
}

// eachVariant runs f for all code that this processor can run.
func eachVariant(t *testing.T, f func(t *testing.T, o Options)) {
	t.Helper()
	for _, o := range variants() {
		t.Run(variant(o), func(t *testing.T) { f(t, o) })
	}
}

// openStream returns a stream of a device with the given threads, which is closed after the test.
func openStream(t testing.TB, o Options, threads int) *Stream {
	t.Helper()
	o.Threads = threads
	return stream(t, openWith(t, o))
}

// openWith returns a device that is closed after the test.
func openWith(t testing.TB, o Options) *Device {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func stream(t testing.TB, d *Device) *Stream {
	t.Helper()
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	return s.(*Stream)
}

// random returns a matrix of normal numbers that ends where its memory ends, so that a read behind it is a fault or
// finds poison: the gaps of the stride, and what stands before the matrix, are NaN.
//
//go:norace
func random(rng *rand.Rand, rows, cols, stride int, ty kernels.DType) kernels.Mat {
	const before = 64
	all := kernels.Mat{Rows: 1, Cols: before + max(0, rows-1)*stride + cols, Type: ty}
	all.Host = make([]byte, all.Cols*ty.Bytes())
	for j := range all.Cols {
		put(all, 0, j, float32(math.NaN()))
	}
	m := all.Window(before, all.Cols-before)
	m.Rows, m.Cols, m.Stride = rows, cols, stride
	for i := range rows {
		for j := range cols {
			put(m, i, j, float32(rng.NormFloat64()))
		}
	}
	return m
}

var weightTypes = []kernels.DType{kernels.F32, kernels.F16, kernels.BF16}

// checkMatMul holds y against products in float64, given what y was before an Add.
//
//go:norace
func checkMatMul(t *testing.T, o Options, y, x, w kernels.Mat, before []float32) {
	t.Helper()
	term := func(f float32) float64 {
		if rounds(o) && w.Type == kernels.BF16 {
			f = float32FromBF16(bf16FromFloat32(f))
		}
		return float64(f)
	}
	for i := range x.Rows {
		for r := range w.Rows {
			var want, scale float64
			for j := range w.Cols {
				p := term(x.Float32s(i)[j]) * float64(get(w, r, j))
				want += p
				scale += math.Abs(p)
			}
			if before != nil {
				want += float64(before[i*w.Rows+r])
				scale += math.Abs(want)
			}
			got := float64(y.Float32s(i)[r])
			// A sum of n terms is off by at most n roundings of the sum of magnitudes; in practice far less.
			if diff := math.Abs(got - want); !(diff <= 1e-6*scale+1e-30) {
				t.Fatalf("y[%d][%d] of (%d x %d)·(%d x %d %s): got %g, want %g", i, r, x.Rows, x.Cols, w.Rows, w.Cols, w.Type,
					got, want)
			}
		}
	}
}

func TestMatMulSizes(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(1, 2))
		for _, ty := range weightTypes {
			for i, cols := range []int{0, 1, 2, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 61} {
				for j, rows := range []int{1, 3, 4, 8, 14, 33} {
					// Each width meets each number of tokens, and so does each height.
					for k := range 2 {
						tokens := []int{1, 2, 3, 4, 5, 6, 13}[(i+j+3*k)%7]
						x, w := random(rng, tokens, cols, cols+3, kernels.F32), random(rng, rows, cols, cols+5, ty)
						y := random(rng, tokens, rows+8, rows+9, kernels.F32)
						guard := append([]byte(nil), y.Host...)
						to := y.Window(4, rows)
						s.MatMul(to, x, w, kernels.Set)
						checkMatMul(t, o, to, x, w, nil)
						var before []float32
						for i := range tokens {
							before = append(before, to.Float32s(i)...)
						}
						s.MatMul(to, x, w, kernels.Add)
						checkMatMul(t, o, to, x, w, before)
						// Nothing but the window may have changed.
						after := append([]byte(nil), y.Host...)
						for i := range tokens {
							from := (i*y.Stride + 4) * 4
							copy(after[from:from+rows*4], guard[from:from+rows*4])
						}
						if string(after) != string(guard) {
							t.Fatalf("%d x %d by %d x %d %s: wrote outside of its destination", tokens, cols, rows, cols, ty)
						}
					}
				}
			}
		}
	})
}

// A row has the same bits alone and in any batch, at any place, on any number of threads.
func TestMatMulRowsAreIndependent(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		rng := rand.New(rand.NewPCG(3, 4))
		one := openStream(t, o, 1)
		for _, ty := range weightTypes {
			for _, cols := range []int{64, 149, depth + 13, 2*depth + fewCols + 5} {
				const tokens, rows = 61, 107
				x, w := random(rng, tokens, cols, cols, kernels.F32), random(rng, rows, cols, cols, ty)
				want := random(rng, tokens, rows, rows, kernels.F32)
				for i := range tokens {
					one.MatMul(want.Slice(i, 1), x.Slice(i, 1), w, kernels.Set)
				}
				for _, threads := range []int{1, 2, 5} {
					s := openStream(t, o, threads)
					for n := 1; n <= tokens; n += 1 + n/4 {
						at := rng.IntN(tokens - n + 1)
						y := random(rng, n, rows, rows, kernels.F32)
						s.MatMul(y, x.Slice(at, n), w, kernels.Set)
						sameBits(t, y, want.Slice(at, n))
						// A part of the weights gives the same part of the result.
						from := rng.IntN(rows)
						part := random(rng, n, rows-from, rows, kernels.F32)
						s.MatMul(part, x.Slice(at, n), w.Slice(from, rows-from), kernels.Set)
						sameBits(t, part, want.Slice(at, n).Window(from, rows-from))
					}
				}
			}
		}
	})
}

func sameBits(t *testing.T, got, want kernels.Mat) {
	t.Helper()
	for i := range want.Rows {
		for j, v := range want.Float32s(i) {
			if g := got.Float32s(i)[j]; math.Float32bits(g) != math.Float32bits(v) {
				t.Fatalf("row %d, column %d of %d x %d: got %x, want %x", i, j, want.Rows, want.Cols, g, v)
			}
		}
	}
}

func TestMatMulPassesOnWhatIsNotFinite(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(5, 6))
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		for _, ty := range weightTypes {
			for _, cols := range []int{1, 9, 16, 37} {
				for _, bad := range []float32{inf, -inf, nan} {
					const tokens, rows = 5, 7
					x, w := random(rng, tokens, cols, cols, kernels.F32), random(rng, rows, cols, cols, ty)
					y := random(rng, tokens, rows, rows, kernels.F32)
					put(w, 3, cols-1, bad)
					for i := range tokens {
						x.Float32s(i)[cols-1] = 1
					}
					s.MatMul(y, x, w, kernels.Set)
					for i := range tokens {
						for o, v := range y.Float32s(i) {
							want := float32(0)
							if o == 3 {
								want = bad
							}
							if math.IsInf(float64(v), 0) != math.IsInf(float64(want), 0) || (v != v) != (want != want) ||
								o == 3 && v*want < 0 {
								t.Fatalf("%s, %d columns: %g in a weight of row 3 gives %g in row %d", ty, cols, bad, v, o)
							}
						}
					}
				}
			}
		}
	})
}

func TestMatMulAllocatesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(7, 8))
		for _, ty := range weightTypes {
			for _, tokens := range []int{1, 5, 50} {
				x, w := random(rng, tokens, 96, 96, kernels.F32), random(rng, 131, 96, 96, ty)
				y := random(rng, tokens, 131, 131, kernels.F32)
				if n := testing.AllocsPerRun(20, func() { s.MatMul(y, x, w, kernels.Add) }); n != 0 {
					t.Errorf("%d tokens by %s weights: %v allocations", tokens, ty, n)
				}
			}
		}
	})
}

// The generated conversions must agree with the plain ones for every half there is.
func TestWeightsWidenExactly(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 1)
		for _, ty := range []kernels.DType{kernels.F16, kernels.BF16} {
			const cols = 16
			x := kernels.Mat{Span: kernels.Span{Host: make([]byte, cols*4)}, Rows: 1, Cols: cols, Stride: cols}
			x.Float32s(0)[5] = 1
			w := kernels.Mat{Span: kernels.Span{Host: make([]byte, cols*2<<16)}, Rows: 1 << 16, Cols: cols, Stride: cols, Type: ty}
			for i := range w.Rows {
				w.Uint16s(i)[5] = uint16(i)
			}
			y := kernels.Mat{Span: kernels.Span{Host: make([]byte, 4<<16)}, Rows: 1, Cols: 1 << 16, Stride: 1 << 16}
			s.MatMul(y, x, w, kernels.Set)
			for i, got := range y.Float32s(0) {
				want := get(w, i, 5)
				if rounds(o) && math.Abs(float64(want)) < 0x1p-126 && ty == kernels.BF16 {
					want = 0 // VDPBF16PS takes subnormal numbers for zero
				}
				if got != want && (got == got || want == want) {
					t.Fatalf("%s %#04x: got %g, want %g", ty, i, got, want)
				}
			}
		}
	})
}

// Rounding must agree with the plain one, also for what is not finite and for every length.
func TestRoundToBF16(t *testing.T) {
	for _, o := range variants() {
		if !rounds(o) {
			continue
		}
		round := codeFor(o.ISA, ActivationsBF16).matMul.round
		rng := rand.New(rand.NewPCG(11, 12))
		for n := range 70 {
			src, dst := make([]float32, n+1), make([]uint16, n+2)
			for round1 := range 200 {
				for i := range src {
					src[i] = math.Float32frombits(rng.Uint32())
					if round1%4 == 0 { // near the ties, and not finite
						src[i] = math.Float32frombits([]uint32{
							0x3f808000, 0x3f818000, 0x3f807fff, 0x7f7fffff, 0x7f800001,
							0xffc00000, 0xff800000, 0x7fffffff,
						}[rng.IntN(8)])
					}
				}
				dst[n+1] = 77
				dst[n] = 99
				if n > 0 {
					round(&dst[0], &src[0], n)
				}
				for i, f := range src[:n] {
					if want := bf16FromFloat32(f); dst[i] != want {
						t.Fatalf("element %d of %d: %x becomes %#04x, want %#04x", i, n, math.Float32bits(f), dst[i], want)
					}
				}
				if dst[n] != 99 || dst[n+1] != 77 {
					t.Fatalf("%d elements: wrote behind them", n)
				}
			}
		}
	}
}

// matrix returns a matrix of small numbers in memory like an arena's.
func matrix(b *testing.B, rows, cols int, ty kernels.DType) kernels.Mat {
	b.Helper()
	mem, err := reserve(kernels.ArenaBytes(rows, cols, ty))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = release(mem) })
	m := kernels.Mat{Span: kernels.Span{Host: mem}, Rows: rows, Cols: cols, Stride: cols, Type: ty}
	rng := rand.New(rand.NewPCG(9, 10))
	for i := range rows {
		if i >= 16 { // random once is random enough for a clock
			copy(m.Slice(i, 1).Host[:cols*ty.Bytes()], m.Host)
			continue
		}
		for j := range cols {
			put(m, i, j, rng.Float32()-0.5)
		}
	}
	return m
}

// largeBench is from how many elements on an operand takes longer to fill than to use: with -short, which is to see that all
// runs, benchmarks leave such sizes out.
const largeBench = 4 << 20

// benchCopies returns how many matrices of so many bytes a benchmark takes in turns: twice the cache together, so that weights
// come from memory as they do in a model. With -short it is one.
func benchCopies(bytes int) int {
	if testing.Short() {
		return 1
	}
	return max(1, (64<<20)/bytes)
}

func BenchmarkMatMul(b *testing.B) {
	for _, o := range variants() {
		if o.ISA == Generic {
			continue
		}
		for _, threads := range []int{1, 2} {
			s := openStream(b, o, threads)
			for _, ty := range weightTypes {
				for _, shape := range []struct{ rows, cols int }{{320, 960}, {2560, 960}, {960, 2560}, {49152, 960}} {
					if testing.Short() && shape.rows*shape.cols > largeBench {
						continue
					}
					copies := benchCopies(shape.rows * shape.cols * ty.Bytes())
					all := matrix(b, shape.rows*copies, shape.cols, ty)
					for _, tokens := range []int{1, 2, 4, 8, 16, 512} {
						if shape.rows*tokens > 1<<22 {
							continue
						}
						x, y := matrix(b, tokens, shape.cols, kernels.F32), matrix(b, tokens, shape.rows, kernels.F32)
						name := fmt.Sprintf("%s/threads=%d/%s/%dx%d/tokens=%d", variant(o), threads, ty, shape.rows, shape.cols, tokens)
						b.Run(name, func(b *testing.B) {
							i := 0
							for b.Loop() {
								s.MatMul(y, x, all.Slice(i%copies*shape.rows, shape.rows), kernels.Set)
								i++
							}
							b.SetBytes(int64(shape.rows * shape.cols * ty.Bytes()))
							flops := float64(2*tokens*shape.rows*shape.cols) * float64(b.N)
							b.ReportMetric(flops/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
							b.ReportMetric(0, "ns/op")
						})
					}
				}
			}
		}
	}
}
