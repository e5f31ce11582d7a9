//go:build linux && (amd64 || arm64)

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
)

// foldedCase is a product by a grouped matrix of gate above up (out, in) that takes RMSNorm and SwiGLU along.
type foldedCase struct {
	tokens, out, in, group int
	scales                 kernels.DType
	zeros, ordered         bool
	offset                 int    // elements from where rows are aligned to where those of x begin
	normed, both, gated    string // kernels of a product of the norm, of both, and of SwiGLU alone, without their bits; "" for none
}

// TestGroupedFolded holds that products by grouped matrices that take RMSNorm and SwiGLU along have the bits of the verbs one
// after the other, in the launches that they are for, however rows are summed and on GPUs of any size; and that what they have no
// kernel for is left alone.
func TestGroupedFolded(t *testing.T) {
	KernelsAlone(t)
	const eps = 1e-5
	var launched []string
	d := fakes{}.open(t, Options{Trace: func(l Launch) { launched = append(launched, l.Kernel) }})
	info := d.info
	for _, c := range []foldedCase{
		{1, 32, 64, 32, kernels.F16, false, false, 0, "normed", "normed_gated", "round 8"},
		{1, 96, 512, 64, kernels.F32, true, false, 0, "normed", "normed_gated", "round 8"},
		{1, 64, 1124, 128, kernels.BF16, false, false, 0, "normed", "normed_gated", "round 8"},
		{1, 32, 9000, 1024, kernels.F16, true, false, 0, "normed", "normed_gated", "round 8"},
		{1, 64, 260, 32, kernels.F16, false, true, 0, "round_normed 8", "round_normed 8", "round 8"},
		{1, 64, 514, 32, kernels.BF16, false, false, 0, "round_normed 8", "round_normed 8", "round 8"},
		{1, 64, 516, 32, kernels.BF16, false, false, 2, "round_normed 8", "round_normed 8", "round 8"},
		{1, 48, 68, 32, kernels.F16, false, false, 0, "normed", "", ""},
		{3, 64, 1124, 128, kernels.F16, true, true, 1, "round_normed 8", "round_normed 8", "round 8"},
		{8, 32, 72, 32, kernels.F16, false, false, 0, "round_normed 8", "round_normed 8", "round 8"},
		{13, 96, 540, 64, kernels.BF16, true, false, 0, "round_normed 16", "round_normed 16", "round 16"},
		{37, 64, 270, 96, kernels.F32, false, false, 0, "round_normed 32", "round_normed 32", "round 32"},
		{65, 32, 72, 32, kernels.F16, false, false, 0, "round_normed tiled", "", ""},
	} {
		for _, bits := range []int{8, 4, 3, 2} {
			name := fmt.Sprintf("%d bits, %+v", bits, c)
			p := newFolded(t, d, c, bits)
			ways := []struct {
				name    string
				kernels string
				out     int
				verbs   func(y kernels.Mat)
				do      func(y kernels.Mat) bool
			}{
				{
					"normed", c.normed, c.out, func(y kernels.Mat) { p.s.GroupedMatMul(y, p.norm, p.w, kernels.Set) },
					func(y kernels.Mat) bool { return p.s.NormedGroupedMatMul(y, p.x, p.gain, eps, p.w) },
				},
				{
					"both", c.both, c.out / 2, func(y kernels.Mat) { p.swiGLU(y, p.norm) },
					func(y kernels.Mat) bool { return p.s.NormedGatedGroupedMatMul(y, p.x, p.gain, eps, p.w) },
				},
				{
					"gated", c.gated, c.out / 2, func(y kernels.Mat) { p.swiGLU(y, p.x) },
					func(y kernels.Mat) bool { return p.s.GatedGroupedMatMul(y, p.x, p.w) },
				},
			}
			d.info = info
			work := p.s.work.bytes
			p.s.RMSNorm(p.norm, p.x, p.gain, eps)
			for _, way := range ways {
				y := p.y.Window(0, way.out)
				p.reset()
				d.info = info
				if way.kernels != "" {
					way.verbs(y)
				}
				want := p.read()
				tile := int64(ceil(c.in, kernels.GroupedBlock) * groupedRecord) // of workspace
				for _, gpu := range []struct {
					multiprocessors int
					workspace       int64
				}{{132, work}, {1, tile}} {
					d.info.Multiprocessors, p.s.work.bytes = gpu.multiprocessors, gpu.workspace
					p.reset()
					launched = nil
					if way.do(y) != (way.kernels != "") {
						t.Fatalf("%s: %s: done or not, against the table", name, way.name)
					}
					got, asked := launched, kernelNames(way.kernels, bits)
					if (c.tokens <= groupedTile || gpu.workspace == work) && !slices.Equal(got, asked) {
						t.Fatalf("%s: %s: launched %q, want %q", name, way.name, got, asked)
					}
					p.same(fmt.Sprintf("%s: %s with %+v", name, way.name, gpu), p.read(), want)
				}
				p.s.work.bytes = work
			}
		}
	}
	d.info = info
	p := newFolded(t, d, foldedCase{tokens: 1, out: 32, in: 64, group: 32, scales: kernels.F16}, 4)
	if p.s.NormedGroupedMatMul(p.y, p.x, p.gain.Window(0, 32), eps, p.w) || p.s.NormedGatedGroupedMatMul(p.y, p.x, p.gain.Window(0, 32), eps, p.w) {
		t.Error("a norm of heads was taken along")
	}
	for _, tokens := range []int{1, 3} {
		p := newFolded(t, d, foldedCase{tokens: tokens, out: 32, in: 520, group: 64, scales: kernels.F16}, 4)
		for _, v := range []float64{0, 1e-30, 1e30, math.Inf(-1), math.NaN()} {
			x := make([]float32, tokens*p.x.Cols)
			x[len(x)-5] = float32(v) // of the last token
			p.s.Upload(p.x, kernels.Float32Bytes(x))
			p.s.RMSNorm(p.norm, p.x, p.gain, eps)
			p.reset()
			p.swiGLU(p.y.Window(0, 16), p.norm)
			want := p.read()
			p.reset()
			p.s.NormedGatedGroupedMatMul(p.y.Window(0, 16), p.x, p.gain, eps, p.w)
			p.same(fmt.Sprintf("%d tokens, one with %g", tokens, v), p.read(), want)
		}
	}
}

