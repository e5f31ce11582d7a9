package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 has 16 lanes, 32 registers and masks.
type avx512 struct{}

func (avx512) name() string          { return "AVX512" }
func (avx512) lanes() int            { return 16 }
func (avx512) vec() reg.VecVirtual   { return build.ZMM() }
func (avx512) zero(v reg.VecVirtual) { build.VPXORD(v, v, v) }
func (avx512) low() float32          { return -104 }

func (avx512) prepareTail(r reg.GPVirtual) {
	mask := build.GP32()
	build.MOVL(operand.I32(-1), mask)
	build.BZHIL(r.As32(), mask, mask)
	build.KMOVW(mask, reg.K1)
}

func (avx512) loadTail(m operand.Mem, v reg.VecVirtual)  { build.VMOVUPS_Z(m, reg.K1, v) }
func (avx512) storeTail(v reg.VecVirtual, m operand.Mem) { build.VMOVUPS(v, reg.K1, m) }

func (avx512) whole(x, n reg.VecVirtual) { build.VRNDSCALEPS(operand.U8(8), x, n) }
func (avx512) power(n, p reg.VecVirtual) { build.VSCALEFPS(n, p, p) }

func (avx512) bfloat(from, to operand.Mem) {
	v, high, r := build.ZMM(), build.ZMM(), build.ZMM()
	build.VMOVUPS(from, v)
	build.VPSRLD(operand.U8(16), v, high)
	one, half := word(1), word(0x7fff)
	build.VPANDD(one, high, r)
	build.VPADDD(half, r, r)
	build.VPADDD(v, r, r)
	build.VPSRLD(operand.U8(16), r, r)
	build.VCMPPS(operand.U8(3), v, v, reg.K1) // not a number
	build.VPORD(word(0x40), high, reg.K1, r)
	build.VPMOVDW(r, to)
}

// word fills a vector with x.
func word(x uint32) reg.VecVirtual {
	r, v := build.GP32(), build.ZMM()
	build.MOVL(operand.U32(x), r)
	build.VPBROADCASTD(r, v)
	return v
}
