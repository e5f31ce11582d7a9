package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/kernels"
)

func TestLookups(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(13, 14))
		for _, ty := range weightTypes {
			for _, cols := range []int{1, 33, 960} {
				const rows, tokens = 50, 200
				table := random(rng, rows, cols, cols+2, ty)
				ids := kernels.Mat{Span: kernels.Span{Host: make([]byte, tokens*4)}, Rows: tokens, Cols: 1, Stride: 1, Type: kernels.I32}
				for i := range tokens {
					ids.Int32s(i)[0] = int32(rng.IntN(rows))
				}
				y := random(rng, tokens, cols, cols+1, kernels.F32)
				verb := s.Embed
				if ty == kernels.F32 {
					verb = s.Gather
				}
				if n := testing.AllocsPerRun(5, func() { verb(y, table, ids) }); n != 0 {
					t.Errorf("%s: %v allocations", ty, n)
				}
				for i := range tokens {
					for j, got := range y.Float32s(i) {
						if want := get(table, int(ids.Int32s(i)[0]), j); got != want {
							t.Fatalf("%s: row %d, column %d: got %g, want %g", ty, i, j, got, want)
						}
					}
				}
			}
		}
	})
}

func TestScatter(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(15, 16))
		for _, rows := range []int{1, 100} {
			const width, n = 300, 211
			cols := kernels.Mat{Span: kernels.Span{Host: make([]byte, n*4)}, Rows: 1, Cols: n, Stride: n, Type: kernels.I32}
			for j, col := range rng.Perm(width)[:n] {
				cols.Int32s(0)[j] = int32(col)
			}
			x, y := random(rng, rows, n, n+2, kernels.F32), random(rng, rows, width, width+1, kernels.F32)
			want := make([][]float32, rows)
			for i := range rows {
				want[i] = append(want[i], y.Float32s(i)...)
				for j, col := range cols.Int32s(0) {
					want[i][col] += x.Float32s(i)[j]
				}
			}
			s.Scatter(y, x, cols, kernels.Add)
			for i := range rows {
				if !slices.Equal(y.Float32s(i), want[i]) {
					t.Fatalf("row %d of %d is %v, want %v", i, rows, y.Float32s(i), want[i])
				}
			}
			if n := testing.AllocsPerRun(5, func() { s.Scatter(y, x, cols, kernels.Set) }); n != 0 {
				t.Errorf("%d rows: %v allocations", rows, n)
			}
		}
	})
}

// A product that is placed while it is computed has the bits of MatMul and Scatter, one after the other.
func TestScatterMatMul(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		rng := rand.New(rand.NewPCG(19, 20))
		for _, ty := range weightTypes {
			for _, c := range []struct{ rows, in, out int }{{1, 40, 300}, {3, 1, 17}, {24, 33, 8}, {27, 70, 1}, {140, 37, 201}, {2, 5, 0}} {
				places := rng.Perm(c.in + c.out + 5)[:c.in+c.out]
				cols := kernels.Mat{Span: kernels.Span{Host: make([]byte, len(places)*4)}, Rows: 1, Cols: len(places), Stride: len(places), Type: kernels.I32}
				for j, col := range places {
					cols.Int32s(0)[j] = int32(col)
				}
				xCols, wCols := cols.Window(0, c.in), cols.Window(c.in, c.out)
				x := random(rng, c.rows, c.in, c.in+3, kernels.F32)
				w, z := random(rng, c.out, c.in, c.in, ty), random(rng, c.rows, c.out, c.out, kernels.F32)
				for _, mode := range []kernels.Mode{kernels.Set, kernels.Add} {
					y := random(rng, c.rows, c.in+c.out+5, c.in+c.out+7, kernels.F32)
					want := y
					want.Host = slices.Clone(y.Host)
					s.MatMul(z, x, w, kernels.Set)
					s.Scatter(want, x, xCols, mode)
					s.Scatter(want, z, wCols, mode)
					s.ScatterMatMul(y, x, w, xCols, wCols, mode)
					if !slices.Equal(y.Host, want.Host) {
						t.Errorf("%d rows by %d x %d, %s, mode %d: not the bits of the product and its places", c.rows, c.out, c.in, ty, mode)
					}
					if n := testing.AllocsPerRun(5, func() { s.ScatterMatMul(y, x, w, xCols, wCols, kernels.Set) }); n != 0 {
						t.Errorf("%d rows by %d x %d: %v allocations", c.rows, c.out, c.in, n)
					}
				}
			}
		}
	})
}

func TestUploadDownload(t *testing.T) {
	s := openStream(t, Options{}, 1)
	m := random(rand.New(rand.NewPCG(1, 1)), 3, 5, 5, kernels.F32)
	want := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	got := make([]float32, 15)
	s.Upload(m, kernels.Float32Bytes(want))
	s.Download(kernels.Float32Bytes(got), m)
	for i, v := range want {
		if got[i] != v || m.Float32s(i / 5)[i%5] != v {
			t.Fatalf("element %d: got %g and %g, want %g", i, got[i], m.Float32s(i / 5)[i%5], v)
		}
	}
}

// BenchmarkScatter measures columns that find their places in two runs, as those of pivoted factors do.
func BenchmarkScatter(b *testing.B) {
	rng := rand.New(rand.NewPCG(17, 18))
	for _, isa := range ISAs() {
		s := openStream(b, Options{ISA: isa}, 1)
		for _, rows := range []int{1, 128} {
			const width = 2048
			perm := rng.Perm(width)
			slices.Sort(perm[:width/4])
			slices.Sort(perm[width/4:])
			cols := kernels.Mat{Span: kernels.Span{Host: make([]byte, width*4)}, Rows: 1, Cols: width, Stride: width, Type: kernels.I32}
			for j, col := range perm {
				cols.Int32s(0)[j] = int32(col)
			}
			x, y := random(rng, rows, width, width+16, kernels.F32), random(rng, rows, width, width, kernels.F32)
			for mode, name := range []string{kernels.Set: "set", kernels.Add: "add"} {
				b.Run(fmt.Sprintf("%s/%s/rows=%d", isa, name, rows), func(b *testing.B) {
					for b.Loop() {
						s.Scatter(y, x, cols, kernels.Mode(mode))
					}
					b.SetBytes(2 * y.Bytes())
				})
			}
		}
	}
}
