package main

import (
	"math"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

// exponential computes e^x as 2^n·e^r with |r| <= ln(2)/2 and a polynomial for e^r, the one of Moshier's Cephes library
// (expf.c). Its error is below 1.5 units in the last place where the result is a normal number; a NaN stays one.
type exponential struct {
	low, high, one  reg.VecVirtual
	log2e           reg.VecVirtual
	ln2High, ln2Low reg.VecVirtual
	c               [6]reg.VecVirtual
	memory          operand.Mem
}

var (
	expTable operand.Mem
	table    []float32
)

// prepareExp loads the constants into registers, or leaves the coefficients in memory where registers are few.
func prepareExp(t isa) exponential {
	if expTable.Base == nil {
		table = []float32{
			t.low(), 89, 1, math.Log2E,
			0.693359375, -2.12194440e-4, // ln(2), the first with so few bits that its product with n is exact
			1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
		}
		expTable = build.GLOBL("exponential", build.RODATA|build.NOPTR)
		for i, f := range table {
			build.DATA(i*4, operand.U32(math.Float32bits(f)))
		}
	}
	base := build.GP64()
	build.LEAQ(expTable, base)
	at := 0
	next := func() reg.VecVirtual {
		v := t.vec()
		build.VBROADCASTSS(operand.Mem{Base: base, Disp: at * 4}, v)
		at++
		return v
	}
	e := exponential{low: next(), high: next(), one: next(), log2e: next(), ln2High: next(), ln2Low: next()}
	if t.lanes() == 8 {
		e.memory = operand.Mem{Base: base, Disp: at * 4}
		return e
	}
	for i := range e.c {
		e.c[i] = next()
	}
	return e
}

// of returns e^x in a new register and spoils x, which must be at most high.
func (e exponential) of(t isa, x reg.VecVirtual) reg.VecVirtual {
	coefficient := func(i int) reg.VecVirtual {
		if e.c[i] != nil {
			return e.c[i]
		}
		v, m := t.vec(), e.memory
		m.Disp += i * 4
		build.VBROADCASTSS(m, v)
		return v
	}
	build.VMAXPS(x, e.low, x) // in this order a NaN in x stays
	n, p := t.vec(), t.vec()
	build.VMULPS(e.log2e, x, n)
	t.whole(n, n)
	build.VFNMADD231PS(e.ln2High, n, x)
	build.VFNMADD231PS(e.ln2Low, n, x)
	build.VMOVAPS(coefficient(0), p)
	for i := 1; i < len(e.c); i++ {
		build.VFMADD213PS(coefficient(i), x, p)
	}
	square := t.vec()
	build.VMULPS(x, x, square)
	build.VFMADD213PS(x, square, p)
	build.VADDPS(e.one, p, p)
	t.power(n, p)
	return p
}

// softmax emits a softmaxFunc.
func softmax(t isa) {
	amd64.Text("softmax"+t.name(), "func(s *float32, groups int, state *float32, width int, scale float32)", "is a softmaxFunc.")
	e := prepareExp(t)
	parts := 16 / t.lanes() // vectors that hold 16 scores
	scale := broadcast(t, "scale", 32)
	score := func(at reg.Register, i int) operand.Mem { return operand.Mem{Base: at, Disp: i * t.lanes() * 4} }

	// The largest score.
	s, groups := amd64.Param("s"), amd64.Param("groups")
	largest := t.vec()
	build.VMOVUPS(score(s, 0), largest)
	build.Label("largest")
	for i := range parts {
		v := t.vec()
		build.VMOVUPS(score(s, i), v)
		build.VMAXPS(largest, v, largest)
	}
	build.ADDQ(operand.U8(64), s)
	build.DECQ(groups)
	build.JNZ(operand.LabelRef("largest"))
	x := fold(largest, func(ops ...operand.Op) { build.VMAXPS(ops[0], ops[1], ops[2]) })

	// state is width features, 16 partial sums, the largest score so far.
	state, width := amd64.Param("state"), amd64.Param("width")
	sums := build.GP64()
	build.LEAQ(operand.Mem{Base: state, Index: width, Scale: 4}, sums)
	top := operand.Mem{Base: sums, Disp: 64}
	old := build.XMM()
	build.VMOVSS(top, old)
	build.VMAXSS(x, old, x)
	most := t.vec()
	build.VBROADCASTSS(x, most)
	build.VUCOMISS(x, old)
	build.JE(operand.LabelRef("add"))
	build.VMOVSS(x, top)
	before := t.vec()
	build.VBROADCASTSS(old, before)
	build.VSUBPS(most, before, before)
	build.VMULPS(scale, before, before)
	factor := e.of(t, before)
	// All that was summed so far becomes relative to the new largest score.
	build.ADDQ(operand.U8(16), width)
	build.Label("shrink")
	for i := range parts {
		v := t.vec()
		build.VMULPS(score(state, i), factor, v)
		build.VMOVUPS(v, score(state, i))
	}
	build.ADDQ(operand.U8(64), state)
	build.SUBQ(operand.U8(16), width)
	build.JNZ(operand.LabelRef("shrink"))

	build.Label("add")
	total := make([]reg.VecVirtual, parts)
	for i := range total {
		total[i] = t.vec()
		build.VMOVUPS(score(sums, i), total[i])
	}
	s, groups = amd64.Param("s"), amd64.Param("groups")
	build.Label("power")
	for i := range parts {
		v := t.vec()
		build.VMOVUPS(score(s, i), v)
		build.VSUBPS(most, v, v)
		build.VMULPS(scale, v, v)
		p := e.of(t, v)
		build.VADDPS(p, total[i], total[i])
		build.VMOVUPS(p, score(s, i))
	}
	build.ADDQ(operand.U8(64), s)
	build.DECQ(groups)
	build.JNZ(operand.LabelRef("power"))
	for i := range total {
		build.VMOVUPS(total[i], score(sums, i))
	}
	amd64.Return()
}
