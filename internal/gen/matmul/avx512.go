package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 has 16 lanes, 32 registers and a mask for every load.
type avx512 struct{}

func (avx512) name() string                 { return "AVX512" }
func (avx512) lanes() int                   { return 16 }
func (avx512) quads() int                   { return 4 }
func (avx512) types() []string              { return []string{"F32", "BF16", "F16"} }
func (avx512) xBytes() int                  { return 4 }
func (avx512) dot(a, b, dst reg.VecVirtual) { build.VFMADD231PS(a, b, dst) }
func (avx512) shapes() []shape {
	return []shape{{8, 1}, {8, 2}, {8, 3}, {4, 1}, {4, 2}, {4, 3}, {4, 4}, {4, 5}, {4, 6}}
}
func (avx512) vec() reg.VecVirtual   { return build.ZMM() }
func (avx512) zero(v reg.VecVirtual) { build.VPXORD(v, v, v) }
func (avx512) done()                 { build.VZEROUPPER() }

func (avx512) load(dst reg.VecVirtual, m operand.Mem, tail bool) {
	if tail {
		build.VMOVUPS_Z(m, reg.K1, dst)
		return
	}
	build.VMOVUPS(m, dst)
}

func (a avx512) weights(dst reg.VecVirtual, m operand.Mem, weight string, tail bool) {
	switch weight {
	case "F32":
		a.load(dst, m, tail)
	case "BF16":
		if tail {
			build.VPMOVZXWD_Z(m, reg.K1, dst)
		} else {
			build.VPMOVZXWD(m, dst)
		}
		build.VPSLLD(operand.U8(16), dst, dst)
	case "F16":
		if tail {
			build.VMOVDQU16_Z(m, reg.K1, dst.AsY())
			build.VCVTPH2PS(dst.AsY(), dst)
		} else {
			build.VCVTPH2PS(m, dst)
		}
	}
}

func (avx512) prepareTail(r reg.GPVirtual) {
	mask := build.GP32()
	build.MOVL(operand.I32(-1), mask)
	build.BZHIL(r.As32(), mask, mask)
	build.KMOVW(mask, reg.K1)
}

func (a avx512) sums(quads [][4]reg.VecVirtual) (reg.VecVirtual, func(i, j int) int) {
	// Lanes i and i+8, then i and i+4, of four accumulators at once: each ends in its own 128 bits.
	blocks := func(v [4]reg.VecVirtual) reg.VecVirtual {
		return a.halves(a.halves(v[0], v[1], 0x44, 0xee), a.halves(v[2], v[3], 0x44, 0xee), 0x88, 0xdd)
	}
	var rows [4]reg.VecVirtual
	if len(quads) <= 2 {
		// Two accumulators of each quad in a vector.
		p, q := quads[0], quads[len(quads)-1]
		u := inPairs(blocks([4]reg.VecVirtual{p[0], q[0], p[1], q[1]}), blocks([4]reg.VecVirtual{p[2], q[2], p[3], q[3]}))
		v := build.ZMM()
		build.VPERMILPS(operand.U8(0b01001110), u, v)
		build.VADDPS(v, u, u)
		return u, func(i, j int) int { return (i+j%2*2)*16 + j/2*4 }
	}
	for r := range rows {
		at := func(i int) reg.VecVirtual { return quads[min(i, len(quads)-1)][r] }
		rows[r] = blocks([4]reg.VecVirtual{at(0), at(1), at(2), at(3)})
	}
	return transposedSums(rows), quadByQuad
}

// quadByQuad is where transposedSums leaves the sums of each quad: in 128 bits.
func quadByQuad(i, j int) int { return i*16 + j*4 }

// halves adds what p and q pick from a and b, in blocks of 128 bits.
func (avx512) halves(a, b reg.VecVirtual, p, q uint8) reg.VecVirtual {
	u, v := build.ZMM(), build.ZMM()
	build.VSHUFF64X2(operand.U8(p), b, a, u)
	build.VSHUFF64X2(operand.U8(q), b, a, v)
	build.VADDPS(v, u, u)
	return u
}

// transposedSums reduces the four lanes of every 128 bits, i and i+2 first, and turns four rows into one quad of sums.
func transposedSums(rows [4]reg.VecVirtual) reg.VecVirtual {
	a, b := inPairs(rows[0], rows[1]), inPairs(rows[2], rows[3])
	u, v := like(a), like(a)
	build.VUNPCKLPD(b, a, u)
	build.VUNPCKHPD(b, a, v)
	build.VADDPS(v, u, u)
	return u
}

// inPairs adds lanes i and i+2 of a and b, which lie in turns then.
func inPairs(a, b reg.VecVirtual) reg.VecVirtual {
	u, v := like(a), like(a)
	build.VUNPCKLPS(b, a, u)
	build.VUNPCKHPS(b, a, v)
	build.VADDPS(v, u, u)
	return u
}

func like(v reg.VecVirtual) reg.VecVirtual {
	if v.Size() == 64 {
		return build.ZMM()
	}
	return build.YMM()
}
