package lowrank_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/kindtest"
	"eckart/layers/lowrank"
)

func open(t *testing.T) *kindtest.Bench {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	return kindtest.New(t, dev)
}

// bf16 returns a factor.
func bf16(b *kindtest.Bench, out, in int) layers.Weight { return b.Factor(out, in, kernels.BF16) }

// int4 returns a grouped factor.
func int4(b *kindtest.Bench, out, in int) layers.Weight { return grouped(4, false).make(b, out, in) }

// TestGroups binds matrices that read one input: what they can share they share, which shows in the number of products
// and in the bytes that are read, and the results are those of each alone.
func TestGroups(t *testing.T) {
	const in = 40
	outs := []int{19, 7, 33}
	ranks := []int{5, 3, 8}
	weight := func(b *kindtest.Bench, i int) layers.Weight {
		return must(lowrank.New(bf16(b, outs[i], ranks[i]), bf16(b, ranks[i], in)))(b.T)
	}
	nested := func(b *kindtest.Bench, i int) layers.Weight {
		ut, v := bf16(b, ranks[i], outs[i]).Parts()[0], bf16(b, ranks[i], in).Parts()[0]
		return must(lowrank.NewNested(ut, v, make([]float32, ranks[i])))(b.T)
	}
	pifa := func(b *kindtest.Bench, i int) layers.Weight {
		return must(lowrank.NewPIFA(pivots(b, outs[i], ranks[i]), bf16(b, ranks[i], in), bf16(b, outs[i]-ranks[i], ranks[i])))(b.T)
	}
	all := func(b *kindtest.Bench, make func(b *kindtest.Bench, i int) layers.Weight) (ws []layers.Weight) {
		for i := range outs {
			ws = append(ws, make(b, i))
		}
		return ws
	}
	packed := func(out, in int) int64 { return grouped(4, false).bytes(out, in) }
	apart := int64(2 * (19*5 + 5*in + 7*3 + 3*in + 33*8 + 8*in))
	for _, row := range []struct {
		name  string
		make  func(b *kindtest.Bench) []layers.Weight
		calls int
		bytes int64
	}{
		{"factors of their own", func(b *kindtest.Bench) []layers.Weight { return all(b, weight) }, 1 + 3, apart},
		{"nested", func(b *kindtest.Bench) []layers.Weight { return all(b, nested) }, 1 + 3, apart},
		{"nested among others", func(b *kindtest.Bench) []layers.Weight {
			return []layers.Weight{weight(b, 0), nested(b, 1), weight(b, 2)}
		}, 1 + 3, apart},
		{
			"pivoted", func(b *kindtest.Bench) []layers.Weight { return all(b, pifa) }, 1 + 3,
			2*(14*5+5*in+4*3+3*in+25*8+8*in) + 4*(19+7+33),
		},
		{"first stages of two types", func(b *kindtest.Bench) []layers.Weight {
			ws := all(b, weight)
			ws[0] = must(lowrank.New(bf16(b, 19, 5), int4(b, 5, in)))(b.T)
			return ws
		}, 2 + 3, apart - 2*5*in + packed(5, in)},
		{"one v in common", func(b *kindtest.Bench) []layers.Weight {
			v := bf16(b, 6, in)
			return all(b, func(b *kindtest.Bench, i int) layers.Weight { return must(lowrank.New(bf16(b, outs[i], 6), v))(b.T) })
		}, 1 + 1, 2 * ((19+7+33)*6 + 6*in)},
		{"one v in common, and second stages of two types", func(b *kindtest.Bench) []layers.Weight {
			v := bf16(b, 6, in)
			return []layers.Weight{
				must(lowrank.New(bf16(b, 19, 6), v))(b.T), must(lowrank.New(int4(b, 7, 6), v))(b.T), must(lowrank.New(int4(b, 33, 6), v))(b.T),
			}
		}, 1 + 2, 2*(19*6+6*in) + packed(7+33, 6)},
		{"one v in common to two", func(b *kindtest.Bench) []layers.Weight {
			v := bf16(b, 6, in)
			return []layers.Weight{weight(b, 0), must(lowrank.New(bf16(b, 7, 6), v))(b.T), must(lowrank.New(bf16(b, 33, 6), v))(b.T)}
		}, 1 + 2, 2 * (19*5 + 5*in + (7+33)*6 + 6*in)},
		{"low rank beside dense", func(b *kindtest.Bench) []layers.Weight {
			return []layers.Weight{weight(b, 0), bf16(b, 7, in), bf16(b, 33, in)}
		}, 2 + 1, 2 * (19*5 + 5*in + (7+33)*in)},
		{"kinds that share nothing", func(b *kindtest.Bench) []layers.Weight {
			return []layers.Weight{weight(b, 0), pifa(b, 1), weight(b, 2)}
		}, 6, apart + 4*7 - 2*3*3},
		{"sums", func(b *kindtest.Bench) []layers.Weight {
			return all(b, func(b *kindtest.Bench, i int) layers.Weight {
				return must(layers.NewSum(int4(b, outs[i], in), weight(b, i)))(b.T)
			})
		}, 1 + 1 + 3, apart + packed(19+7+33, in)},
		{"sums with one v in common", func(b *kindtest.Bench) []layers.Weight {
			v := bf16(b, 6, in)
			return all(b, func(b *kindtest.Bench, i int) layers.Weight {
				return must(layers.NewSum(int4(b, outs[i], in), must(lowrank.New(bf16(b, outs[i], 6), v))(b.T)))(b.T)
			})
		}, 1 + 1 + 1, 2*((19+7+33)*6+6*in) + packed(19+7+33, in)},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := open(t)
			ws := row.make(b)
			var members []layers.Member
			for i, w := range ws {
				members = append(members, layers.Member{Name: fmt.Sprint(i), Weight: w})
			}
			var counter kernels.Counter
			counted, err := layers.BindGroup(&counter, kernels.Discard{}, "site", members...)
			if err != nil {
				t.Fatal(err)
			}
			before := b.Arena.Used()
			g, err := layers.BindGroup(b.Arena, b.Stream, "site", members...)
			if err != nil {
				t.Fatal(err)
			}
			if used := b.Arena.Used() - before; counter.Used() != used || g.Bytes() != row.bytes || counted.Bytes() != row.bytes {
				t.Errorf("takes %d bytes and reads %d, want %d and %d as counted, and %d", used, g.Bytes(), counter.Used(), counted.Bytes(), row.bytes)
			}
			p := b.Pass(1 << 16)
			count := &kindtest.Products{Stream: p.Stream}
			p.Stream = count
			x := b.Steps(3, in, nil)
			y := b.Random(3, 19+7+33)
			want := make([][][]float64, len(ws))
			for i, at := range []int{0, 19, 19 + 7} {
				want[i] = b.Want(ws[i], x, nil, y.Window(at, outs[i]), true)
			}
			g.Apply(p, y, x, kernels.Add)
			for i, at := range []int{0, 19, 19 + 7} {
				if _, rounds := factorKinds(ws[i]); !rounds {
					b.Near(fmt.Sprint("member ", i), y.Window(at, outs[i]), want[i])
				}
			}
			if count.Calls != row.calls {
				t.Errorf("%d products, want %d", count.Calls, row.calls)
			}
		})
	}
}

