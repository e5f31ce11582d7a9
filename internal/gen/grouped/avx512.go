package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512vnni multiplies four unsigned bytes by four signed ones and adds them to 32 bits (VPDPBUSD). Codes of 8 bits,
// which lie as signed bytes, become unsigned again. The zero point goes into the sum as a product of 16 bits, by the
// low half of the sum of x, which has room in it.
type avx512vnni struct{}

func (avx512vnni) name() string        { return "AVX512VNNI" }
func (avx512vnni) rows() int           { return 16 }
func (avx512vnni) together() int       { return 4 }
func (avx512vnni) vec() reg.VecVirtual { return build.ZMM() }

func (avx512vnni) constants(bits int) []uint32 {
	if bits == 8 {
		return []uint32{0x80808080}
	}
	return masksOf[bits]
}

var words = map[uint32]operand.Mem{}

func word(v uint32) operand.Mem {
	m, ok := words[v]
	if !ok {
		m = build.GLOBL(fmt.Sprintf("groupedWord%08x", v), build.RODATA|build.NOPTR)
		build.DATA(0, operand.U32(v))
		words[v] = m
	}
	return m
}

func (avx512vnni) constant(v uint32, _ bool) operand.Op {
	r := build.ZMM()
	build.VPBROADCASTD(word(v), r)
	return r
}

func (avx512vnni) copyConstant(c operand.Op, dst reg.VecVirtual) { build.VMOVDQA32(c, dst) }
func (avx512vnni) and(a operand.Op, b, dst reg.VecVirtual)       { build.VPANDD(a, b, dst) }

func (a avx512vnni) flip(v reg.VecVirtual) { build.VPXORD(a.constant(0x80808080, true), v, v) }

func (avx512vnni) merge(mask operand.Op, a, dst reg.VecVirtual) {
	build.VPTERNLOGD(operand.U8(0xf8), mask, a, dst) // dst | a & mask
}

// zeroPoints leaves -z in the low 16 bits of a lane, and nothing above.
func (a avx512vnni) zeroPoints(_ int, z reg.VecVirtual) {
	zero := build.ZMM()
	build.VPXORD(zero, zero, zero)
	build.VPSUBD(z, zero, z)
	build.VPANDD(a.constant(0xffff, false), z, z)
}

func (avx512vnni) symmetric(bits int) uint32 { return -(1 << (bits - 1)) & 0xffff }

func (avx512vnni) codes(p *product, j int) reg.VecVirtual {
	v := build.ZMM()
	build.VPXORD(p.vector(j), p.mask(0x80808080).(reg.VecVirtual), v)
	return v
}

func (avx512vnni) dots(p *product, x reg.GPVirtual, tokens int, codes func(j int) reg.VecVirtual) []reg.VecVirtual {
	dots := make([]reg.VecVirtual, tokens)
	at := func(token, disp int) operand.Mem { return operand.Mem{Base: x, Disp: token*recordBytes + disp} }
	for t := range dots {
		dots[t] = build.ZMM()
		build.VPXORD(dots[t], dots[t], dots[t])
		build.VPDPWSSD_BCST(at(t, sumAt), p.zero, dots[t])
	}
	for _, j := range p.order() {
		c := codes(j)
		for t, dot := range dots {
			build.VPDPBUSD_BCST(at(t, 4*j), c, dot)
		}
	}
	return dots
}

func (avx512vnni) scaled(x reg.GPVirtual, token int, scale reg.VecVirtual) reg.VecVirtual {
	v := build.ZMM()
	build.VMULPS_BCST(operand.Mem{Base: x, Disp: token*recordBytes + scaleAt}, scale, v)
	return v
}
