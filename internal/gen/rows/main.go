// Command rows writes the kernels of package kernels/cpu that work along a row, element by element: rows_avx512_amd64.s
// and rows_avx2_amd64.s with their Go declarations. Run it through go generate.
package main

import (
	"flag"
	"log"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

var isaFlag = flag.String("isa", "", "instruction set: avx512 or avx2")

func main() {
	flag.Parse()
	t, ok := map[string]isa{"avx512": avx512{}, "avx2": avx2{}}[*isaFlag]
	if !ok {
		log.Fatalf("generate rows: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	add(t)
	sumSquares(t)
	normalize(t)
	rotate(t)
	swiGLU(t)
	softmax(t)
	mix(t)
	scaled(t)
	narrowF16(t)
	narrowBF16(t)
	scatter(t, false)
	scatter(t, true)
	build.Generate()
}

// isa is what differs between vector widths.
type isa interface {
	name() string
	lanes() int
	vec() reg.VecVirtual
	zero(v reg.VecVirtual)
	// prepareTail makes a mask of the first r lanes, which loadTail and storeTail use.
	prepareTail(r reg.GPVirtual)
	loadTail(m operand.Mem, v reg.VecVirtual)
	storeTail(v reg.VecVirtual, m operand.Mem)
	// whole rounds x to whole numbers, power sets p to p·2^n.
	whole(x, n reg.VecVirtual)
	power(n, p reg.VecVirtual)
	// low is where the exponential has become 0: below, nothing changes any more.
	low() float32
	// bfloat rounds 16 values at m and stores their upper halves.
	bfloat(from, to operand.Mem)
}

// broadcast fills a vector with a parameter of 32 bits.
func broadcast(t isa, name string, at int) reg.VecVirtual {
	v := t.vec()
	build.VBROADCASTSS(operand.NewParamAddr(name, at), v)
	return v
}

// place loads from and stores to a place, either a whole vector or the tail.
type place struct {
	load  func(base reg.Register, disp int) reg.VecVirtual
	store func(v reg.VecVirtual, base reg.Register, disp int)
}

// along emits a loop over n elements, a vector at a time, then the tail. It advances the pointers.
func along(t isa, prefix string, n reg.GPVirtual, pointers []reg.GPVirtual, body func(p place)) {
	label := func(s string) string { return prefix + s }
	build.SUBQ(operand.U8(t.lanes()), n)
	build.JLT(operand.LabelRef(label("Tail")))
	build.Label(label("Vector"))
	body(place{
		load: func(base reg.Register, disp int) reg.VecVirtual {
			v := t.vec()
			build.VMOVUPS(operand.Mem{Base: base, Disp: disp}, v)
			return v
		},
		store: func(v reg.VecVirtual, base reg.Register, disp int) {
			build.VMOVUPS(v, operand.Mem{Base: base, Disp: disp})
		},
	})
	for _, p := range pointers {
		build.ADDQ(operand.U8(t.lanes()*4), p)
	}
	build.SUBQ(operand.U8(t.lanes()), n)
	build.JGE(operand.LabelRef(label("Vector")))
	build.Label(label("Tail"))
	build.ADDQ(operand.U8(t.lanes()), n)
	build.JZ(operand.LabelRef(label("Done")))
	t.prepareTail(n)
	body(place{
		load: func(base reg.Register, disp int) reg.VecVirtual {
			v := t.vec()
			t.loadTail(operand.Mem{Base: base, Disp: disp}, v)
			return v
		},
		store: func(v reg.VecVirtual, base reg.Register, disp int) {
			t.storeTail(v, operand.Mem{Base: base, Disp: disp})
		},
	})
	build.Label(label("Done"))
}

func add(t isa) {
	amd64.Text("add"+t.name(), "func(y, x *float32, n int)", "computes y += x for n elements.")
	y, x, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("n")
	along(t, "add", n, []reg.GPVirtual{y, x}, func(p place) {
		v := p.load(y, 0)
		build.VADDPS(p.load(x, 0), v, v)
		p.store(v, y, 0)
	})
	amd64.Return()
}

func sumSquares(t isa) {
	amd64.Text("sumSquares"+t.name(), "func(x *float32, n int) float32", "returns the sum of the squares of n elements.")
	x, n := amd64.Param("x"), amd64.Param("n")
	var sums [4]reg.VecVirtual
	for i := range sums {
		sums[i] = t.vec()
		t.zero(sums[i])
	}
	square := func(v, sum reg.VecVirtual) { build.VFMADD231PS(v, v, sum) }
	four := 4 * t.lanes()
	build.SUBQ(operand.U8(four), n)
	build.JLT(operand.LabelRef("few"))
	build.Label("many")
	for i, sum := range sums {
		v := t.vec()
		build.VMOVUPS(operand.Mem{Base: x, Disp: i * t.lanes() * 4}, v)
		square(v, sum)
	}
	build.ADDQ(operand.U32(four*4), x)
	build.SUBQ(operand.U8(four), n)
	build.JGE(operand.LabelRef("many"))
	build.Label("few")
	build.ADDQ(operand.U8(four), n)
	along(t, "few", n, []reg.GPVirtual{x}, func(p place) { square(p.load(x, 0), sums[0]) })
	build.VADDPS(sums[1], sums[0], sums[0])
	build.VADDPS(sums[3], sums[2], sums[2])
	build.VADDPS(sums[2], sums[0], sums[0])
	total := fold(sums[0], build.VADDPS)
	build.Store(total, build.ReturnIndex(0))
	amd64.Return()
}

// fold reduces all lanes of v to the lowest: by halves, lanes i and i+8 first, then i and i+4, and so on.
func fold(v reg.VecVirtual, op func(...operand.Op)) reg.VecVirtual {
	if v.Size() == 64 {
		high := build.YMM()
		build.VEXTRACTF64X4(operand.U8(1), v, high)
		op(high, v.AsY(), high)
		v = high
	}
	x := build.XMM()
	build.VEXTRACTF128(operand.U8(1), v, x)
	op(x, v.AsX(), x)
	other := build.XMM()
	build.VPERMILPS(operand.U8(0b1110), x, other)
	op(other, x, x)
	build.VPERMILPS(operand.U8(1), x, other)
	op(other, x, x)
	return x
}

func normalize(t isa) {
	amd64.Text("normalize"+t.name(), "func(y, x, gain *float32, n int, scale float32)",
		"computes y = x·scale ⊙ gain for n elements.")
	y, x, gain, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("gain"), amd64.Param("n")
	scale := broadcast(t, "scale", 32)
	along(t, "norm", n, []reg.GPVirtual{y, x, gain}, func(p place) {
		v := p.load(x, 0)
		build.VMULPS(scale, v, v)
		build.VMULPS(p.load(gain, 0), v, v)
		p.store(v, y, 0)
	})
	amd64.Return()
}

func rotate(t isa) {
	amd64.Text("rotate"+t.name(), "func(x, angles *float32, half, width, heads int)",
		"turns each of heads, width elements apart: element j is paired with j+half; angles holds half cosines, then half sines.")
	bytes := amd64.Param("half")
	build.SHLQ(operand.U8(2), bytes)
	stride := amd64.Param("width")
	build.SHLQ(operand.U8(2), stride)
	build.Label("head")
	u, cos, n := amd64.Param("x"), amd64.Param("angles"), amd64.Param("half")
	v, sin := build.GP64(), build.GP64()
	build.LEAQ(operand.Mem{Base: u, Index: bytes, Scale: 1}, v)
	build.LEAQ(operand.Mem{Base: cos, Index: bytes, Scale: 1}, sin)
	along(t, "pair", n, []reg.GPVirtual{u, v, cos, sin}, func(p place) {
		a, b, c, s := p.load(u, 0), p.load(v, 0), p.load(cos, 0), p.load(sin, 0)
		x, y := t.vec(), t.vec()
		build.VMULPS(s, b, x)
		build.VFMSUB231PS(a, c, x) // a·c - b·s
		build.VMULPS(s, a, y)
		build.VFMADD231PS(b, c, y) // b·c + a·s
		p.store(x, u, 0)
		p.store(y, v, 0)
	})
	build.ADDQ(stride, operand.NewParamAddr("x", 0))
	build.DECQ(operand.NewParamAddr("heads", 32))
	build.JNZ(operand.LabelRef("head"))
	amd64.Return()
}

func swiGLU(t isa) {
	amd64.Text("swiGLU"+t.name(), "func(y, gate, up *float32, n int)",
		"computes y = gate / (1 + exp(-gate)) ⊙ up for n elements.")
	e := prepareExp(t)
	y, gate, up, n := amd64.Param("y"), amd64.Param("gate"), amd64.Param("up"), amd64.Param("n")
	zero := t.vec()
	t.zero(zero)
	along(t, "silu", n, []reg.GPVirtual{y, gate, up}, func(p place) {
		g, x := p.load(gate, 0), t.vec()
		build.VSUBPS(g, zero, x)
		build.VMINPS(x, e.high, x)
		v := e.of(t, x)
		build.VADDPS(e.one, v, v)
		build.VDIVPS(v, g, v)
		build.VMULPS(p.load(up, 0), v, v)
		p.store(v, y, 0)
	})
	amd64.Return()
}

func mix(t isa) {
	amd64.Text("mix"+t.name(), "func(y, x *float32, n int, a, b float32)", "computes y = y·a + x·b for n elements.")
	y, x, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("n")
	a, b := broadcast(t, "a", 24), broadcast(t, "b", 28)
	along(t, "mix", n, []reg.GPVirtual{y, x}, func(p place) {
		v := p.load(y, 0)
		build.VMULPS(a, v, v)
		build.VFMADD231PS(p.load(x, 0), b, v)
		p.store(v, y, 0)
	})
	amd64.Return()
}

func scaled(t isa) {
	amd64.Text("scaled"+t.name(), "func(y, x *float32, n int, a float32)", "computes y = x·a for n elements.")
	y, x, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("n")
	a := broadcast(t, "a", 24)
	along(t, "scaled", n, []reg.GPVirtual{y, x}, func(p place) {
		v := p.load(x, 0)
		build.VMULPS(a, v, v)
		p.store(v, y, 0)
	})
	amd64.Return()
}

func narrowF16(t isa) {
	amd64.Text("narrowF16"+t.name(), "func(y *uint16, x *float32, n int)", "rounds n elements to F16; n is a multiple of 16.")
	y, x, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("n")
	build.Label("vector")
	v := t.vec()
	build.VMOVUPS(operand.Mem{Base: x}, v)
	half := build.XMM()
	to := operand.Op(half)
	if t.lanes() == 16 {
		y := build.YMM()
		to = y
		build.VCVTPS2PH(operand.U8(0), v, y)
	} else {
		build.VCVTPS2PH(operand.U8(0), v, half)
	}
	build.VMOVUPS(to, operand.Mem{Base: y})
	build.ADDQ(operand.U8(t.lanes()*4), x)
	build.ADDQ(operand.U8(t.lanes()*2), y)
	build.SUBQ(operand.U8(t.lanes()), n)
	build.JNZ(operand.LabelRef("vector"))
	amd64.Return()
}

func narrowBF16(t isa) {
	amd64.Text("narrowBF16"+t.name(), "func(y *uint16, x *float32, n int)", "rounds n elements to BF16; n is a multiple of 16.")
	y, x, n := amd64.Param("y"), amd64.Param("x"), amd64.Param("n")
	build.Label("vector")
	t.bfloat(operand.Mem{Base: x}, operand.Mem{Base: y})
	build.ADDQ(operand.U8(64), x)
	build.ADDQ(operand.U8(32), y)
	build.SUBQ(operand.U8(16), n)
	build.JNZ(operand.LabelRef("vector"))
	amd64.Return()
}

// scatter emits a function that places the elements of a row, or adds them to what is there: one by one, as the loop in
// Go, which takes twice as long. The scattered stores of AVX-512 are hardly faster on Emerald Rapids, and slower elsewhere.
func scatter(t isa, onto bool) {
	name, doc := "scatter", "is a scatterFunc: y[cols[i]] = x[i]."
	if onto {
		name, doc = "scatterAdd", "is a scatterFunc: y[cols[i]] += x[i]."
	}
	amd64.Text(name+t.name(), "func(y, x *float32, cols *int32, n, ahead int)", doc)
	y, x, cols, n, ahead := amd64.Param("y"), amd64.Param("x"), amd64.Param("cols"), amd64.Param("n"), amd64.Param("ahead")
	build.ADDQ(y, ahead)
	place := func(i int) {
		from := operand.Mem{Base: x, Disp: 4 * i}
		col := build.GP64()
		build.MOVL(operand.Mem{Base: cols, Disp: 4 * i}, col.As32())
		to := operand.Mem{Base: y, Index: col, Scale: 4}
		if i%4 == 0 {
			build.PREFETCHT0(operand.Mem{Base: ahead, Index: col, Scale: 4})
		}
		if onto {
			v := build.XMM()
			build.VMOVSS(from, v)
			build.VADDSS(to, v, v)
			build.VMOVSS(v, to)
			return
		}
		v := build.GP32()
		build.MOVL(from, v)
		build.MOVL(v, to)
	}
	loop := func(label string, elements int) {
		build.Label(label)
		for i := range elements {
			place(i)
		}
		build.ADDQ(operand.U8(4*elements), x)
		build.ADDQ(operand.U8(4*elements), cols)
		build.SUBQ(operand.U8(elements), n)
		build.JGE(operand.LabelRef(label))
	}
	const many = 8
	build.SUBQ(operand.U8(many), n)
	build.JLT(operand.LabelRef("rest"))
	loop("many", many)
	build.Label("rest")
	build.ADDQ(operand.U8(many-1), n)
	build.JLT(operand.LabelRef("done"))
	loop("one", 1)
	build.Label("done")
	amd64.Return()
}