// factorKinds returns the kinds of a low-rank weight's factors, and whether what lies between them may be rounded.
func factorKinds(w layers.Weight) (kinds string, rounds bool) {
	l, ok := w.(*lowrank.Weight)
	if !ok {
		return "", false
	}
	u, v := l.Factors()
	return u.Kind() + " " + v.Kind(), u.Kind() == "grouped"
}

// TestPartNames holds the names under which parts are stored.
func TestPartNames(t *testing.T) {
	b := open(t)
	plain := must(lowrank.New(bf16(b, 5, 2), bf16(b, 2, 7)))(t)
	mixed := must(lowrank.New(grouped(8, false).make(b, 5, 2), bf16(b, 2, 7)))(t)
	pifa := must(lowrank.NewPIFA([]int32{4, 0}, bf16(b, 2, 7), int4(b, 3, 2)))(t)
	nested := must(lowrank.NewNested(bf16(b, 2, 5).Parts()[0], bf16(b, 2, 7).Parts()[0], []float32{2, 1}))(t)
	for _, row := range []struct {
		w    layers.Weight
		want string
	}{
		{plain, "u bf16 5x2, v bf16 2x7"},
		{mixed, "u.grouped.codes u8 5x2, u.grouped.scales f16 5x1, v bf16 2x7"},
		{pifa, "v bf16 2x7, k.grouped.codes u8 3x1, k.grouped.scales f16 3x1, pivots i32 1x2"},
		{nested, "ut bf16 2x5, v bf16 2x7, energy f32 1x2"},
		{
			must(layers.NewSum(int4(b, 5, 7), plain))(t),
			"a.grouped.codes u8 5x4, a.grouped.scales f16 5x1, b.lowrank.u bf16 5x2, b.lowrank.v bf16 2x7",
		},
		{must(layers.NewSum(bf16(b, 5, 7), plain))(t), "a bf16 5x7, b.lowrank.u bf16 5x2, b.lowrank.v bf16 2x7"},
	} {
		var got []string
		for _, p := range row.w.Parts() {
			got = append(got, fmt.Sprintf("%s %s %dx%d", p.Name, p.Type, p.Rows, p.Cols))
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: parts are %s, want %s", row.w.Kind(), s, row.want)
		}
	}
}

