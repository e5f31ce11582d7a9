package cuda_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
)

// openGrouped returns the device that the kernels make when they are compiled for a CPU.
func openGrouped(t *testing.T, workspace int64) *cuda.Device {
	t.Helper()
	d, err := cuda.Open(cuda.Options{Library: shim.ForTest(t), Workspace: workspace})
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

// Rows that are summed in several slices have the same bits in every kernel, and however few fit into the workspace at once.
func TestGroupedSlices(t *testing.T) {
	cuda.KernelsAlone(t)
	const tokens, out = 70, 21
	wide, narrow := openGrouped(t, 1<<20), openGrouped(t, 1<<16)
	for i, in := range []int{35*32 - 1, 69 * 32} {
		for _, bits := range []int{8, 4, 3, 2} {
			w := kernels.Grouped{Rows: out, Cols: in, Bits: bits, Group: 96, ScaleType: kernels.F16, Zeros: bits%2 == i}
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
			multiply := groupedProducts(t, wide, w, codes, scales, zeros, x)
			want := multiply(1, 5, 13, 33, 18)
			for name, got := range map[string][]float32{
				"at once":                 multiply(tokens),
				"in a workspace of 64 KB": groupedProducts(t, narrow, w, codes, scales, zeros, x)(tokens),
			} {
				for i, v := range got {
					if math.Float32bits(v) != math.Float32bits(want[i]) {
						t.Fatalf("%d columns of %d bits, %s: element (%d, %d) is %v, want %v", in, bits, name, i/out, i%out, v, want[i])
					}
				}
			}
		}
	}
}

// A grouped product with one of low rank in the same pass has the same bits in every kernel, and is what it should be.
func TestGroupedPlus(t *testing.T) {
	cuda.KernelsAlone(t)
	const tokens, out, in, rank = 70, 35, 1060, 48
	d := openGrouped(t, 1<<20)
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	plus := s.(interface {
		GroupedMatMulPlus(y, x kernels.Mat, w kernels.Grouped, z, u kernels.Mat, m kernels.Mode)
	})
	arena, err := d.NewArena(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := rand.New(rand.NewPCG(1, 48))
	fill := func(rows, cols int) (kernels.Mat, []float32) {
		m, err := arena.Alloc(rows, cols, kernels.F32)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = math.Float32frombits(math.Float32bits(float32(r.NormFloat64())) &^ 0xffff) // a BF16
		}
		s.Upload(m, kernels.Float32Bytes(v))
		return m, v
	}
	x, _ := fill(tokens, in)
	z, zs := fill(tokens, rank)
	y, old := fill(tokens, out)
	u, err := arena.Alloc(out, rank, kernels.BF16)
	if err != nil {
		t.Fatal(err)
	}
	us := make([]float32, out*rank)
	bits := make([]byte, 2*len(us))
	for i := range us {
		top := math.Float32bits(float32(r.NormFloat64())) >> 16
		us[i] = math.Float32frombits(top << 16)
		binary.NativeEndian.PutUint16(bits[2*i:], uint16(top))
	}
	s.Upload(u, bits)
	for _, width := range []int{8, 4, 3, 2} {
		w := kernels.Grouped{Rows: out, Cols: in, Bits: width, Group: 128, ScaleType: kernels.BF16}
		if w.Packed, err = arena.Alloc(1, w.PackedBytes(), kernels.U8); err != nil {
			t.Fatal(err)
		}
		codes, scales := make([]byte, out*in), make([]byte, 2*out*w.Groups())
		for i := range codes {
			codes[i] = byte(r.IntN(1 << width))
		}
		for i := range w.Groups() * out {
			binary.NativeEndian.PutUint16(scales[2*i:], uint16(0x3c00+r.IntN(256))) // 1/128 to 1/32
		}
		s.Pack(w, 0, codes, scales, nil)
		result := func(multiply func(y kernels.Mat, at, n int), pieces ...int) []float32 {
			s.Upload(y, kernels.Float32Bytes(old))
			at := 0
			for _, n := range pieces {
				multiply(y.Slice(at, n), at, n)
				at += n
			}
			got := make([]float32, tokens*out)
			s.Download(kernels.Float32Bytes(got), y)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			return got
		}
		both := func(y kernels.Mat, at, n int) {
			plus.GroupedMatMulPlus(y, x.Slice(at, n), w, z.Slice(at, n), u, kernels.Add)
		}
		got := result(both, tokens)
		for i, v := range result(both, 1, 5, 13, 33, 1, 17) {
			if math.Float32bits(v) != math.Float32bits(got[i]) {
				t.Fatalf("%d bits: element (%d, %d) is %v in pieces and %v at once", width, i/out, i%out, v, got[i])
			}
		}
		base := result(func(y kernels.Mat, at, n int) { s.GroupedMatMul(y, x.Slice(at, n), w, kernels.Add) }, tokens)
		for i, v := range got {
			want := float64(base[i])
			for k, f := range us[i%out*rank:][:rank] {
				want += float64(f) * float64(zs[i/out*rank+k])
			}
			if diff := math.Abs(float64(v) - want); !(diff <= 1e-4) {
				t.Fatalf("%d bits: element (%d, %d) is %v, want %v", width, i/out, i%out, v, want)
			}
		}
	}
}

// groupedProducts packs a matrix and returns a function that multiplies all rows of x by it, in pieces.
func groupedProducts(t *testing.T, d *cuda.Device, w kernels.Grouped, codes, scales, zeros []byte, x []float32) func(pieces ...int) []float32 {
	t.Helper()
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	arena, err := d.NewArena(2 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	alloc := func(rows, cols int, dt kernels.DType) kernels.Mat {
		m, err := arena.Alloc(rows, cols, dt)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	tokens := len(x) / w.Cols
	w.Packed = alloc(1, w.PackedBytes(), kernels.U8)
	in, y := alloc(tokens, w.Cols, kernels.F32), alloc(tokens, w.Rows, kernels.F32)
	s.Pack(w, 0, codes, scales, zeros)
	s.Upload(in, kernels.Float32Bytes(x))
	return func(pieces ...int) []float32 {
		at := 0
		for _, n := range pieces {
			s.GroupedMatMul(y.Slice(at, n), in.Slice(at, n), w, kernels.Set)
			at += n
		}
		got := make([]float32, tokens*w.Rows)
		s.Download(kernels.Float32Bytes(got), y)
		if err := s.Sync(); err != nil {
			t.Fatalf("%d x %d of %d bits: %v", w.Rows, w.Cols, w.Bits, err)
		}
		return got
	}
}
