package cuda_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
	"eckart/kernels/kerneltest"
)

// openShim returns the device that the kernels make when they are compiled for a CPU; the test is skipped without a C++
// compiler, unless REQUIRE_SHIM is set.
func openShimGrouped(t *testing.T, workspace int64) *cuda.Device {
	t.Helper()
	path, err := shim.Build()
	if errors.Is(err, shim.ErrNoCompiler) && os.Getenv("REQUIRE_SHIM") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := cuda.Open(cuda.Options{Library: path, Workspace: workspace})
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

// Grouped products have the same bits in every kernel, so there is one class of them.
func TestGrouped(t *testing.T) {
	kerneltest.RunGrouped(t, openShimGrouped(t, 0), kerneltest.Options{Rounds: true})
}

// Rows that are summed in several slices have the same bits in every kernel, in whatever pieces the workspace makes of them.
func TestGroupedSlices(t *testing.T) {
	const tokens, out = 70, 37
	for _, in := range []int{16 * 32, 35*32 - 1, 69 * 32} {
		for _, bits := range []int{8, 4, 3, 2} {
			w := kernels.Grouped{Rows: out, Cols: in, Bits: bits, Group: 96, ScaleType: kernels.F16, Zeros: bits == 3}
			r := rand.New(rand.NewPCG(uint64(in), uint64(bits)))
			codes, scales, zeros := make([]byte, out*in), make([]byte, 2*out*w.Groups()), []byte(nil)
			for i := range codes {
				codes[i] = byte(r.IntN(1 << bits))
			}
			for i := 0; i < len(scales); i += 2 {
				scales[i], scales[i+1] = byte(r.Uint32()), 0x20+byte(r.IntN(4)) // about 1/64
			}
			if w.Zeros {
				zeros = make([]byte, out*w.Groups())
				for i := range zeros {
					zeros[i] = byte(r.IntN(8))
				}
			}
			x := make([]float32, tokens*in)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			var want []float32
			for _, workspace := range []int64{1 << 20, 8 * 70 * 40 * 2} {
				multiply := groupedProducts(t, openShimGrouped(t, workspace), w, codes, scales, zeros, x, tokens)
				if want == nil {
					want = multiply(tokens)
				}
				for _, piece := range []int{1, 5, 13, 33, tokens} {
					for i, v := range multiply(piece) {
						if math.Float32bits(v) != math.Float32bits(want[i]) {
							t.Fatalf("%d columns of %d bits, workspace of %d bytes, in pieces of %d rows: element (%d, %d) is %v, want %v",
								in, bits, workspace, piece, i/out, i%out, v, want[i])
						}
					}
				}
			}
		}
	}
}

// groupedProducts packs a matrix and returns a function that multiplies rows by it in pieces.
func groupedProducts(t *testing.T, d *cuda.Device, w kernels.Grouped, codes, scales, zeros []byte, x []float32, tokens int) func(piece int) []float32 {
	t.Helper()
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	arena, err := d.NewArena(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = arena.Close() })
	alloc := func(rows, cols int, dt kernels.DType) kernels.Mat {
		m, err := arena.Alloc(rows, cols, dt)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	w.Packed = alloc(1, w.PackedBytes(), kernels.U8)
	in, y := alloc(tokens, w.Cols, kernels.F32), alloc(tokens, w.Rows, kernels.F32)
	s.Pack(w, 0, codes, scales, zeros)
	s.Upload(in, kernels.Float32Bytes(x))
	return func(piece int) []float32 {
		for at := 0; at < tokens; at += piece {
			n := min(piece, tokens-at)
			s.GroupedMatMul(y.Slice(at, n), in.Slice(at, n), w, kernels.Set)
		}
		got := make([]float32, tokens*w.Rows)
		s.Download(kernels.Float32Bytes(got), y)
		if err := s.Sync(); err != nil {
			t.Fatal(fmt.Errorf("%+v: %w", w, err))
		}
		return got
	}
}
