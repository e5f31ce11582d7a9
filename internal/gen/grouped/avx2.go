package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

// avx2 multiplies unsigned bytes by signed ones to pairs of 16 bits (VPMADDUBSW). Pairs of codes of 4 bits or less add
// up over a block without overflow: 8·2·15·127 is below 2^15. Codes of 8 bits are signed, and make way for their
// magnitudes by giving their signs to x; a pair is at most 2·128·127, and is widened at once.
type avx2 struct{}

func (avx2) name() string        { return "AVX2" }
func (avx2) rows() int           { return 8 }
func (avx2) together() int       { return 2 }
func (avx2) vec() reg.VecVirtual { return build.YMM() }

func (avx2) constants(bits int) []uint32 { return append([]uint32{ones}, masksOf[bits]...) }

var globals = map[uint32]operand.Mem{}

func (avx2) constant(v uint32, scarce bool) operand.Op {
	m, ok := globals[v]
	if !ok {
		m = build.GLOBL(fmt.Sprintf("grouped%08x", v), build.RODATA|build.NOPTR)
		for i := range 8 {
			build.DATA(i*4, operand.U32(v))
		}
		globals[v] = m
	}
	if scarce {
		return m
	}
	r := build.YMM()
	build.VMOVUPS(m, r)
	return r
}

func (avx2) copyConstant(c operand.Op, dst reg.VecVirtual) { build.VMOVUPS(c, dst) }
func (avx2) and(a operand.Op, b, dst reg.VecVirtual)       { build.VPAND(a, b, dst) }

func (a avx2) flip(v reg.VecVirtual) { build.VPXOR(a.constant(0x80808080, true), v, v) }

func (avx2) merge(mask operand.Op, a, dst reg.VecVirtual) {
	t := build.YMM()
	build.VPAND(mask, a, t)
	build.VPOR(t, dst, dst)
}

func (a avx2) zeroPoints(bits int, z reg.VecVirtual) {
	if bits == 8 { // codes are stored less 128; only the low 16 bits of a lane count
		build.VPSUBD(a.constant(128, true), z, z)
		build.VPAND(a.constant(0xffff, true), z, z)
	}
}

func (avx2) symmetric(bits int) uint32 {
	if bits == 8 {
		return 0
	}
	return 1 << (bits - 1)
}

// codes returns the magnitudes of quad j.
func (avx2) codes(p *product, j int) reg.VecVirtual {
	v := build.YMM()
	build.VPABSB(p.vector(j), v)
	return v
}

func broadcast(m operand.Mem) reg.VecVirtual {
	v := build.YMM()
	build.VPBROADCASTD(m, v)
	return v
}

func (a avx2) dots(p *product, x reg.GPVirtual, tokens int, codes func(j int) reg.VecVirtual) []reg.VecVirtual {
	at := func(token, disp int) operand.Mem { return operand.Mem{Base: x, Disp: token*recordBytes + disp} }
	wide := p.mask(ones)
	add, widen := build.VPADDW, false
	if p.bits == 8 {
		add, widen = build.VPADDD, true
	}
	partial := make([][4]reg.VecVirtual, tokens) // sums of 1, 2, 4, 8 quads
	for _, j := range p.order() {
		c := codes(j)
		for t := range partial {
			v := broadcast(at(t, 4*j))
			if p.bits == 8 {
				build.VPSIGNB(p.vector(j), v, v)
			}
			build.VPMADDUBSW(v, c, v)
			if widen {
				build.VPMADDWD(wide, v, v)
			}
			if tokens > 1 {
				if partial[t][0] != nil {
					add(v, partial[t][0], partial[t][0])
				} else {
					partial[t][0] = v
				}
				continue
			}
			// A chain of additions would keep the scheduler full.
			level := 0
			for ; partial[t][level] != nil; level++ {
				add(partial[t][level], v, v)
				partial[t][level] = nil
			}
			partial[t][level] = v
		}
	}
	var dots []reg.VecVirtual
	for t := range partial {
		if tokens > 1 {
			dots = append(dots, partial[t][0])
		} else {
			dots = append(dots, partial[t][3])
		}
	}
	for _, dot := range dots {
		if !widen {
			build.VPMADDWD(wide, dot, dot)
		}
	}
	label := fmt.Sprintf("corrected%d", tokens)
	if p.bits == 8 { // symmetric codes are signed already
		build.TESTQ(p.zeros, p.zeros)
		build.JZ(operand.LabelRef(label))
	}
	for t, dot := range dots {
		sum := broadcast(at(t, sumAt))
		build.VPMADDWD(p.zero, sum, sum)
		build.VPSUBD(sum, dot, dot)
	}
	if p.bits == 8 {
		build.Label(label)
	}
	return dots
}

