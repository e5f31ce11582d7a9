package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// eachISA runs f on a device of every instruction set that this processor has.
func eachISA(t *testing.T, threads int, f func(t *testing.T, d *Device)) {
	t.Helper()
	for _, isa := range ISAs() {
		t.Run(isa.String(), func(t *testing.T) { f(t, openDevice(t, isa, threads)) })
	}
}

func openDevice(t testing.TB, isa ISA, threads int) *Device {
	t.Helper()
	d, err := Open(Options{Threads: threads, ISA: isa})
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
func checkMatMul(t *testing.T, y, x, w kernels.Mat, before []float32) {
	t.Helper()
	for i := range x.Rows {
		for o := range w.Rows {
			var want, scale float64
			for j := range w.Cols {
				p := float64(x.Float32s(i)[j]) * float64(get(w, o, j))
				want += p
				scale += math.Abs(p)
			}
			if before != nil {
				want += float64(before[i*w.Rows+o])
				scale += math.Abs(want)
			}
			got := float64(y.Float32s(i)[o])
			// A sum of n terms is off by at most n roundings of the sum of magnitudes; in practice far less.
			if diff := math.Abs(got - want); !(diff <= 1e-6*scale+1e-30) {
				t.Fatalf("y[%d][%d] of (%d x %d)·(%d x %d %s): got %g, want %g", i, o, x.Rows, x.Cols, w.Rows, w.Cols, w.Type,
					got, want)
			}
		}
	}
}

func TestMatMulSizes(t *testing.T) {
	eachISA(t, 2, func(t *testing.T, d *Device) {
		s := stream(t, d)
		rng := rand.New(rand.NewPCG(1, 2))
		for _, ty := range weightTypes {
			for cols := range 34 {
				for _, rows := range []int{1, 2, 3, 4, 5, 7, 8, 9, 13, 33} {
					for _, tokens := range []int{1, 2, 3, 4, 5, 6, 7, 8, 13, 33} {
						x, w := random(rng, tokens, cols, cols+3, kernels.F32), random(rng, rows, cols, cols+5, ty)
						y := random(rng, tokens, rows+8, rows+9, kernels.F32)
						guard := append([]byte(nil), y.Host...)
						to := y.Window(4, rows)
						s.MatMul(to, x, w, kernels.Set)
						checkMatMul(t, to, x, w, nil)
						var before []float32
						for i := range tokens {
							before = append(before, to.Float32s(i)...)
						}
						s.MatMul(to, x, w, kernels.Add)
						checkMatMul(t, to, x, w, before)
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
	for _, isa := range ISAs() {
		t.Run(isa.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			one := stream(t, openDevice(t, isa, 1))
			for _, ty := range weightTypes {
				for _, cols := range []int{64, 301} {
					const tokens, rows = 61, 203
					x, w := random(rng, tokens, cols, cols, kernels.F32), random(rng, rows, cols, cols, ty)
					want := random(rng, tokens, rows, rows, kernels.F32)
					for i := range tokens {
						one.MatMul(want.Slice(i, 1), x.Slice(i, 1), w, kernels.Set)
					}
					for _, threads := range []int{1, 2, 3, 5} {
						s := stream(t, openDevice(t, isa, threads))
						for n := 1; n <= tokens; n++ {
							if testing.Short() && n%7 != 3 {
								continue
							}
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
	eachISA(t, 2, func(t *testing.T, d *Device) {
		s := stream(t, d)
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
	eachISA(t, 2, func(t *testing.T, d *Device) {
		s := stream(t, d)
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
	eachISA(t, 1, func(t *testing.T, d *Device) {
		s := stream(t, d)
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
				if got != want && (got == got || want == want) {
					t.Fatalf("%s %#04x: got %g, want %g", ty, i, got, want)
				}
			}
		}
	})
}

// matrix takes a matrix of small numbers from a new arena.
func matrix(b *testing.B, d *Device, rows, cols int, ty kernels.DType) kernels.Mat {
	b.Helper()
	a, err := d.NewArena(kernels.ArenaBytes(rows, cols, ty))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { a.Close() })
	m, err := a.Alloc(rows, cols, ty)
	if err != nil {
		b.Fatal(err)
	}
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

func BenchmarkMatMul(b *testing.B) {
	for _, isa := range ISAs() {
		if isa == Generic {
			continue
		}
		for _, threads := range []int{1, 2} {
			d := openDevice(b, isa, threads)
			s := stream(b, d)
			for _, ty := range weightTypes {
				for _, shape := range []struct{ rows, cols int }{{320, 960}, {2560, 960}, {960, 2560}, {49152, 960}} {
					// Twice the cache apart, so that a step's weights come from memory as they do in a model.
					copies := max(1, (64<<20)/(shape.rows*shape.cols*ty.Bytes()))
					all := matrix(b, d, shape.rows*copies, shape.cols, ty)
					for _, tokens := range []int{1, 2, 4, 8, 16, 512} {
						if shape.rows*tokens > 1<<22 {
							continue
						}
						x, y := matrix(b, d, tokens, shape.cols, kernels.F32), matrix(b, d, tokens, shape.rows, kernels.F32)
						name := fmt.Sprintf("%s/threads=%d/%s/%dx%d/tokens=%d", isa, threads, ty, shape.rows, shape.cols, tokens)
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
