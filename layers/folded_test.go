package layers_test

import (
	"math"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// normedStream has products that take RMSNorm along, and SwiGLU along with a diagonal, put together from verbs in memory of its
// own.
type normedStream struct {
	gatedStream
	norm, both      kernels.Mat
	alone           bool // takes no norm along where it takes SwiGLU along
	normed, swiGLUs int  // that were asked for
}

func (s *normedStream) DiagonalSwiGLU(y, x kernels.Mat, ws []kernels.Mat) {
	s.swiGLUs++
	gate, up := y.Window(0, ws[0].Rows), y.Window(ws[0].Rows, ws[1].Rows)
	s.MatMul(gate, x.Window(0, ws[0].Cols), ws[0], kernels.Set)
	s.MatMul(up, x.Window(ws[0].Cols, ws[1].Cols), ws[1], kernels.Set)
	s.SwiGLU(gate, gate, up)
}

func (s *normedStream) NormedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool {
	s.normed++
	if !s.refuses {
		s.RMSNorm(s.norm, x, gain, eps)
		s.MatMul(y, s.norm, w, kernels.Set)
	}
	return !s.refuses
}

func (s *normedStream) NormedGatedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool {
	s.normed++
	if s.refuses || s.alone {
		return false
	}
	s.RMSNorm(s.norm, x, gain, eps)
	return s.GatedMatMul(y, s.norm, w)
}

func (s *normedStream) GatedGroupedMatMul(y, x kernels.Mat, w kernels.Grouped) bool {
	s.asked++
	if !s.refuses {
		both := s.both.Slice(0, y.Rows)
		s.GroupedMatMul(both, x, w, kernels.Set)
		s.SwiGLU(y, both.Window(0, y.Cols), both.Window(y.Cols, y.Cols))
	}
	return !s.refuses
}

func (s *normedStream) NormedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool {
	s.normed++
	if !s.refuses {
		s.RMSNorm(s.norm, x, gain, eps)
		s.GroupedMatMul(y, s.norm, w, kernels.Set)
	}
	return !s.refuses
}

func (s *normedStream) NormedGatedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool {
	s.normed++
	if s.refuses || s.alone {
		return false
	}
	s.RMSNorm(s.norm, x, gain, eps)
	return s.GatedGroupedMatMul(y, s.norm, w)
}

// factors is a product u·v, as kinds in packages below have it.
type factors struct {
	layers.Weight // v; its parts are all that anybody looks at here
	u             layers.Weight
}

type boundFactors struct{ u, v layers.Linear }

func (f factors) Dims() (out, in int) {
	out, _ = f.u.Dims()
	_, in = f.Weight.Dims()
	return out, in
}

func (f factors) Bind(a kernels.Arena, s kernels.Stream) (layers.Linear, error) {
	v, err := f.Weight.Bind(a, s)
	if err != nil {
		return nil, err
	}
	u, err := f.u.Bind(a, s)
	return &boundFactors{u, v}, err
}

func (l *boundFactors) Factors() (u, v layers.Linear) { return l.u, l.v }
func (l *boundFactors) Bytes() int64                  { return l.u.Bytes() + l.v.Bytes() }

func (l *boundFactors) Dims() (out, in int) {
	out, _ = l.u.Dims()
	_, in = l.v.Dims()
	return out, in
}

func (l *boundFactors) Apply(p *layers.Pass, y, x kernels.Mat, m kernels.Mode) {
	rank, _ := l.v.Dims()
	t := p.Mat(x.Rows, rank)
	l.v.Apply(p, t, x, kernels.Set)
	l.u.Apply(p, y, t, m)
}

// Stack makes one weight of several, which BindGroup would else bind one by one: factors of which the second stages lie along
// a diagonal.
func (f factors) Stack(members []layers.Member) layers.Weight {
	var us, vs []layers.Member
	for _, m := range members {
		o, ok := m.Weight.(factors)
		if !ok || len(members) < 2 {
			return nil
		}
		us, vs = append(us, layers.Member{Weight: o.u}), append(vs, layers.Member{Weight: o.Weight})
	}
	return factors{layers.Below(vs), layers.Diagonal(us)}
}

// TestNormed applies groups to a norm on streams that take it along, that take SwiGLU along without it, that refuse and that
// cannot: the results are those of the norm and the group, in the same bits; with a probe the norm is there to be seen.
func TestNormed(t *testing.T) {
	d := open(t)
	gain, err := layers.BindRMSNorm(d.Arena, d.Stream, d.Random(1, 8).Float32s(0), 1e-5)
	if err != nil {
		t.Fatal(err)
	}
	dense := func() layers.Weight { return d.Dense(6, 8, kernels.F32) }
	grouped := func() layers.Weight {
		return d.Grouped(kernels.Grouped{Rows: 6, Cols: 8, Bits: 4, Group: 32, ScaleType: kernels.F16}, false)
	}
	low := func() layers.Weight { return factors{d.Dense(4, 8, kernels.F32), d.Dense(6, 4, kernels.F32)} }
	x := d.Random(3, 8)
	for _, c := range []struct {
		name   string
		weight func() layers.Weight
		bias   bool
		normed [2]int // products that Out3 and SwiGLU ask for
		gated  bool   // SwiGLU asks for a gated product where a norm is not taken along, and where a probe sees it
	}{
		{"dense", dense, false, [2]int{1, 1}, true},
		{"grouped", grouped, false, [2]int{1, 1}, true},
		{"biased", dense, true, [2]int{1, 1}, false},
		{"low rank", low, false, [2]int{1, 1}, false},
		{"unlike", nil, false, [2]int{0, 0}, false},
	} {
		var members []layers.Member
		for i := range 3 {
			weight := c.weight
			if weight == nil {
				if weight = dense; i == 1 {
					weight = low
				}
			}
			m := layers.Member{Weight: weight()}
			if c.bias {
				m.Bias = d.Random(1, 6).Float32s(0)
			}
			members = append(members, m)
		}
		three, err := layers.BindGroup(d.Arena, d.Stream, "qkv", members...)
		if err != nil {
			t.Fatal(err)
		}
		two, err := layers.BindGroup(d.Arena, d.Stream, "mlp", members[:2]...)
		if err != nil {
			t.Fatal(err)
		}
		read := func(ms ...kernels.Mat) (all []float32) {
			for _, m := range ms {
				for i := range m.Rows {
					all = append(all, m.Float32s(i)...)
				}
			}
			return all
		}
		p := d.Pass(1 << 16)
		q, k, v := three.Out3(p, gain.Out(p, x))
		wants := [2][]float32{read(q, k, v), read(two.SwiGLU(p, gain.Out(p, x)))}
		for _, way := range []string{"verbs", "normed", "alone", "refused", "probe"} {
			p := d.Pass(1 << 16)
			s := &normedStream{
				gatedStream: gatedStream{Stream: d.Stream, up: d.Random(3, 6), refuses: way == "refused"},
				norm:        d.Random(3, 8), both: d.Random(3, 12), alone: way == "alone",
			}
			if way != "verbs" {
				p.Stream = s
			}
			var tapped []string
			if way == "probe" {
				p.Probe = func(name string, m kernels.Mat) { tapped = append(tapped, name) }
			}
			q, k, v := three.NormedOut3(p, gain, x)
			same(t, c.name+", "+way+": Out3", read(q, k, v), wants[0])
			asked := [2]int{s.normed, 0}
			same(t, c.name+", "+way+": SwiGLU", read(two.NormedSwiGLU(p, gain, x)), wants[1])
			asked[1] = s.normed - asked[0]
			want := [2]int{}
			if way != "verbs" && way != "probe" {
				want = c.normed
			}
			if asked != want {
				t.Errorf("%s, %s: %d products of a norm were asked for, want %d", c.name, way, asked, want)
			}
			gated := 0
			if c.gated && way != "verbs" {
				gated = 1
			}
			if s.asked != gated {
				t.Errorf("%s, %s: %d gated products were asked for, want %d", c.name, way, s.asked, gated)
			}
			if diagonal := c.name == "low rank" && way != "verbs"; diagonal != (s.swiGLUs == 1) {
				t.Errorf("%s, %s: SwiGLU of a diagonal was asked for %d times", c.name, way, s.swiGLUs)
			}
			if way == "probe" && !slices.Equal(tapped, []string{"qkv", "mlp"}) {
				t.Errorf("%s: the probe saw %q", c.name, tapped)
			}
		}
	}
}

func same(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d results, want %d", name, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: result %d has other bits: got %v, want %v", name, i, got[i], want[i])
		}
	}
}