func (avx2) scaled(x reg.GPVirtual, token int, scale reg.VecVirtual) reg.VecVirtual {
	v := build.YMM()
	build.VBROADCASTSS(operand.Mem{Base: x, Disp: token*recordBytes + scaleAt}, v)
	build.VMULPS(scale, v, v)
	return v
}

// record emits recordAVX2, the twin of recordGeneric.
func record() {
	amd64.Text("recordAVX2", "func(dst *byte, x *float32, blocks, stride int)",
		"rounds blocks of activations to records, as recordGeneric does.")
	dst, x, n, stride := amd64.Param("dst"), amd64.Param("x"), amd64.Param("blocks"), amd64.Param("stride")
	a := avx2{}
	magnitude, wide, order := a.constant(0x7fffffff, false).(reg.VecVirtual), a.constant(ones, false), build.YMM()
	bytes := a.constant(0x01010101, false)
	places := build.GLOBL("groupedOrder", build.RODATA|build.NOPTR)
	for i, p := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		build.DATA(i*4, operand.U32(p))
	}
	build.VMOVUPS(places, order)
	c127 := build.GLOBL("grouped127", build.RODATA|build.NOPTR)
	build.DATA(0, operand.F32(127))
	full := build.XMM()
	build.VMOVSS(c127, full)

	build.Label("block")
	var f, top [4]reg.VecVirtual
	for i := range f {
		f[i], top[i] = build.YMM(), build.YMM()
		build.VMOVUPS(operand.Mem{Base: x, Disp: 32 * i}, f[i])
		build.VPAND(magnitude, f[i], top[i])
	}
	// Magnitudes compare as integers, with what is not finite above all others.
	build.VPMAXSD(top[1], top[0], top[0])
	build.VPMAXSD(top[3], top[2], top[2])
	build.VPMAXSD(top[2], top[0], top[0])
	m, t := build.XMM(), build.XMM()
	build.VEXTRACTI128(operand.U8(1), top[0], t)
	build.VPMAXSD(t, top[0].AsX(), m)
	for _, places := range []uint8{0x4e, 0xb1} {
		build.VPSHUFD(operand.U8(places), m, t)
		build.VPMAXSD(t, m, m)
	}
	bits := build.GP32()
	build.VMOVD(m, bits)
	scale := build.XMM()
	build.VDIVSS(full, m, scale) // m/127
	build.CMPL(bits, operand.U32(0x7f800000))
	build.JAE(operand.LabelRef("nan"))
	build.CMPL(bits, operand.U32(0x0d800000)) // 2^-100
	build.JB(operand.LabelRef("tiny"))
	build.VMOVSS(scale, operand.Mem{Base: dst, Disp: scaleAt})
	inverse := build.YMM()
	build.VDIVSS(m, full, m) // 127/m
	build.VBROADCASTSS(m, inverse)
	for i := range f {
		build.VMULPS(inverse, f[i], f[i])
		build.VCVTPS2DQ(f[i], f[i])
	}
	build.VPACKSSDW(f[1], f[0], f[0])
	build.VPACKSSDW(f[3], f[2], f[2])
	build.VPACKSSWB(f[2], f[0], f[0])
	build.VPERMD(f[0], order, f[0])
	build.VMOVUPS(f[0], operand.Mem{Base: dst})
	build.VPMADDUBSW(f[0], bytes.(reg.VecVirtual), f[0])
	build.VPMADDWD(wide, f[0], f[0])
	sum := f[0].AsX()
	build.VEXTRACTI128(operand.U8(1), f[0], t)
	build.VPADDD(t, sum, sum)
	for _, places := range []uint8{0x4e, 0xb1} {
		build.VPSHUFD(operand.U8(places), sum, t)
		build.VPADDD(t, sum, sum)
	}
	build.VMOVD(sum, operand.Mem{Base: dst, Disp: sumAt})

	build.Label("next")
	build.ADDQ(operand.U32(128), x)
	build.ADDQ(stride, dst)
	build.DECQ(n)
	build.JNZ(operand.LabelRef("block"))
	amd64.Return()

	zero := build.YMM()
	build.Label("nan")
	build.MOVL(operand.U32(0x7fc00000), operand.Mem{Base: dst, Disp: scaleAt})
	build.JMP(operand.LabelRef("zero"))
	build.Label("tiny")
	build.MOVL(operand.U32(0), operand.Mem{Base: dst, Disp: scaleAt})
	build.Label("zero")
	build.VPXOR(zero, zero, zero)
	build.VMOVUPS(zero, operand.Mem{Base: dst})
	build.MOVL(operand.U32(0), operand.Mem{Base: dst, Disp: sumAt})
	build.JMP(operand.LabelRef("next"))
}
