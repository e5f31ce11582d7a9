//go:build linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// product is a product with BF16 weights on a device.
type product struct {
	t       testing.TB
	d       *Device
	s       *stream
	y, x, w kernels.Mat
	old     []float32
	want    [2][]float64 // by the mode
}

// openProduct returns a product without operands, and what takes them from an arena.
func openProduct(t testing.TB, d *Device, bytes int64) (p *product, take func(rows, cols int, ty kernels.DType) kernels.Mat) {
	st, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.NewArena(bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return &product{t: t, d: d, s: st.(*stream)}, func(rows, cols int, ty kernels.DType) kernels.Mat {
		m, err := a.Alloc(rows, cols, ty)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

// newProduct places random operands, and computes the product in float64 of activations that are rounded as the verb says.
// Rows of weights begin at multiples of pitch elements.
func newProduct(t testing.TB, d *Device, tokens, out, in, pitch int) *product {
	p, take := openProduct(t, d, kernels.ArenaBytes(tokens, out, kernels.F32)+kernels.ArenaBytes(tokens, in, kernels.F32)+kernels.ArenaBytes(out, pitch, kernels.BF16))
	p.y, p.x = take(tokens, out, kernels.F32), take(tokens, in, kernels.F32)
	whole := take(out, pitch, kernels.BF16)
	p.w = whole.Window(pitch-in, in)
	r := rand.New(rand.NewPCG(uint64(out), uint64(in)))
	normal := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	x, w := normal(tokens*in), normal(out*in)
	p.old = normal(tokens * out)
	bits := make([]byte, whole.Bytes())
	for i := range bits {
		bits[i] = 0xff // NaNs beside the weights
	}
	for i, v := range w {
		b := nearestBF16(v)
		w[i] = math.Float32frombits(uint32(b) << 16)
		at := (i/in*pitch + pitch - in + i%in) * 2
		bits[at], bits[at+1] = byte(b), byte(b>>8)
	}
	p.s.Upload(whole, bits)
	p.s.Upload(p.x, kernels.Float32Bytes(x))
	for i := range tokens {
		for o := range out {
			var sum float64
			for j := range in {
				sum += float64(math.Float32frombits(uint32(nearestBF16(x[i*in+j]))<<16)) * float64(w[o*in+j])
			}
			p.want[kernels.Set] = append(p.want[kernels.Set], sum)
			p.want[kernels.Add] = append(p.want[kernels.Add], sum+float64(p.old[i*out+o]))
		}
	}
	p.sync()
	return p
}

// nearestBF16 rounds to nearest, ties to even.
func nearestBF16(v float32) uint16 {
	b := math.Float32bits(v)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func (p *product) sync() {
	p.t.Helper()
	if err := p.s.Sync(); err != nil {
		p.t.Fatal(err)
	}
}

// run multiplies, and holds the result against the reference.
func (p *product) run(name string, m kernels.Mode) []float32 {
	p.t.Helper()
	p.s.Upload(p.y, kernels.Float32Bytes(p.old))
	p.s.MatMul(p.y, p.x, p.w, m)
	got := make([]float32, len(p.old))
	p.s.Download(kernels.Float32Bytes(got), p.y)
	p.sync()
	var sum, norm float64
	for i, w := range p.want[m] {
		sum += (float64(got[i]) - w) * (float64(got[i]) - w)
		norm += w * w
	}
	if nmse := sum / norm; !(nmse <= 2e-12) { // kerneltest's bound
		p.t.Fatalf("%s, mode %d: error (NMSE) is %.3g", name, m, nmse)
	}
	return got
}

func (p *product) same(name string, got, want []float32) {
	p.t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			p.t.Fatalf("%s: element %d has other bits: got %v, want %v", name, i, got[i], want[i])
		}
	}
}

// TestMatMulCuts holds that no cut of a product with few tokens changes a bit: as GPUs of many sizes and workspaces of
// little room make them.
func TestMatMulCuts(t *testing.T) {
	KernelsAlone(t)
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct{ tokens, out, in, pitch int }{
		{3, 70, 2120, 2120}, {21, 35, 1160, 1160}, {40, 20, 1160, 1160}, {5, 20, 1156, 1161},
	} {
		p := newProduct(t, d, c.tokens, c.out, c.in, c.pitch)
		work := p.s.work.bytes
		for _, m := range []kernels.Mode{kernels.Set, kernels.Add} {
			d.info, p.s.work.bytes = info, work
			want := p.run(fmt.Sprintf("%+v", c), m)
			for _, multiprocessors := range []int{1, 4, 200} {
				for _, shared := range []int{227 << 10, 60 << 10} {
					for _, room := range []int64{work, int64(mostSplits * c.tokens * tileRows * 4)} {
						d.info.Multiprocessors, d.info.sharedPerBlock, p.s.work.bytes = multiprocessors, shared, room
						name := fmt.Sprintf("%+v on %d multiprocessors with %d bytes, workspace of %d", c, multiprocessors, shared, room)
						p.same(name, p.run(name, m), want)
					}
				}
			}
		}
	}
	d.info = info
}

// TestMatMulTiled holds products with many tokens, ragged at every edge, against float64; and that neither the size of
// tiles nor the workspace changes a bit.
func TestMatMulTiled(t *testing.T) {
	KernelsAlone(t)
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct{ tokens, out, in, pitch int }{
		{65, 70, 40, 40}, {130, 129, 96, 96}, {200, 33, 104, 104}, {66, 131, 100, 103},
	} {
		p := newProduct(t, d, c.tokens, c.out, c.in, c.pitch)
		work := p.s.work.bytes
		for _, m := range []kernels.Mode{kernels.Set, kernels.Add} {
			d.info, p.s.work.bytes = info, work
			want := p.run(fmt.Sprintf("%+v", c), m)
			for _, multiprocessors := range []int{1, 1000} {
				for _, room := range []int64{work, 30 * 128 * 2} {
					d.info.Multiprocessors, p.s.work.bytes = multiprocessors, room
					name := fmt.Sprintf("%+v on %d multiprocessors, workspace of %d", c, multiprocessors, room)
					p.same(name, p.run(name, m), want)
				}
			}
		}
	}
	d.info = info
}

// TestGatedMatMul holds that a gated product has the bits of a product and SwiGLU, with few tokens and with many, and leaves
// weights that it has no kernel for alone.
func TestGatedMatMul(t *testing.T) {
	KernelsAlone(t)
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct{ tokens, out, in int }{{1, 24, 1160}, {11, 35, 1160}, {20, 9, 72}, {37, 40, 96}, {70, 33, 40}, {150, 70, 72}} {
		p := newProduct(t, d, c.tokens, 2*c.out, c.in, c.in)
		work := p.s.work.bytes
		for _, multiprocessors := range []int{1, 200} {
			for _, room := range []int64{work, int64(mostSplits * c.tokens * tileRows * 4)} {
				d.info = info
				p.s.work.bytes = work
				p.run(fmt.Sprintf("%+v", c), kernels.Set)
				gate, up := p.y.Window(0, c.out), p.y.Window(c.out, c.out)
				p.s.SwiGLU(gate, gate, up)
				both, got := make([]float32, 2*c.tokens*c.out), make([]float32, 2*c.tokens*c.out)
				p.s.Download(kernels.Float32Bytes(both), p.y)
				p.sync()

				d.info.Multiprocessors, p.s.work.bytes = multiprocessors, room
				p.s.Upload(p.y, kernels.Float32Bytes(both))
				if !p.s.GatedMatMul(up, p.x, p.w) {
					t.Fatalf("%+v: no kernel", c)
				}
				p.s.Download(kernels.Float32Bytes(got), p.y)
				p.sync()
				for i := range c.tokens {
					copy(both[(2*i+1)*c.out:][:c.out], both[2*i*c.out:])
				}
				p.same(fmt.Sprintf("%+v on %d multiprocessors, workspace of %d", c, multiprocessors, room), got, both)
			}
		}
	}
	d.info = info
	p := newProduct(t, d, 1, 16, 20, 20)
	if p.s.GatedMatMul(p.y.Window(0, 8), p.x, p.w) {
		t.Error("a gated product of 20 columns has a kernel")
	}
}

// TestDiagonalMatMul holds that products along a diagonal have the bits of each alone, in one launch and where they do not
// fit into one.
func TestDiagonalMatMul(t *testing.T) {
	KernelsAlone(t)
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct {
		tokens int
		shapes [][2]int // out, in
		ways   string
	}{
		{1, [][2]int{{40, 1160}, {24, 72}, {9, 264}}, "one launch"},
		{11, [][2]int{{17, 40}, {70, 200}}, "one launch"},
		{40, [][2]int{{33, 72}, {20, 8}, {1, 40}, {16, 64}}, "one launch"},
		{2, [][2]int{{10, 20}, {16, 64}}, "not aligned"},
		{70, [][2]int{{10, 24}, {16, 64}}, "many tokens"},
	} {
		out, in := 0, 0
		for _, s := range c.shapes {
			out, in = out+s[0], in+s[1]
		}
		p := newProduct(t, d, c.tokens, out, in, in) // for its operands: weights are pieces of its matrix
		var ws []kernels.Mat
		for i, s := range c.shapes {
			w := p.w
			w.Addr += uint64(i * 512)
			w.Rows, w.Cols, w.Stride = s[0], s[1], s[1]
			ws = append(ws, w)
		}
		work := p.s.work.bytes
		for _, m := range []kernels.Mode{kernels.Set, kernels.Add} {
			d.info, p.s.work.bytes = info, work
			p.s.Upload(p.y, kernels.Float32Bytes(p.old))
			row, col := 0, 0
			for _, w := range ws {
				p.s.MatMul(p.y.Window(row, w.Rows), p.x.Window(col, w.Cols), w, m)
				row, col = row+w.Rows, col+w.Cols
			}
			want := make([]float32, len(p.old))
			p.s.Download(kernels.Float32Bytes(want), p.y)
			p.sync()
			for _, multiprocessors := range []int{1, 132} {
				for _, room := range []int64{work, int64(mostSplits * c.tokens * tileRows * 4)} {
					d.info.Multiprocessors, p.s.work.bytes = multiprocessors, room
					name := fmt.Sprintf("%+v, mode %d, on %d multiprocessors, workspace of %d", c, m, multiprocessors, room)
					if room == work && p.s.diagonal(p.y, p.x, ws, m, false) != (c.ways == "one launch") {
						t.Fatalf("%s: not done in the way that was to be tested", name)
					}
					p.s.Upload(p.y, kernels.Float32Bytes(p.old))
					p.s.DiagonalMatMul(p.y, p.x, ws, m)
					got := make([]float32, len(want))
					p.s.Download(kernels.Float32Bytes(got), p.y)
					p.sync()
					p.same(name, got, want)
				}
			}
		}
	}
	d.info = info
}

// TestDiagonalSwiGLU holds that SwiGLU of two products along a diagonal has the bits of the verbs, in one launch and where that
// is not possible.
func TestDiagonalSwiGLU(t *testing.T) {
	KernelsAlone(t)
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct {
		tokens, out int
		ins         [2]int
		ways        string
	}{
		{1, 70, [2]int{1160, 72}, "one launch"},
		{3, 17, [2]int{40, 520}, "one launch"},
		{11, 33, [2]int{64, 64}, "one launch"},
		{30, 9, [2]int{72, 8}, "one launch"},
		{40, 20, [2]int{40, 264}, "one launch"},
		{2, 16, [2]int{20, 64}, "not aligned"},
		{70, 16, [2]int{24, 64}, "many tokens"},
	} {
		p := newProduct(t, d, c.tokens, 2*c.out, c.ins[0]+c.ins[1], c.ins[0]+c.ins[1]) // for its operands: weights are pieces of its matrix
		var ws []kernels.Mat
		for i, in := range c.ins {
			w := p.w
			w.Addr += uint64(i * 512)
			w.Rows, w.Cols, w.Stride = c.out, in, in
			ws = append(ws, w)
		}
		gate, up := p.y.Window(0, c.out), p.y.Window(c.out, c.out)
		read := func() []float32 {
			got := make([]float32, len(p.old))
			p.s.Download(kernels.Float32Bytes(got), p.y)
			p.sync()
			var all []float32
			for i := range c.tokens {
				all = append(all, got[2*i*c.out:][:c.out]...)
			}
			return all
		}
		work := p.s.work.bytes
		d.info = info
		p.s.MatMul(gate, p.x.Window(0, c.ins[0]), ws[0], kernels.Set)
		p.s.MatMul(up, p.x.Window(c.ins[0], c.ins[1]), ws[1], kernels.Set)
		p.s.SwiGLU(gate, gate, up)
		want := read()
		for _, multiprocessors := range []int{1, 132} {
			for _, room := range []int64{work, int64(mostSplits * c.tokens * tileRows * 4)} {
				d.info.Multiprocessors, p.s.work.bytes = multiprocessors, room
				name := fmt.Sprintf("%+v on %d multiprocessors, workspace of %d", c, multiprocessors, room)
				if room == work && p.s.diagonal(p.y, p.x, ws, kernels.Set, true) != (c.ways == "one launch") {
					t.Fatalf("%s: not done in the way that was to be tested", name)
				}
				p.s.Upload(p.y, kernels.Float32Bytes(p.old))
				p.s.DiagonalSwiGLU(p.y, p.x, ws)
				p.same(name, read(), want)
			}
		}
	}
	d.info = info
}