// TestRefuses names the part that does not fit.
func TestRefuses(t *testing.T) {
	b := open(t)
	part := func(rows, cols int, t kernels.DType) layers.Part { return b.Factor(rows, cols, t).Parts()[0] }
	weight := func(u, v layers.Weight) func() error {
		return func() error { _, err := lowrank.New(u, v); return err }
	}
	pifa := func(pivots []int32, v, k layers.Weight) func() error {
		return func() error { _, err := lowrank.NewPIFA(pivots, v, k); return err }
	}
	nested := func(ut, v layers.Part, energy ...float32) func() error {
		return func() error { _, err := lowrank.NewNested(ut, v, energy); return err }
	}
	lr := must(lowrank.New(bf16(b, 5, 2), bf16(b, 2, 7)))(t)
	fine := must(lowrank.NewNested(part(3, 5, kernels.F16), part(3, 7, kernels.F16), []float32{3, 2, 1}))(t)
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, row := range []struct {
		make func() error
		want string
	}{
		{weight(bf16(b, 5, 3), bf16(b, 2, 7)), "low-rank matrix: part u is 5 x 3, want 2 columns, one for each row of v (2 x 7)"},
		{weight(bf16(b, 5, 0), bf16(b, 0, 7)), "low-rank matrix: part v is empty (0 x 7)"},
		{weight(bf16(b, 0, 2), bf16(b, 2, 7)), "low-rank matrix: part u is empty (0 x 2)"},
		{weight(bf16(b, 5, 5), lr), "low-rank matrix: part v is of kind lowrank, want dense or grouped"},
		{weight(lr, bf16(b, 7, 7)), "low-rank matrix: part u is of kind lowrank, want dense or grouped"},
		{pifa([]int32{1, 0}, bf16(b, 2, 7), bf16(b, 3, 3)), "pivoted factors: part k is 3 x 3, want 2 columns, one for each row of v"},
		{pifa([]int32{1}, bf16(b, 2, 7), bf16(b, 3, 2)), "pivoted factors: part pivots has 1 elements, want one for each of the 2 rows of v"},
		{pifa([]int32{1, 5}, bf16(b, 2, 7), bf16(b, 3, 2)), "pivoted factors: part pivots has 5 at 1, out of the 5 rows or twice"},
		{pifa([]int32{-1, 0}, bf16(b, 2, 7), bf16(b, 3, 2)), "pivoted factors: part pivots has -1 at 0, out of the 5 rows or twice"},
		{pifa([]int32{3, 3}, bf16(b, 2, 7), bf16(b, 3, 2)), "pivoted factors: part pivots has 3 at 1, out of the 5 rows or twice"},
		{pifa(nil, bf16(b, 0, 7), bf16(b, 3, 0)), "pivoted factors: part v is empty (0 x 7)"},
		{pifa([]int32{1, 0, 2, 3, 4}, bf16(b, 5, 7), lr), "pivoted factors: part k is 5 x 7, want 5 columns, one for each row of v"},
		{pifa([]int32{1, 0, 2, 3, 4, 6, 5}, bf16(b, 7, 7), lr), "pivoted factors: part k is of kind lowrank, want dense or grouped"},
		{pifa([]int32{1, 0}, must(lowrank.New(bf16(b, 2, 1), bf16(b, 1, 7)))(t), bf16(b, 3, 2)), "pivoted factors: part v is of kind lowrank, want dense or grouped"},
		{nested(part(2, 5, kernels.F16), part(3, 7, kernels.F16), 1, 1, 1), "nested factors: part ut has 2 rows, want 3 as v has"},
		{nested(part(2, 5, kernels.F16), part(2, 7, kernels.F16), 1), "nested factors: part energy has 1 elements, want one for each of the 2 rows of v"},
		{nested(part(0, 5, kernels.F16), part(0, 7, kernels.F16)), "nested factors: part ut is empty (0 x 5)"},
		{nested(layers.Part{Type: kernels.U8, Rows: 1, Cols: 1}, part(1, 7, kernels.F16), 1), "nested factors: part ut is of type u8, want f32, f16 or bf16"},
		{nested(part(2, 5, kernels.F16), part(2, 7, kernels.F16), 1, nan), "nested factors: part energy has NaN at 1, want a finite number that is not negative"},
		{nested(part(2, 5, kernels.F16), part(2, 7, kernels.F16), inf, 1), "nested factors: part energy has +Inf at 0, want a finite number that is not negative"},
		{nested(part(2, 5, kernels.F16), part(2, 7, kernels.F16), 1, -1), "nested factors: part energy has -1 at 1, want a finite number that is not negative"},
		{func() error { _, err := fine.Truncate(0); return err }, "nested factors: rank 0 of 3"},
		{func() error { _, err := fine.Truncate(4); return err }, "nested factors: rank 4 of 3"},
		{func() error { _, err := layers.NewSum(bf16(b, 5, 7), bf16(b, 7, 5)); return err }, "sum of two matrices: b is 7 x 5, want 5 x 7 as a is"},
	} {
		if err := row.make(); err == nil || err.Error() != row.want {
			t.Errorf("got %v, want %q", err, row.want)
		}
	}
}

