package kindtest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// A Bench is a device under test, with memory and random numbers, the same ones in every run.
type Bench struct {
	*testing.T
	kernels.Arena
	kernels.Stream
	Rand *rand.Rand
}

// New returns a bench on dev, which is closed after the test.
func New(t *testing.T, dev kernels.Device) *Bench {
	t.Helper()
	a, err := dev.NewArena(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), dev.Close() })
	return &Bench{t, a, s, rand.New(rand.NewPCG(1, 2))}
}

// Products is a stream that counts the calls of the verbs that multiply by weights.
type Products struct {
	kernels.Stream
	Calls int
}

// MatMul counts one more.
func (p *Products) MatMul(y, x, w kernels.Mat, m kernels.Mode) {
	p.Calls++
	p.Stream.MatMul(y, x, w, m)
}

// GroupedMatMul counts one more.
func (p *Products) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, m kernels.Mode) {
	p.Calls++
	p.Stream.GroupedMatMul(y, x, w, m)
}

// Pass returns a pass with so much scratch.
func (b *Bench) Pass(bytes int64) *layers.Pass {
	b.Helper()
	s, err := layers.NewScratch(b.Arena, bytes)
	if err != nil {
		b.Fatal(err)
	}
	return layers.NewPass(b.Stream, s)
}

// Random returns a matrix of normal numbers.
func (b *Bench) Random(rows, cols int) kernels.Mat {
	b.Helper()
	m, err := b.Alloc(rows, cols, kernels.F32)
	if err != nil {
		b.Fatal(err)
	}
	for i := range rows {
		for j := range cols {
			m.Float32s(i)[j] = float32(b.Rand.NormFloat64())
		}
	}
	return m
}

// Steps returns a random matrix, a window of a wider one, that a device may round to integers of 8 bits without changing
// it: multiples of a step, the 127th of them in each block of the columns taken in order, which may be nil.
func (b *Bench) Steps(rows, cols int, order []int32) kernels.Mat {
	b.Helper()
	const step = 1.0 / 64
	x := b.Random(rows, cols+3).Window(2, cols)
	for i := range rows {
		row := x.Float32s(i)
		for j := range row {
			row[j] = step * float32(b.Rand.IntN(255)-127)
		}
		for j := 0; j < cols; j += kernels.GroupedBlock {
			at := j + b.Rand.IntN(min(kernels.GroupedBlock, cols-j))
			if order != nil {
				at = int(order[at])
			}
			row[at] = step * float32(127-254*b.Rand.IntN(2))
		}
	}
	return x
}

// Dense returns a random matrix of numbers in [-2, 2], which every type holds exactly.
func (b *Bench) Dense(out, in int, t kernels.DType) *layers.Dense { return b.dense(out, in, t, 1.0/64) }

// Factor returns a dense matrix whose numbers are small enough for a product of such to be judged as Dense is.
func (b *Bench) Factor(out, in int, t kernels.DType) *layers.Dense {
	return b.dense(out, in, t, 1.0/1024)
}

func (b *Bench) dense(out, in int, t kernels.DType, step float32) *layers.Dense {
	var raw []byte
	for range out * in {
		raw = AppendFloat(raw, t, step*float32(b.Rand.IntN(257)-128))
	}
	return layers.NewDense(layers.Part{
		Name: "weight", Type: t, Rows: out, Cols: in,
		Read: func(dst []byte, row int) error { copy(dst, raw[row*in*t.Bytes():]); return nil },
	})
}

// Grouped returns a random matrix of the format, whose columns are in a random order if it is ordered.
func (b *Bench) Grouped(f kernels.Grouped, ordered bool) *layers.Grouped {
	b.Helper()
	var order []int32
	if ordered {
		for _, i := range b.Rand.Perm(f.Cols) {
			order = append(order, int32(i))
		}
	}
	return b.Must(layers.NewGrouped(f, order, GroupedRows(f, b.Rand.Uint64())))
}

// Must returns g, and ends the test if there is an error.
func (b *Bench) Must(g *layers.Grouped, err error) *layers.Grouped {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// GroupedRows returns a reader of random codes, scales and zero points, the same ones every time.
func GroupedRows(f kernels.Grouped, seed uint64) func(dst layers.GroupedRows, row int) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	groups := f.Groups()
	codes := make([]byte, f.Rows*f.Cols)
	for i := range codes {
		codes[i] = byte(rng.IntN(1 << f.Bits))
	}
	scales := make([]byte, 0, f.Rows*groups*f.ScaleType.Bytes())
	zeros := make([]byte, f.Rows*groups)
	for i := range f.Rows * groups {
		zeros[i] = byte(rng.IntN(1<<f.Bits + 1)) // a zero point may lie beyond the codes
		v := float32(1+rng.IntN(7)) / 4096
		scales = AppendFloat(scales, f.ScaleType, v)
	}
	return func(dst layers.GroupedRows, row int) error {
		copy(dst.Codes, codes[row*f.Cols:])
		copy(dst.Scales, scales[row*groups*f.ScaleType.Bytes():])
		copy(dst.Zeros, zeros[row*groups:])
		return nil
	}
}

// AppendFloat appends v, which t holds exactly, in the host's order. In F16 it must be normal or zero.
func AppendFloat(to []byte, t kernels.DType, v float32) []byte {
	bits := math.Float32bits(v)
	switch t {
	case kernels.F32:
		return binary.NativeEndian.AppendUint32(to, bits)
	case kernels.BF16:
		return binary.NativeEndian.AppendUint16(to, uint16(bits>>16))
	}
	half := uint16(bits>>16) & 0x8000
	if v != 0 {
		half |= uint16((bits&0x7fffffff)>>13 - 112<<10)
	}
	return binary.NativeEndian.AppendUint16(to, half)
}

// Order returns the order of w's columns among its parts, or nil: the one as long as the matrix is wide.
func Order(w layers.Weight) []int32 {
	_, in := w.Dims()
	for _, p := range w.Parts() {
		if (p.Name == "order" || strings.HasSuffix(p.Name, ".order")) && p.Cols == in {
			order := make([]int32, p.Cols)
			if p.Read(kernels.Int32Bytes(order), 0) == nil {
				return order
			}
		}
	}
	return nil
}

// Want computes y = x·Wᵀ in float64, on top of what y holds when add, with a bias unless it is nil.
//
//go:norace
func (b *Bench) Want(w layers.Weight, x kernels.Mat, bias []float32, y kernels.Mat, add bool) [][]float64 {
	b.Helper()
	out, in := w.Dims()
	m, err := w.Dense()
	if err != nil {
		b.Fatal(err)
	}
	all := make([][]float64, x.Rows)
	for t := range all {
		for o := range out {
			var sum float64
			for i, v := range x.Float32s(t) {
				sum += float64(v) * float64(m[o*in+i])
			}
			if bias != nil {
				sum += float64(bias[o])
			}
			if add {
				sum += float64(y.Float32s(t)[o])
			}
			all[t] = append(all[t], sum)
		}
	}
	return all
}

// Near holds each element of y to what is wanted.
func (b *Bench) Near(what string, y kernels.Mat, want [][]float64) {
	b.Helper()
	for t, row := range want {
		for o, v := range row {
			if got := float64(y.Float32s(t)[o]); math.Abs(got-v) > 1e-4*(1+math.Abs(v)) {
				b.Fatalf("%s: (%d, %d) is %g, want %g", what, t, o, got, v)
			}
		}
	}
}
