package layers_test

import (
	"fmt"
	"math"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/kindtest"
)

func open(t *testing.T) *kindtest.Bench {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	return kindtest.New(t, dev)
}

var types = []kernels.DType{kernels.F32, kernels.F16, kernels.BF16}

// TestGroup computes groups that can be one matrix and groups that cannot, with and without biases.
func TestGroup(t *testing.T) {
	for _, row := range []struct {
		name  string
		types [3]kernels.DType
		bias  [3]bool
	}{
		{"one type", [3]kernels.DType{kernels.BF16, kernels.BF16, kernels.BF16}, [3]bool{}},
		{"mixed types", [3]kernels.DType{kernels.BF16, kernels.F32, kernels.F16}, [3]bool{}},
		{"biases", [3]kernels.DType{}, [3]bool{true, true, true}},
		{"one bias", [3]kernels.DType{}, [3]bool{false, true, false}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t)
			var members []layers.Member
			for i, out := range []int{6, 1, 9} {
				m := layers.Member{Weight: d.Dense(out, 20, row.types[i])}
				if row.bias[i] {
					m.Bias = d.Random(1, out).Float32s(0)
				}
				members = append(members, m)
			}
			g, err := layers.BindGroup(d.Arena, d.Stream, "site", members...)
			if err != nil {
				t.Fatal(err)
			}
			p := d.Pass(1 << 16)
			var tapped string
			p.Probe = func(name string, _ kernels.Mat) { tapped = name }
			x := d.Random(4, 20)
			a, b, c := g.Out3(p, x)
			for i, y := range []kernels.Mat{a, b, c} {
				d.Near(fmt.Sprint("member ", i), y, d.Want(members[i].Weight, x, members[i].Bias, y, false))
			}
			if tapped != "site" {
				t.Errorf("the probe saw %q", tapped)
			}
		})
	}
	d := open(t)
	if _, err := layers.BindGroup(d.Arena, d.Stream, "site", layers.Member{Weight: d.Dense(3, 4, kernels.F32), Bias: make([]float32, 2)}); err == nil {
		t.Error("a bias of the wrong length was bound")
	}
}

// gatedStream has a gated product, put together from verbs in scratch of its own.
type gatedStream struct {
	kernels.Stream
	up      kernels.Mat
	refuses bool
	asked   int
}

func (s *gatedStream) GatedMatMul(y, x, w kernels.Mat) bool {
	s.asked++
	if s.refuses {
		return false
	}
	s.MatMul(y, x, w.Slice(0, y.Cols), kernels.Set)
	s.MatMul(s.up, x, w.Slice(y.Cols, y.Cols), kernels.Set)
	s.SwiGLU(y, y, s.up)
	return true
}

// TestSwiGLU computes gate and up on a stream without a gated product, one with it, and one that has none for such weights;
// a group with a bias is never given to it.
func TestSwiGLU(t *testing.T) {
	d := open(t)
	gate, up := d.Dense(10, 8, kernels.F32), d.Dense(10, 8, kernels.F32)
	bias := d.Random(1, 10).Float32s(0)
	x := d.Random(3, 8)
	for _, c := range []struct {
		name   string
		stream kernels.Stream
		bias   []float32
		asked  int
	}{
		{"verbs", d.Stream, nil, 0},
		{"gated", &gatedStream{Stream: d.Stream, up: d.Random(3, 10)}, nil, 1},
		{"refused", &gatedStream{Stream: d.Stream, refuses: true}, nil, 1},
		{"bias", &gatedStream{Stream: d.Stream}, bias, 0},
	} {
		g, err := layers.BindGroup(d.Arena, d.Stream, "mlp", layers.Member{Weight: gate, Bias: c.bias}, layers.Member{Weight: up})
		if err != nil {
			t.Fatal(err)
		}
		p := d.Pass(1 << 16)
		p.Stream = c.stream
		taps := 0
		p.Probe = func(string, kernels.Mat) { taps++ }
		y := g.SwiGLU(p, x)
		want := d.Want(gate, x, c.bias, y, false)
		for i, row := range d.Want(up, x, nil, y, false) {
			for j, u := range row {
				want[i][j] *= u / (1 + math.Exp(-want[i][j]))
			}
		}
		d.Near(c.name, y, want)
		if taps != 1 {
			t.Errorf("%s: the probe saw the input %d times", c.name, taps)
		}
		if s, ok := c.stream.(*gatedStream); ok && s.asked != c.asked {
			t.Errorf("%s: the gated product was asked for %d times, want %d", c.name, s.asked, c.asked)
		}
	}
}

// diagonalStream multiplies by a diagonal's blocks at once, as its callers see it.
type diagonalStream struct {
	kernels.Stream
	asked int
}

func (s *diagonalStream) DiagonalMatMul(y, x kernels.Mat, ws []kernels.Mat, m kernels.Mode) {
	s.asked++
	row, col := 0, 0
	for _, w := range ws {
		s.MatMul(y.Window(row, w.Rows), x.Window(col, w.Cols), w, m)
		row, col = row+w.Rows, col+w.Cols
	}
}

// TestDiagonal multiplies by matrices along a diagonal on a stream that does it at once and on one that does not; only those
// that are all dense are given to it.
func TestDiagonal(t *testing.T) {
	d := open(t)
	dense := []layers.Member{{Weight: d.Dense(5, 8, kernels.BF16)}, {Weight: d.Dense(3, 6, kernels.F32)}, {Weight: d.Dense(7, 2, kernels.BF16)}}
	nested := []layers.Member{dense[0], {Weight: layers.Diagonal(dense[1:])}}
	for _, c := range []struct {
		name    string
		members []layers.Member
		asked   int
	}{{"dense", dense, 1}, {"nested", nested, 1}} {
		w := layers.Diagonal(c.members)
		l, err := w.Bind(d.Arena, d.Stream)
		if err != nil {
			t.Fatal(err)
		}
		s := &diagonalStream{Stream: d.Stream}
		for _, stream := range []kernels.Stream{d.Stream, s} {
			p := d.Pass(1 << 16)
			p.Stream = stream
			x, y := d.Random(4, 16), d.Random(4, 15)
			want := d.Want(w, x, nil, y, true)
			l.Apply(p, y, x, kernels.Add)
			d.Near(c.name, y, want)
		}
		if s.asked != c.asked {
			t.Errorf("%s: the stream was asked %d times, want %d", c.name, s.asked, c.asked)
		}
	}
}

// TestScratch holds the stack of a pass to its rules: aligned pieces that do not overlap, reused after Release, and
// the same peak with memory and without.
func TestScratch(t *testing.T) {
	d := open(t)
	with, without := d.Pass(1<<12), layers.NewPass(kernels.Discard{}, layers.Scratch{})
	for _, p := range []*layers.Pass{with, without} {
		a := p.Mat(3, 5)
		mark := p.Mark()
		b := p.Mat(1, 7)
		p.Release(mark)
		c := p.Mat(2, 3)
		if p == with {
			a.Float32s(2)[4], b.Float32s(0)[0] = 1, 2
			if a.Float32s(2)[4] != 1 || c.Float32s(0)[0] != 2 {
				t.Error("scratch overlaps, or was not reused")
			}
		}
		if c.Stride != 3 {
			t.Errorf("stride %d, want 3", c.Stride)
		}
	}
	if with.PeakScratch() != without.PeakScratch() || with.PeakScratch() != 64+64 {
		t.Errorf("peak %d with memory, %d without, want 128", with.PeakScratch(), without.PeakScratch())
	}
}
