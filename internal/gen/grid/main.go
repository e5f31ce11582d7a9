// Command grid writes the kernels of package internal/grid, grid_avx2_amd64.s with its Go declarations. Run it through go
// generate.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	halves     = 2  // vectors of lanes
	fieldBytes = 64 // of a field of grid.Trial
)

// whole is added to a float32 to round it to a whole number, as grid.whole.
const whole = 3 << 22

func main() {
	build.Constraint(buildtags.Not("purego"))
	trial("trialAVX2", "func(t *float32, x *float32, n int, top float32)", false)
	trial("trialWeightedAVX2", "func(t *float32, x, hx, h *float32, n int, top float32)", true)
	extremes()
	build.Generate()
}

// trial computes Trial.Run with the rounding of the plain version at every step: products and sums are not fused.
func trial(name, signature string, weighted bool) {
	build.TEXT(name, build.NOSPLIT, signature)
	build.Doc(name + " is Trial.Run for n > 0 numbers.")
	build.Pragma("noescape")
	pointer := func(name string) reg.Register { return build.Load(build.Param(name), build.GP64()) }
	t, x, n := pointer("t"), pointer("x"), pointer("n")
	var hx, h reg.Register
	if weighted {
		hx, h = pointer("hx"), pointer("h")
	}
	field := func(i, half int) operand.Mem { return operand.Mem{Base: t, Disp: i*fieldBytes + half*32} }

	low, high := build.YMM(), build.YMM()
	bits := build.GP32()
	build.MOVL(operand.U32(math.Float32bits(whole)), bits)
	build.VMOVD(bits, low.AsX())
	build.VBROADCASTSS(low.AsX(), low)
	top, err := build.Param("top").Resolve()
	if err != nil {
		panic(err)
	}
	build.VBROADCASTSS(top.Addr, high)
	build.VADDPS(high, low, high)

	var inverse, shift, xc, cc [halves]reg.VecVirtual
	for i := range halves {
		inverse[i], shift[i], xc[i], cc[i] = build.YMM(), build.YMM(), build.YMM(), build.YMM()
		build.VMOVUPS(field(0, i), inverse[i])
		build.VADDPS(field(1, i), low, shift[i])
		build.VXORPS(xc[i], xc[i], xc[i])
		build.VXORPS(cc[i], cc[i], cc[i])
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
	for i := range halves {
		build.VMOVUPS(xc[i], field(2, i))
		build.VMOVUPS(cc[i], field(3, i))
	}
	build.VZEROUPPER()
	build.RET()
}

func extremes() {
	build.TEXT("extremesAVX2", build.NOSPLIT, "func(x *float32, n int) (lo, hi float32)")
	build.Doc("extremesAVX2 is Extremes for n numbers, a multiple of 8.")
	build.Pragma("noescape")
	x, n := build.Load(build.Param("x"), build.GP64()), build.Load(build.Param("n"), build.GP64())
	lo, hi := build.YMM(), build.YMM()
	build.VXORPS(lo, lo, lo)
	build.VXORPS(hi, hi, hi)
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
	build.VZEROUPPER()
	build.RET()
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
