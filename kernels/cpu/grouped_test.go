package cpu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// Packing and unpacking a grouped matrix gives back the numbers that its codes, scales and zero points stand for.
func TestGroupedPackUnpack(t *testing.T) {
	for _, bits := range []int{8, 4, 3, 2} {
		for _, zeros := range []bool{false, true} {
			for _, size := range []struct{ rows, cols, group int }{{1, 1, 32}, {16, 64, 32}, {19, 70, 32}, {40, 200, 128}, {9, 96, 96}} {
				t.Run(fmt.Sprintf("%d bits, zeros %t, %+v", bits, zeros, size), func(t *testing.T) {
					s := openStream(t, Options{ISA: Generic}, 2)
					rng := rand.New(rand.NewPCG(1, 2))
					w := kernels.Grouped{Rows: size.rows, Cols: size.cols, Bits: bits, Group: size.group, ScaleType: kernels.F32, Zeros: zeros}
					w.Packed = kernels.Mat{Span: kernels.Span{Host: make([]byte, w.PackedBytes())}, Rows: 1, Cols: w.PackedBytes(), Stride: w.PackedBytes(), Type: kernels.U8}
					codes, scales := make([]byte, w.Rows*w.Cols), make([]float32, w.Rows*w.Groups())
					for i := range codes {
						codes[i] = byte(rng.IntN(1 << bits))
					}
					for i := range scales {
						scales[i] = rng.Float32()
					}
					var points []byte
					if zeros {
						points = make([]byte, len(scales))
						for i := range points {
							points[i] = byte(rng.IntN(256))
						}
					}
					s.Pack(w, 0, codes, kernels.Float32Bytes(scales), points)
					row, l := make([]float32, w.Cols), groupedLayoutOf(w, s.code.grouped.panel)
					for o := range w.Rows {
						unpackGroupedRow(row, 1, w, &l, o)
						for c, got := range row {
							at := o*w.Groups() + c/w.Group
							zero := float32(int(1) << (bits - 1))
							if zeros {
								zero = float32(points[at])
							}
							if want := scales[at] * (float32(codes[o*w.Cols+c]) - zero); got != want {
								t.Fatalf("element (%d, %d): got %g, want %g", o, c, got, want)
							}
						}
					}
				})
			}
		}
	}
}

// Records have the same bits on every instruction set.
func TestRecords(t *testing.T) {
	const blocks, stride = 12, recordBytes + 24
	rng := rand.New(rand.NewPCG(5, 6))
	x := make([]float32, blocks*kernels.GroupedBlock)
	for i, scale := range []float64{1, 1e30, 1e-30, 0x1p-100, 0x1p-101, 0, 1, 1, 1, 1, 3e-38, 3e38} {
		for j := range kernels.GroupedBlock {
			x[i*kernels.GroupedBlock+j] = float32(scale * (2*rng.Float64() - 1))
		}
	}
	x[3*kernels.GroupedBlock+9] = -0x1p-100 // the smallest that counts
	x[6*kernels.GroupedBlock+31] = float32(math.NaN())
	x[7*kernels.GroupedBlock] = float32(math.Inf(-1))
	for j := range kernels.GroupedBlock { // ties
		x[8*kernels.GroupedBlock+j] = float32(j) - 15.5
	}
	x[8*kernels.GroupedBlock] = 127
	records := func(c groupedCode) []byte {
		dst := bytes.Repeat([]byte{99}, blocks*stride)
		c.record(&dst[0], &x[0], blocks, stride)
		return dst
	}
	want := records(groupedGeneric())
	scales := map[int]float32{3: 0x1p-100 / 127, 4: 0, 5: 0, 8: 1}
	for i := range blocks {
		got := math.Float32frombits(binary.NativeEndian.Uint32(want[i*stride+kernels.GroupedBlock:]))
		if scale, ok := scales[i]; ok && got != scale || (i == 6 || i == 7) != (got != got) {
			t.Errorf("scale of block %d is %g", i, got)
		}
	}
	for _, isa := range ISAs() {
		got := records(groupedFor(isa))
		for i := range blocks {
			a, b := got[i*stride:(i+1)*stride], want[i*stride:(i+1)*stride]
			if i == 6 || i == 7 { // one NaN is as good as another
				copy(a[kernels.GroupedBlock:kernels.GroupedBlock+4], b[kernels.GroupedBlock:])
			}
			if !bytes.Equal(a, b) {
				t.Errorf("%s: block %d is %x, want %x", isa, i, a, b)
			}
		}
	}
}

func TestGroupedMatMulAllocatesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		for _, a := range []Activations{ActivationsAuto, ActivationsF32} {
			o.Activations = a
			s := openStream(t, o, 2)
			rng := rand.New(rand.NewPCG(7, 8))
			w := kernels.Grouped{Rows: 131, Cols: 96, Bits: 4, Group: 32, ScaleType: kernels.F32}
			w.Packed = kernels.Mat{Span: kernels.Span{Host: make([]byte, w.PackedBytes())}, Rows: 1, Cols: w.PackedBytes(), Stride: w.PackedBytes(), Type: kernels.U8}
			w.Order = kernels.Mat{Span: kernels.Span{Host: make([]byte, 4*w.Cols)}, Rows: 1, Cols: w.Cols, Stride: w.Cols, Type: kernels.I32}
			for _, tokens := range []int{1, 5, 150} {
				x, y := random(rng, tokens, 96, 96, kernels.F32), random(rng, tokens, 131, 131, kernels.F32)
				if n := testing.AllocsPerRun(20, func() { s.GroupedMatMul(y, x, w, kernels.Add) }); n != 0 {
					t.Errorf("%d tokens, activations %s: %v allocations", tokens, a, n)
				}
			}
		}
	})
}

// packed returns copies of a random grouped matrix, side by side in memory like an arena's.
func packed(b *testing.B, s *Stream, w kernels.Grouped, copies int) []kernels.Grouped {
	b.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	codes, scales := make([]byte, w.Rows*w.Cols), make([]byte, w.Rows*w.Groups()*w.ScaleType.Bytes())
	for i := range codes {
		codes[i] = byte(rng.Uint32()) & byte(1<<w.Bits-1)
	}
	for i := range len(scales) / 2 {
		scales[2*i+1] = 0x20 // 2^-7 in F16
	}
	size := (w.PackedBytes() + kernels.Align - 1) / kernels.Align * kernels.Align
	mem, err := reserve(int64(size * copies))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = release(mem) })
	all := make([]kernels.Grouped, copies)
	for i := range all {
		w.Packed = kernels.Mat{Span: kernels.Span{Host: mem[i*size:][:w.PackedBytes()]}, Rows: 1, Cols: w.PackedBytes(), Stride: w.PackedBytes(), Type: kernels.U8}
		if i == 0 {
			s.Pack(w, 0, codes, scales, nil)
		} else {
			copy(w.Packed.Host, all[0].Packed.Host)
		}
		all[i] = w
	}
	return all
}

func BenchmarkGroupedMatMul(b *testing.B) {
	for _, isa := range ISAs()[1:] {
		for _, threads := range []int{1, 2} {
			s := openStream(b, Options{ISA: isa}, threads)
			for _, bits := range []int{8, 4, 3, 2} {
				for _, shape := range []struct{ rows, cols int }{{960, 960}, {2048, 2048}, {8192, 2048}, {2048, 8192}} {
					if testing.Short() && shape.rows*shape.cols > largeBench {
						continue
					}
					w := kernels.Grouped{Rows: shape.rows, Cols: shape.cols, Bits: bits, Group: 32, ScaleType: kernels.F16}
					copies := benchCopies(w.PackedBytes())
					all := packed(b, s, w, copies)
					for _, tokens := range []int{1, 4, 8, 16, 512} {
						x, y := matrix(b, tokens, w.Cols, kernels.F32), matrix(b, tokens, w.Rows, kernels.F32)
						b.Run(fmt.Sprintf("%s/threads=%d/int%d/%dx%d/tokens=%d", isa, threads, bits, w.Rows, w.Cols, tokens), func(b *testing.B) {
							i := 0
							for b.Loop() {
								s.GroupedMatMul(y, x, all[i%copies], kernels.Set)
								i++
							}
							b.SetBytes(int64(w.PackedBytes()))
							b.ReportMetric(float64(tokens*w.Rows*w.Cols)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GMAC/s")
							b.ReportMetric(0, "ns/op")
						})
					}
				}
			}
		}
	}
}

// BenchmarkPack measures codes a second, as loading packs them.
func BenchmarkPack(b *testing.B) {
	s := openStream(b, Options{}, 2)
	for _, bits := range []int{8, 4, 3, 2} {
		b.Run(fmt.Sprintf("int%d", bits), func(b *testing.B) {
			w := packed(b, s, kernels.Grouped{Rows: 2048, Cols: 2048, Bits: bits, Group: 32, ScaleType: kernels.F16}, 1)[0]
			codes, scales := make([]byte, w.Rows*w.Cols), make([]byte, w.Rows*w.Groups()*2)
			for b.Loop() {
				s.Pack(w, 0, codes, scales, nil)
			}
			b.SetBytes(int64(len(codes)))
		})
	}
}
