// Command grid writes the kernels of package internal/grid, grid_avx2_amd64.s with its Go declarations. Run it through go
// generate.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

const (
	halves     = 2  // vectors of lanes
	fieldBytes = 64 // of a field of grid.Trial
)

// whole is added to a float32 to round it to a whole number, as grid.whole.
const whole = 3 << 22

func main() {
	build.Constraint(buildtags.Not("purego"))
	trial("trialAVX2", "func(t *float32, x *float32, n int, unit, top float32) int", false)
	trial("trialWeightedAVX2", "func(t *float32, x, hx, h *float32, n int, unit, top float32) int", true)
	encode()
	extremes()
	build.Generate()
}

// fill broadcasts a parameter.
func fill(name string) reg.VecVirtual {
	at, err := build.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := build.YMM()
	build.VBROADCASTSS(at.Addr, v)
	return v
}

// constant broadcasts a number.
func constant(f float32) reg.VecVirtual {
	bits, v := build.GP32(), build.YMM()
	build.MOVL(operand.U32(math.Float32bits(f)), bits)
	build.VMOVD(bits, v.AsX())
	build.VBROADCASTSS(v.AsX(), v)
	return v
}

func zero() reg.VecVirtual {
	v := build.YMM()
	build.VXORPS(v, v, v)
	return v
}

// trial computes Trial.Run with the rounding of the plain version at every step: products and sums are not fused.
func trial(name, signature string, weighted bool) {
	amd64.Text(name, signature, "is Trial.Run for n > 0 numbers.")
	t, x, n := amd64.Param("t"), amd64.Param("x"), amd64.Param("n")
	var hx, h reg.Register
	if weighted {
		hx, h = amd64.Param("hx"), amd64.Param("h")
	}
	field := func(i, half int) operand.Mem { return operand.Mem{Base: t, Disp: i*fieldBytes + half*32} }

	low, high := constant(whole), fill("top")
	build.VADDPS(high, low, high)
	unit := fill("unit")
	var inverse, shift, xc, cc [halves]reg.VecVirtual
	for i := range halves {
		inverse[i], shift[i], xc[i], cc[i] = build.YMM(), build.YMM(), zero(), zero()
		build.VMULPS(field(0, i), unit, inverse[i])
		build.VADDPS(field(1, i), low, shift[i])
	}
	build.Label("number")
	v := build.YMM()
	build.VBROADCASTSS(operand.Mem{Base: x}, v)
	build.ADDQ(operand.Imm(4), x)
	u, g := v, v // hx and h; h is 1 where there is none
	if weighted {
		u, g = build.YMM(), build.YMM()
		build.VBROADCASTSS(operand.Mem{Base: hx}, u)
		build.VBROADCASTSS(operand.Mem{Base: h}, g)
		build.ADDQ(operand.Imm(4), hx)
		build.ADDQ(operand.Imm(4), h)
	}
	for i := range halves {
		c, p := build.YMM(), build.YMM()
		build.VMULPS(inverse[i], v, c)
		build.VADDPS(shift[i], c, c)
		build.VMAXPS(low, c, c)
		build.VMINPS(high, c, c)
		build.VSUBPS(shift[i], c, c)
		build.VMULPS(u, c, p)
		build.VADDPS(p, xc[i], xc[i])
		if weighted {
			build.VMULPS(g, c, p)
			build.VMULPS(p, c, c)
		} else {
			build.VMULPS(c, c, c)
		}
		build.VADDPS(c, cc[i], cc[i])
	}
	build.DECQ(n)
	build.JNZ(operand.LabelRef("number"))

	tiny := constant(0x1p-126)
	var gain [halves]reg.VecVirtual
	for i := range halves {
		gain[i] = build.YMM()
		build.VMAXPS(tiny, cc[i], cc[i])
		build.VDIVPS(cc[i], xc[i], cc[i])
		build.VMOVUPS(cc[i], field(2, i))
		build.VMULPS(cc[i], xc[i], gain[i])
		build.VMOVUPS(gain[i], field(3, i))
	}
	most := build.YMM()
	build.VMAXPS(gain[0], gain[1], most)
	fold(most, build.VMAXPS)
	build.VBROADCASTSS(most.AsX(), most)
	var mask [halves]reg.GPVirtual
	for i := range halves {
		mask[i] = build.GP32()
		build.VCMPPS(operand.Imm(0), gain[i], most, gain[i])
		build.VMOVMSKPS(gain[i], mask[i])
	}
	build.SHLL(operand.Imm(8), mask[1])
	build.ORL(mask[1], mask[0])
	build.ORL(operand.U32(1<<15), mask[0]) // where numbers are no numbers, no lane is the best
	build.BSFL(mask[0], mask[0])
	build.Store(mask[0].As64(), build.ReturnIndex(0))
	amd64.Return()
}