// TestFaultNamed names the module, the part and the row of a number that no matrix has, alone and in a group.
func TestFaultNamed(t *testing.T) {
	b := open(t)
	f := kernels.Grouped{Rows: 9, Cols: 40, Bits: 4, Group: 32, ScaleType: kernels.F32}
	good := kindtest.GroupedRows(f, 1)
	bad := b.Must(layers.NewGrouped(f, nil, func(dst layers.GroupedRows, row int) error {
		err := good(dst, row)
		if at := (8-row)*2*4 + 4; at < len(dst.Scales) {
			copy(dst.Scales[at:], kernels.Float32Bytes([]float32{float32(math.NaN())}))
		}
		return err
	}))
	w := must(lowrank.New(bf16(b, 5, 9), bad))(t)
	other := must(lowrank.New(bf16(b, 6, 4), bf16(b, 4, 40)))(t)
	sum := must(layers.NewSum(int4(b, 5, 40), w))(t)
	const value = ": row 8: the scale of group 1 is NaN, want a positive finite number"
	for _, row := range []struct {
		members []layers.Member
		want    string
	}{
		{[]layers.Member{{Name: "q", Weight: w}}, "read q: part v" + value},
		{[]layers.Member{{Name: "k", Weight: other}, {Name: "q", Weight: w}}, "read q: part v" + value},
		{[]layers.Member{{Name: "q", Weight: sum}}, "read q: part b.v" + value},
		{[]layers.Member{{Name: "k", Weight: must(layers.NewSum(int4(b, 6, 40), other))(t)}, {Name: "q", Weight: sum}}, "read q: part b.v" + value},
	} {
		if _, err := layers.BindGroup(b.Arena, b.Stream, "site", row.members...); err == nil || err.Error() != row.want {
			t.Errorf("got %v, want %q", err, row.want)
		}
	}
	if _, err := w.Dense(); err == nil || !strings.Contains(err.Error(), "read weights: part v: row 8") {
		t.Errorf("Dense: got %v", err)
	}
}

// onePass is a stream that adds a product of low rank in the pass of a grouped one.
type onePass struct{ kindtest.Products }

func (p *onePass) GroupedMatMulPlus(y, x kernels.Mat, w kernels.Grouped, z, u kernels.Mat, m kernels.Mode) {
	p.Calls++
	p.Stream.GroupedMatMul(y, x, w, m)
	p.Stream.MatMul(y, z, u, kernels.Add)
}

// A sum of a grouped base and a product takes two verbs where a stream can add in one pass, and gives the same.
func TestSumInOnePass(t *testing.T) {
	const out, in, rank = 19, 40, 6
	b := open(t)
	for _, row := range []struct {
		name  string
		a, b  layers.Weight
		calls int
	}{
		{"grouped and low rank", int4(b, out, in), must(lowrank.New(bf16(b, out, rank), bf16(b, rank, in)))(t), 2},
		{"grouped and a grouped u", int4(b, out, in), must(lowrank.New(int4(b, out, rank), bf16(b, rank, in)))(t), 3},
		{"dense and low rank", bf16(b, out, in), must(lowrank.New(bf16(b, out, rank), bf16(b, rank, in)))(t), 3},
		{"grouped and dense", int4(b, out, in), bf16(b, out, in), 2},
	} {
		l := must(must(layers.NewSum(row.a, row.b))(t).Bind(b.Arena, b.Stream))(t)
		x, want, got := b.Random(3, in), b.Random(3, out), b.Random(3, out)
		for i := range 3 {
			copy(got.Float32s(i), want.Float32s(i))
		}
		p := b.Pass(1 << 10)
		l.Apply(p, want, x, kernels.Add)
		fused := &onePass{kindtest.Products{Stream: p.Stream}}
		p.Stream = fused
		l.Apply(p, got, x, kernels.Add)
		if fused.Calls != row.calls || p.Mark() != 0 {
			t.Errorf("%s: %d products that leave %d elements of scratch, want %d and none", row.name, fused.Calls, p.Mark(), row.calls)
		}
		for i := range 3 {
			for j, v := range got.Float32s(i) {
				if v != want.Float32s(i)[j] {
					t.Fatalf("%s: element (%d, %d) is %v in one pass, want %v", row.name, i, j, v, want.Float32s(i)[j])
				}
			}
		}
	}
}
