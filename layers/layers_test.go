package layers_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
)

type device struct {
	*testing.T
	kernels.Arena
	kernels.Stream
	rng *rand.Rand
}

func open(t *testing.T) *device { return openWith(t, cpu.Auto) }

func openWith(t *testing.T, isa cpu.ISA) *device {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: 2, ISA: isa})
	if err != nil {
		t.Fatal(err)
	}
	a, err := dev.NewArena(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), dev.Close() })
	return &device{t, a, s, rand.New(rand.NewPCG(1, 2))}
}

func (d *device) pass(bytes int64) *layers.Pass {
	s, err := layers.NewScratch(d.Arena, bytes)
	if err != nil {
		d.Fatal(err)
	}
	return layers.NewPass(d.Stream, s)
}

func (d *device) random(rows, cols int) kernels.Mat {
	m, err := d.Alloc(rows, cols, kernels.F32)
	if err != nil {
		d.Fatal(err)
	}
	for i := range rows {
		for j := range cols {
			m.Float32s(i)[j] = float32(d.rng.NormFloat64())
		}
	}
	return m
}

// dense returns a random matrix whose values every type holds exactly.
func (d *device) dense(out, in int, t kernels.DType) *layers.Dense {
	var raw []byte
	for range out * in {
		raw = appendFloat(raw, t, float32(d.rng.IntN(257)-128)/64)
	}
	return layers.NewDense(layers.Part{
		Name: "weight", Type: t, Rows: out, Cols: in,
		Read: func(dst []byte, row int) error { copy(dst, raw[row*in*t.Bytes():]); return nil },
	})
}

// want computes y = x·Wᵀ in float64, on top of what y holds when add.
func (d *device) want(w layers.Weight, x kernels.Mat, bias []float32, y kernels.Mat, add bool) [][]float64 {
	out, in := w.Dims()
	m, err := w.Dense()
	if err != nil {
		d.Fatal(err)
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

func (d *device) near(what string, y kernels.Mat, want [][]float64) {
	d.Helper()
	for t, row := range want {
		for o, v := range row {
			if got := float64(y.Float32s(t)[o]); math.Abs(got-v) > 1e-4*(1+math.Abs(v)) {
				d.Fatalf("%s: (%d, %d) is %g, want %g", what, t, o, got, v)
			}
		}
	}
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
				m := layers.Member{Weight: d.dense(out, 20, row.types[i])}
				if row.bias[i] {
					m.Bias = d.random(1, out).Float32s(0)
				}
				members = append(members, m)
			}
			g, err := layers.BindGroup(d.Arena, d.Stream, "site", members...)
			if err != nil {
				t.Fatal(err)
			}
			p := d.pass(1 << 16)
			var tapped string
			p.Probe = func(name string, _ kernels.Mat) { tapped = name }
			x := d.random(4, 20)
			a, b, c := g.Out3(p, x)
			for i, y := range []kernels.Mat{a, b, c} {
				d.near(fmt.Sprint("member ", i), y, d.want(members[i].Weight, x, members[i].Bias, y, false))
			}
			if tapped != "site" {
				t.Errorf("the probe saw %q", tapped)
			}
		})
	}
	d := open(t)
	if _, err := layers.BindGroup(d.Arena, d.Stream, "site", layers.Member{Weight: d.dense(3, 4, kernels.F32), Bias: make([]float32, 2)}); err == nil {
		t.Error("a bias of the wrong length was bound")
	}
}

func TestSwiGLU(t *testing.T) {
	d := open(t)
	gate, up := d.dense(10, 8, kernels.F32), d.dense(10, 8, kernels.F32)
	g, err := layers.BindGroup(d.Arena, d.Stream, "mlp", layers.Member{Weight: gate}, layers.Member{Weight: up})
	if err != nil {
		t.Fatal(err)
	}
	x := d.random(3, 8)
	y := g.SwiGLU(d.pass(1<<16), x)
	want := d.want(gate, x, nil, y, false)
	for i, row := range d.want(up, x, nil, y, false) {
		for j, u := range row {
			want[i][j] *= u / (1 + math.Exp(-want[i][j]))
		}
	}
	d.near("swiglu", y, want)
}

// TestScratch holds the stack of a pass to its rules: aligned pieces that do not overlap, reused after Release, and
// the same peak with memory and without.
func TestScratch(t *testing.T) {
	d := open(t)
	with, without := d.pass(1<<12), layers.NewPass(kernels.Discard{}, layers.Scratch{})
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
