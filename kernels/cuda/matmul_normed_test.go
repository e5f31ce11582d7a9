//go:build linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"testing"

	"eckart/kernels"
)

// TestNormedMatMul holds that products that take RMSNorm along, plain and gated, have the bits of RMSNorm and the product one
// after the other, with rows that a warp sums up and rows that a block does, however the product is cut; and that what they
// have no kernel for is left alone.
func TestNormedMatMul(t *testing.T) {
	KernelsAlone(t)
	const eps = 1e-5
	d := fakes{}.open(t, Options{})
	info := d.info
	for _, c := range []struct {
		tokens, out, in, pitch int
		done                   bool
	}{
		{1, 34, 72, 72, true},
		{4, 18, 512, 512, true},
		{3, 34, 520, 520, true},
		{1, 70, 2120, 2120, true},
		{2, 16, 9000, 9000, true},
		{5, 16, 40, 40, false},
		{1, 16, 20, 20, false},
		{1, 16, 40, 41, false},
	} {
		p := newProduct(t, d, c.tokens, c.out, c.in, c.pitch)
		take := func(rows int) kernels.Mat { // of c.in columns
			m, free := memory(t, d, rows*c.in*4)
			t.Cleanup(func() { _ = free() })
			return kernels.Mat{Span: m.Span, Rows: rows, Cols: c.in, Stride: c.in, Type: kernels.F32}
		}
		h, gain := take(c.tokens), take(1) // h: the norm
		values := make([]float32, c.in)
		for i := range values {
			values[i] = 1 + float32(i%7)/16
		}
		p.s.Upload(gain, kernels.Float32Bytes(values))
		work := p.s.work.bytes
		for _, gated := range []bool{false, true} {
			out, name := c.out, "plain"
			if gated {
				out, name = c.out/2, "gated"
			}
			y := p.y.Window(0, out)
			read := func() []float32 {
				got := make([]float32, len(p.old))
				p.s.Download(kernels.Float32Bytes(got), p.y)
				p.sync()
				return got
			}
			d.info, p.s.work.bytes = info, work
			p.s.Upload(p.y, kernels.Float32Bytes(p.old))
			p.s.RMSNorm(h, p.x, gain, eps)
			if !gated {
				p.s.MatMul(y, h, p.w, kernels.Set)
			} else if c.done && !p.s.GatedMatMul(y, h, p.w) {
				t.Fatalf("%+v: no gated product", c)
			}
			want := read()
			for _, multiprocessors := range []int{1, 132} {
				for _, room := range []int64{work, int64(mostSplits * c.tokens * tileRows * 4)} {
					d.info.Multiprocessors, p.s.work.bytes = multiprocessors, room
					p.s.Upload(p.y, kernels.Float32Bytes(p.old))
					do := p.s.NormedMatMul
					if gated {
						do = p.s.NormedGatedMatMul
					}
					name := fmt.Sprintf("%s %+v on %d multiprocessors, workspace of %d", name, c, multiprocessors, room)
					if do(y, p.x, gain, eps, p.w) != c.done {
						t.Fatalf("%s: done or not, against the table", name)
					}
					if got := read(); c.done {
						p.same(name, got, want)
					} else {
						p.same(name, got, p.old)
					}
				}
			}
		}
	}
	d.info = info
	p := newProduct(t, d, 1, 16, 64, 64)
	if p.s.NormedMatMul(p.y, p.x, p.x.Window(0, 32), eps, p.w) {
		t.Error("a norm of heads was taken along")
	}
}
