package kerneltest

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// bench is a device under test: a checked stream, and memory that each case starts to use from the front, so that it
// meets what the case before it has left there.
type bench struct {
	*testing.T
	kernels.Stream // checked

	stream kernels.Stream // as the device made it
	arena  kernels.Arena
	mem    kernels.Mat // (words, 1) F32
	used   int         // words
	rand   *rand.Rand

	options Options
}

// benchWords is room for the largest case.
const benchWords = 16 << 20

func newBench(t *testing.T, dev kernels.Device) *bench {
	t.Helper()
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	a, err := dev.NewArena(kernels.ArenaBytes(benchWords, 1, kernels.F32))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := a.Alloc(benchWords, 1, kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{T: t, Stream: Checked(s), stream: s, arena: a, mem: mem, rand: rand.New(rand.NewPCG(1, 2))}
}

func (b *bench) close() {
	b.sync()
	if err := b.arena.Close(); err != nil {
		b.Error(err)
	}
	if c, ok := b.stream.(io.Closer); ok {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	}
}

func (b *bench) sync() {
	b.Helper()
	if err := b.Sync(); err != nil {
		b.Fatalf("stream is at fault: %v", err)
	}
}

// reset takes all memory back.
func (b *bench) reset() { b.used = 0 }

// A frame says how an operand lies in memory: how many guard rows and columns are around it.
type frame struct{ above, below, left, right int }

// The frames of most cases: rows side by side, and a window of a wider matrix at an odd place.
var (
	packed   = frame{above: 1, below: 1}
	windowed = frame{above: 1, below: 1, left: 5, right: 3}
	frames   = []frame{packed, windowed}
)

func (f frame) String() string {
	if f.left+f.right > 0 {
		return "windowed"
	}
	return "packed"
}

// guard is in both halves of every word around an operand: a NaN in all floating types, and no valid index.
const guard = 0x7ffe

// operand is a matrix in a frame of guards.
type operand struct {
	kernels.Mat
	whole kernels.Mat
	frame frame
}

// take returns a packed matrix of memory.
func (b *bench) take(rows, cols int, t kernels.DType) kernels.Mat {
	b.Helper()
	words := int(kernels.ArenaBytes(rows, cols, t) / 4)
	if b.used+words > b.mem.Rows {
		b.Fatalf("case needs more than %d words of memory", b.mem.Rows)
	}
	m := b.mem.Slice(b.used, words)
	b.used += words
	m.Rows, m.Cols, m.Stride, m.Type = rows, cols, cols, t
	if m.Host != nil {
		m.Host = m.Host[:m.Bytes():m.Bytes()]
	}
	return m
}

// place uploads elements (rows, cols), the bits of each in the low bytes of a word, inside a frame.
//
//go:norace
func (b *bench) place(f frame, rows, cols int, t kernels.DType, bits func(i int) uint32) operand {
	b.Helper()
	o := operand{whole: b.take(f.above+rows+f.below, f.left+cols+f.right, t), frame: f}
	o.Mat = o.whole.Slice(f.above, rows).Window(f.left, cols)
	n := t.Bytes()
	buf := make([]byte, o.whole.Bytes())
	for i := 0; i < len(buf); i += 2 {
		binary.NativeEndian.PutUint16(buf[i:], guard)
	}
	for i := range rows * cols {
		at := ((f.above+i/cols)*o.whole.Cols + f.left + i%cols) * n
		if n == 2 {
			binary.NativeEndian.PutUint16(buf[at:], uint16(bits(i)))
		} else {
			binary.NativeEndian.PutUint32(buf[at:], bits(i))
		}
	}
	if len(buf) > 0 {
		b.Upload(o.whole, buf)
		b.sync()
	}
	return o
}

// floats places values as elements of type t; they are rounded to it.
//
//go:norace
func (b *bench) floats(f frame, rows, cols int, t kernels.DType, v []float32) operand {
	b.Helper()
	return b.place(f, rows, cols, t, func(i int) uint32 { return encode(t, v[i]) })
}

// blank places a destination that holds NaNs, as what stands there must not be read.
func (b *bench) blank(f frame, rows, cols int) operand {
	b.Helper()
	return b.place(f, rows, cols, kernels.F32, func(int) uint32 { return guard<<16 | guard })
}

// ints places a packed column.
func (b *bench) ints(v []int32) operand {
	b.Helper()
	return b.place(packed, len(v), 1, kernels.I32, func(i int) uint32 { return uint32(v[i]) })
}

// bytes returns the whole of an operand's frame.
func (b *bench) bytes(m kernels.Mat) []byte {
	b.Helper()
	buf := make([]byte, m.Bytes())
	if len(buf) > 0 {
		b.Download(buf, m)
		b.sync()
	}
	return buf
}

// read returns the elements of an F32 operand after it has seen to the guards.
//
//go:norace
func (b *bench) read(o operand) []float32 {
	b.Helper()
	buf := b.bytes(o.whole)
	var v []float32
	for i := range o.whole.Rows {
		for j := range o.whole.Cols {
			word := binary.NativeEndian.Uint32(buf[(i*o.whole.Cols+j)*4:])
			row, col := i-o.frame.above, j-o.frame.left
			if row >= 0 && row < o.Rows && col >= 0 && col < o.Cols {
				v = append(v, math.Float32frombits(word))
			} else if word != guard<<16|guard {
				b.Fatalf("element (%d, %d) beside a destination of %d x %d (%s) is overwritten with %#x",
					row, col, o.Rows, o.Cols, o.frame, word)
			}
		}
	}
	return v
}

// normal returns n values of a normal distribution.
//
//go:norace
func (b *bench) normal(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(b.rand.NormFloat64())
	}
	return v
}

// rounded returns v as elements of type t hold it.
//
//go:norace
func rounded(t kernels.DType, v []float32) []float32 {
	r := make([]float32, len(v))
	for i, f := range v {
		r[i] = round(t, f)
	}
	return r
}

// judge compares got (rows, cols) with want by the normalized mean squared error, Σ(got-want)² / Σwant².
func (b *bench) judge(verb string, t kernels.DType, name string, cols int, got []float32, want []float64) {
	b.Helper()
	bound := bounds[verb][t]
	if own, ok := b.options.Bounds[verb]; ok {
		bound = own[t]
	}
	var sum, norm, worst float64
	at := 0
	for i, w := range want {
		diff := float64(got[i]) - w
		if math.IsNaN(diff) || math.Abs(diff) > worst {
			worst, at = math.Abs(diff), i
		}
		if math.IsNaN(diff) {
			sum = diff
			break
		}
		sum += diff * diff
		norm += w * w
	}
	if norm == 0 {
		norm = 1
	}
	if nmse := sum / norm; !(nmse <= bound) {
		b.Fatalf("%s: error (NMSE) is %.3g, bound %.3g; worst at (%d, %d): got %v, want %v",
			name, nmse, bound, at/cols, at%cols, got[at], want[at])
	}
}

// sameBits compares bit by bit.
func sameBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d elements, want %d", name, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d of %d has other bits: got %v (%#x), want %v (%#x)", name, i, len(want),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// each runs a case in every frame.
func (b *bench) each(name string, test func(name string, f frame)) {
	for _, f := range frames {
		b.reset()
		test(fmt.Sprintf("%s, %s", name, f), f)
	}
}
