package cpu

import (
	"fmt"
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
						unpackGroupedRow(row, w, &l, o)
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
