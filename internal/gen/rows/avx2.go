package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx2 has 8 lanes and 16 registers.
type avx2 struct{}

func (avx2) name() string          { return "AVX2" }
func (avx2) lanes() int            { return 8 }
func (avx2) vec() reg.VecVirtual   { return build.YMM() }
func (avx2) zero(v reg.VecVirtual) { build.VXORPS(v, v, v) }

// low is where n becomes -127: the exponent bits, and with them the result, are then 0.
func (avx2) low() float32 { return -88.3 }

var (
	tailMask reg.VecVirtual
	masks    operand.Mem
)

func (avx2) prepareTail(r reg.GPVirtual) {
	if masks.Base == nil {
		masks = build.GLOBL("tailMasks", build.RODATA|build.NOPTR)
		for i := range 16 {
			build.DATA(i*4, operand.U32(-(1 - i/8)))
		}
	}
	at := build.GP64()
	build.LEAQ(masks, at)
	build.NEGQ(r)
	tailMask = build.YMM()
	build.VMOVUPS(operand.Mem{Base: at, Index: r, Scale: 4, Disp: 32}, tailMask)
}

func (avx2) loadTail(m operand.Mem, v reg.VecVirtual)  { build.VMASKMOVPS(m, tailMask, v) }
func (avx2) storeTail(v reg.VecVirtual, m operand.Mem) { build.VMASKMOVPS(v, tailMask, m) }

func (avx2) whole(x, n reg.VecVirtual) { build.VROUNDPS(operand.U8(8), x, n) }

func (avx2) power(n, p reg.VecVirtual) {
	i := build.YMM()
	build.VCVTPS2DQ(n, i)
	build.VPADDD(constant(127), i, i)
	build.VPSLLD(operand.U8(23), i, i)
	build.VMULPS(i, p, p)
}

func (avx2) bfloat(from, to operand.Mem) {
	one, half, quiet := constant(1), constant(0x7fff), constant(0x40)
	var halves [2]reg.VecVirtual
	for i := range halves {
		v, high, r, nan := build.YMM(), build.YMM(), build.YMM(), build.YMM()
		m := from
		m.Disp += i * 32
		build.VMOVUPS(m, v)
		build.VPSRLD(operand.U8(16), v, high)
		build.VPAND(one, high, r)
		build.VPADDD(half, r, r)
		build.VPADDD(v, r, r)
		build.VPSRLD(operand.U8(16), r, r)
		build.VCMPPS(operand.U8(3), v, v, nan)
		build.VPOR(quiet, high, high)
		build.VPBLENDVB(nan, high, r, r)
		halves[i] = r
	}
	packed := build.YMM()
	build.VPACKUSDW(halves[1], halves[0], packed)
	build.VPERMQ(operand.U8(0b11011000), packed, packed)
	build.VMOVUPS(packed, to)
}

// constants are whole numbers in memory, by value.
var constants = map[uint32]operand.Mem{}

// constant fills a vector with x.
func constant(x uint32) reg.VecVirtual {
	m, ok := constants[x]
	if !ok {
		m = build.GLOBL(map[uint32]string{1: "one", 0x7fff: "half", 0x40: "quiet", 127: "bias"}[x], build.RODATA|build.NOPTR)
		build.DATA(0, operand.U32(x))
		constants[x] = m
	}
	v := build.YMM()
	build.VPBROADCASTD(m, v)
	return v
}