// kernelNames spells the kernels of a product by a matrix of so many bits.
func kernelNames(list string, bits int) (names []string) {
	for name := range strings.FieldsSeq(list) {
		name = "grouped_" + name
		if !strings.HasPrefix(name, "grouped_round") {
			name += fmt.Sprintf("_w%d", bits)
		}
		names = append(names, name)
	}
	return names
}

// folded is the operands of a foldedCase.
type folded struct {
	*product // but for w
	w        kernels.Grouped
	norm     kernels.Mat
	gain     kernels.Mat
	sum      kernels.Mat // (tokens, out): gate and up
}

func newFolded(t *testing.T, d *Device, c foldedCase, bits int) *folded {
	base, take := openProduct(t, d, 1<<21)
	p := &folded{product: base}
	r := rand.New(rand.NewPCG(uint64(c.in), uint64(bits)))
	normal := func(rows, cols int) (kernels.Mat, []float32) {
		m, v := take(rows, cols, kernels.F32), make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		p.s.Upload(m, kernels.Float32Bytes(v))
		return m, v
	}
	w := kernels.Grouped{Rows: c.out, Cols: c.in, Bits: bits, Group: c.group, ScaleType: c.scales, Zeros: c.zeros}
	w.Packed = take(1, w.PackedBytes(), kernels.U8)
	if c.ordered {
		w.Order = take(1, c.in, kernels.I32)
		order := make([]int32, c.in)
		for i, at := range r.Perm(c.in) {
			order[i] = int32(at)
		}
		p.s.Upload(w.Order, kernels.Int32Bytes(order))
	}
	codes, scales, zeros := make([]byte, c.out*c.in), make([]byte, c.out*w.Groups()*c.scales.Bytes()), []byte(nil)
	for i := range codes {
		codes[i] = byte(r.IntN(1 << bits))
	}
	for i := range c.out * w.Groups() {
		switch c.scales { // 1/64 to 1/16
		case kernels.F32:
			binary.NativeEndian.PutUint32(scales[4*i:], 0x3c800000+r.Uint32N(1<<24))
		case kernels.F16:
			binary.NativeEndian.PutUint16(scales[2*i:], uint16(0x2400+r.IntN(1<<11)))
		default:
			binary.NativeEndian.PutUint16(scales[2*i:], uint16(0x3c80+r.IntN(1<<8)))
		}
	}
	if c.zeros {
		zeros = make([]byte, c.out*w.Groups())
		for i := range zeros {
			zeros[i] = byte(r.IntN(1 << bits))
		}
	}
	p.s.Pack(w, 0, codes, scales, zeros)
	p.w = w
	x, _ := normal(c.tokens, c.in+c.offset)
	p.x = x.Window(c.offset, c.in)
	p.gain, _ = normal(1, c.in)
	p.y, p.old = normal(c.tokens, c.out+3)
	p.norm, p.sum = take(c.tokens, c.in, kernels.F32), take(c.tokens, c.out, kernels.F32)
	p.sync()
	return p
}

// swiGLU is a gated product by verbs.
func (p *folded) swiGLU(y, x kernels.Mat) {
	p.s.GroupedMatMul(p.sum, x, p.w, kernels.Set)
	p.s.SwiGLU(y, p.sum.Window(0, y.Cols), p.sum.Window(y.Cols, y.Cols))
}

func (p *folded) reset() { p.s.Upload(p.y, kernels.Float32Bytes(p.old)) }

func (p *folded) read() []float32 {
	got := make([]float32, len(p.old))
	p.s.Download(kernels.Float32Bytes(got), p.y)
	p.sync()
	return got
}

// TestNormPays holds what blocks may read of tokens to take their norm along.
func TestNormPays(t *testing.T) {
	n := &rmsNorm{}
	for _, c := range []struct {
		blocks, tokens, in int
		weights            int64
		pays               bool
	}{
		{512, 1, 4096, 1, true},         // 8 MiB
		{513, 1, 4096, 28016639, false}, // more, and more than 0.3 of the weights
		{513, 1, 4096, 28016640, true},  // just 0.3
		{256, 4, 4096, 28016640, false}, // more tokens read more
		{256, 4, 4096, 160 << 20, true}, // but a tenth of the weights
	} {
		x := kernels.Mat{Rows: c.tokens, Cols: c.in}
		if n.pays(c.blocks, x, c.weights) != c.pays {
			t.Errorf("%+v: pays or not, against the table", c)
		}
	}
}
