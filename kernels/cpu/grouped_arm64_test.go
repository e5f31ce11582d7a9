//go:build !purego

package cpu

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// The assembly gives the bits of its generic twins: what Go makes of a product and a sum is fused on arm64 as well.
func TestGroupedTwins(t *testing.T) {
	const blocks, rows = 11, 8
	for _, isa := range ISAs()[1:] {
		c := groupedFor(isa)
		t.Run(isa.String()+"/record", func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			x := make([]float32, blocks*kernels.GroupedBlock)
			for i, scale := range []float64{1, 1e30, 1e-30, 0x1p-100, 0x1p-101, 0, 1, 1, 1, 1, 3e-38} {
				for j := range kernels.GroupedBlock {
					x[i*kernels.GroupedBlock+j] = float32(scale * rng.NormFloat64())
				}
			}
			copy(x[3*kernels.GroupedBlock:], make([]float32, kernels.GroupedBlock))
			x[3*kernels.GroupedBlock+9] = -0x1p-100
			x[6*kernels.GroupedBlock+31] = float32(math.NaN())
			x[7*kernels.GroupedBlock] = float32(math.Inf(-1))
			for j := range kernels.GroupedBlock { // ties
				x[8*kernels.GroupedBlock+j] = float32(j) - 15.5
			}
			x[8*kernels.GroupedBlock] = 127
			const stride = recordBytes + 24
			got, want := bytes.Repeat([]byte{99}, blocks*stride), bytes.Repeat([]byte{99}, blocks*stride)
			c.record(&got[0], &x[0], blocks, stride)
			recordGeneric(&want[0], &x[0], blocks, stride)
			for i := range blocks {
				if g, w := got[i*stride:][:stride], want[i*stride:][:stride]; !bytes.Equal(g, w) {
					t.Errorf("block %d: got %v, want %v", i, g, w)
				}
			}
		})
		for _, bits := range []int{8, 4, 3, 2} {
			for _, scaleType := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16} {
				t.Run(fmt.Sprintf("%s/int%d/%s", isa, bits, scaleType), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(3, 4))
					for _, zeros := range []bool{false, true} {
						for _, groupBlocks := range []int{1, 3, blocks} {
							w := kernels.Grouped{
								Rows: rows, Cols: blocks * kernels.GroupedBlock, Bits: bits, Group: groupBlocks * kernels.GroupedBlock,
								ScaleType: scaleType, Zeros: zeros,
							}
							l := groupedLayoutOf(w, rows)
							panel := make([]byte, l.panelBytes)
							for i := range panel {
								panel[i] = byte(rng.Uint32())
							}
							for g := range w.Groups() {
								scales := kernels.Mat{Span: kernels.Span{Host: panel[l.group(g):]}, Rows: 1, Cols: rows, Stride: rows, Type: scaleType}
								for r := range rows {
									put(scales, 0, r, float32(rng.NormFloat64()))
								}
							}
							numbers, wantNumbers := make([]float32, rows*w.Cols+1), make([]float32, rows*w.Cols+1)
							c.unpack[bits](&numbers[0], &panel[0], blocks, groupBlocks, int(scaleType), zeros)
							unpackGeneric(&wantNumbers[0], &panel[0], blocks, groupBlocks, int(scaleType), zeros, bits)
							for i, want := range wantNumbers {
								if math.Float32bits(numbers[i]) != math.Float32bits(want) {
									t.Fatalf("zeros %t, groups of %d: number %d is %x, want %x", zeros, w.Group, i, numbers[i], want)
								}
							}
							for _, tokens := range []int{1, 2, 5} {
								x := make([]byte, blocks*tokens*recordBytes)
								row := make([]float32, kernels.GroupedBlock)
								for i := range blocks * tokens {
									for j := range row {
										row[j] = float32(rng.NormFloat64())
									}
									recordGeneric(&x[i*recordBytes], &row[0], 1, 0)
								}
								for _, f := range []groupedFunc{c.one[bits], c.some[bits]}[min(1, tokens-1):] {
									got, want := make([]float32, tokens*rows+1), make([]float32, tokens*rows+1)
									f(&got[0], &x[0], &panel[0], tokens, blocks, groupBlocks, int(scaleType), zeros)
									productsGeneric(&want[0], &x[0], &panel[0], tokens, blocks, groupBlocks, int(scaleType), zeros, bits)
									for i := range want {
										if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
											t.Fatalf("%d tokens, zeros %t, groups of %d: sum %d is %x, want %x", tokens, zeros, w.Group, i, got[i], want[i])
										}
									}
								}
							}
						}
					}
				})
			}
		}
	}
}

// Products with unpacked panels have the bits of plain Go for any number of columns and tokens.
func TestGroupedFloatsTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for cols := 1; cols < 14; cols++ {
		for tokens := 1; tokens < 6; tokens++ {
			w, x := random(rng, cols, 8, 8, kernels.F32), random(rng, tokens, cols, cols+3, kernels.F32)
			got, want := make([]float32, tokens*8+1), make([]float32, tokens*8+1)
			floatsNEON(&got[0], &x.Float32s(0)[0], &w.Float32s(0)[0], tokens, x.Stride*4, cols)
			floatsGeneric(&want[0], &x.Float32s(0)[0], &w.Float32s(0)[0], tokens, x.Stride*4, cols)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%d columns, %d tokens: sum %d is %x, want %x", cols, tokens, i, got[i], want[i])
				}
			}
		}
	}
}