// encode rounds 32 numbers to 32 bytes in each turn: a sum's lowest byte is the code.
func encode() {
	amd64.Text("encodeAVX2", "func(dst *byte, x *float32, n int, inverse, zero, top float32)",
		"is Encode for n > 0 numbers, a multiple of 32.")
	dst, x, n := amd64.Param("dst"), amd64.Param("x"), amd64.Param("n")
	inverse := fill("inverse")
	low, high, shift := constant(whole), fill("top"), fill("zero")
	build.VADDPS(high, low, high)
	build.VADDPS(shift, low, shift)
	// Packing works within halves of 128 bits, so the quads of bytes come out in this order.
	order := build.GLOBL("quads", attr.RODATA|attr.NOPTR)
	for i, q := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		build.DATA(4*i, operand.U32(q))
	}
	quads := build.YMM()
	build.VMOVDQU(order, quads)
	build.Label("numbers")
	var v [4]reg.VecVirtual
	for i := range v {
		v[i] = build.YMM()
		build.VMULPS(operand.Mem{Base: x, Disp: 32 * i}, inverse, v[i])
		build.VADDPS(shift, v[i], v[i])
		build.VMAXPS(low, v[i], v[i])
		build.VMINPS(high, v[i], v[i])
		build.VPSUBD(low, v[i], v[i])
	}
	build.VPACKUSDW(v[1], v[0], v[0])
	build.VPACKUSDW(v[3], v[2], v[2])
	build.VPACKUSWB(v[2], v[0], v[0])
	build.VPERMD(v[0], quads, v[0])
	build.VMOVDQU(v[0], operand.Mem{Base: dst})
	build.ADDQ(operand.U8(128), x)
	build.ADDQ(operand.Imm(32), dst)
	build.SUBQ(operand.Imm(32), n)
	build.JNZ(operand.LabelRef("numbers"))
	amd64.Return()
}

func extremes() {
	amd64.Text("extremesAVX2", "func(x *float32, n int) (lo, hi float32)", "is Extremes for n > 0 numbers, a multiple of 8.")
	x, n := amd64.Param("x"), amd64.Param("n")
	lo, hi := zero(), zero()
	build.Label("eight")
	build.VMINPS(operand.Mem{Base: x}, lo, lo)
	build.VMAXPS(operand.Mem{Base: x}, hi, hi)
	build.ADDQ(operand.Imm(32), x)
	build.SUBQ(operand.Imm(8), n)
	build.JNZ(operand.LabelRef("eight"))
	fold(lo, build.VMINPS)
	fold(hi, build.VMAXPS)
	build.Store(lo.AsX(), build.Return("lo"))
	build.Store(hi.AsX(), build.Return("hi"))
	amd64.Return()
}

// fold reduces the lanes of v to the lowest.
func fold(v reg.VecVirtual, op func(...operand.Op)) {
	other := build.XMM()
	build.VEXTRACTF128(operand.Imm(1), v, other)
	op(other, v.AsX(), v.AsX())
	build.VSHUFPS(operand.Imm(0b1110), v.AsX(), v.AsX(), other)
	op(other, v.AsX(), v.AsX())
	build.VSHUFPS(operand.Imm(1), v.AsX(), v.AsX(), other)
	op(other, v.AsX(), v.AsX())
}
