package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx2 has 8 lanes and 16 registers; F16C widens halves.
type avx2 struct{}

func (avx2) name() string                 { return "AVX2" }
func (avx2) lanes() int                   { return 8 }
func (avx2) quads() int                   { return 2 }
func (avx2) types() []string              { return []string{"F32", "BF16", "F16"} }
func (avx2) xBytes() int                  { return 4 }
func (avx2) dot(a, b, dst reg.VecVirtual) { build.VFMADD231PS(a, b, dst) }
func (avx2) shapes() []shape {
	return []shape{{8, 1}, {4, 1}, {4, 2}, {4, 3}}
}
func (avx2) vec() reg.VecVirtual   { return build.YMM() }
func (avx2) zero(v reg.VecVirtual) { build.VXORPS(v, v, v) }
func (avx2) done()                 { build.VZEROUPPER() }

// tailMask is where the mask of a tail lies while the tail is worked on: a register would be one too many.
var tailMask operand.Mem

func (avx2) load(dst reg.VecVirtual, m operand.Mem, tail bool) {
	build.VMOVUPS(m, dst)
	if tail {
		build.VANDPS(tailMask, dst, dst)
	}
}

func (avx2) weights(dst reg.VecVirtual, m operand.Mem, weight string, tail bool) {
	switch weight {
	case "F32":
		build.VMOVUPS(m, dst)
	case "BF16":
		build.VPMOVZXWD(m, dst)
		build.VPSLLD(operand.U8(16), dst, dst)
	case "F16":
		build.VCVTPH2PS(m, dst)
	}
	if tail {
		build.VANDPS(tailMask, dst, dst)
	}
}

var masks operand.Mem

// prepareTail points tailMask at a mask of the last r lanes.
func (avx2) prepareTail(r reg.GPVirtual) {
	if masks.Base == nil {
		masks = build.GLOBL("tailMasks", build.RODATA|build.NOPTR)
		for i := range 16 {
			build.DATA(i*4, operand.U32(-(i / 8)))
		}
	}
	at := build.GP64()
	build.LEAQ(masks, at)
	tailMask = operand.Mem{Base: at, Index: r, Scale: 4}
}

func (a avx2) sums(quads [][4]reg.VecVirtual) (reg.VecVirtual, func(i, j int) int) {
	// Lanes i and i+4 of two accumulators at once: each ends in its own 128 bits.
	var rows [4]reg.VecVirtual
	for r := range rows {
		u, v := build.YMM(), build.YMM()
		p, q := quads[0][r], quads[len(quads)-1][r]
		build.VPERM2F128(operand.U8(0x20), q, p, u)
		build.VPERM2F128(operand.U8(0x31), q, p, v)
		build.VADDPS(v, u, u)
		rows[r] = u
	}
	return transposedSums(rows), quadByQuad
}
