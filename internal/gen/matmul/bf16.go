package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

// avx512bf16 multiplies pairs of BF16 by pairs of BF16, 32 products an instruction: x is BF16 too.
type avx512bf16 struct{ avx512 }

func (avx512bf16) name() string    { return "AVX512BF16" }
func (avx512bf16) lanes() int      { return 32 }
func (avx512bf16) types() []string { return []string{"BF16"} }
func (avx512bf16) xBytes() int     { return 2 }

func (avx512bf16) load(dst reg.VecVirtual, m operand.Mem, tail bool) {
	if tail {
		build.VMOVDQU16_Z(m, reg.K1, dst)
		return
	}
	build.VMOVUPS(m, dst)
}

func (a avx512bf16) weights(dst reg.VecVirtual, m operand.Mem, _ string, tail bool) {
	a.load(dst, m, tail)
}

func (avx512bf16) prepareTail(r reg.GPVirtual) {
	mask := build.GP32()
	build.MOVL(operand.I32(-1), mask)
	build.BZHIL(r.As32(), mask, mask)
	build.KMOVD(mask, reg.K1)
}

// dot stands for VDPBF16PS, which neither Go's assembler nor avo knows. VPDPWSSD has the same operands; encodeDots puts
// the right one in its place.
func (avx512bf16) dot(a, b, dst reg.VecVirtual) { build.VPDPWSSD(a, b, dst) }

var dotLine = regexp.MustCompile(`VPDPWSSD +Z(\d+), Z(\d+), Z(\d+)`)

// encodeDots spells VDPBF16PS in bytes wherever VPDPWSSD stands in the file. The two differ in one prefix alone:
// EVEX.512.F3.0F38.W0 52 /r and EVEX.512.66.0F38.W0 52 /r.
func encodeDots(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = dotLine.ReplaceAllFunc(text, func(line []byte) []byte {
		var index [3]uint32
		for i, digits := range dotLine.FindSubmatch(line)[1:] {
			n, _ := strconv.Atoi(string(digits))
			index[i] = uint32(n)
		}
		rm, vvvv, dst := index[0], index[1], index[2]
		not := func(r, bit uint32) uint32 { return ^r >> bit & 1 }
		p0 := not(dst, 3)<<7 | not(rm, 4)<<6 | not(rm, 3)<<5 | not(dst, 4)<<4 | 2
		p1 := (^vvvv&15)<<3 | 1<<2 | 2
		p2 := 2<<5 | not(vvvv, 4)<<3
		return fmt.Appendf(nil, "LONG $0x%08x; WORD $0x%04x // VDPBF16PS Z%d, Z%d, Z%d",
			0x62|p0<<8|p1<<16|p2<<24, 0x52|(0xc0|dst&7<<3|rm&7)<<8, rm, vvvv, dst)
	})
	return os.WriteFile(file, text, 0o666)
}

// round emits roundBF16AVX512, which rounds n floats to BF16: to nearest, ties to even, and a NaN stays one.
func round() {
	amd64.Text("roundBF16AVX512", "func(dst *uint16, src *float32, n int)",
		"sets n elements of dst to those of src, as bf16FromFloat32 rounds them.")
	dst, src, n := amd64.Param("dst"), amd64.Param("src"), amd64.Param("n")
	constant := func(c uint32) reg.VecVirtual {
		g, v := build.GP32(), build.ZMM()
		build.MOVL(operand.U32(c), g)
		build.VPBROADCASTD(g, v)
		return v
	}
	half, one, quiet := constant(0x7fff), constant(1), constant(0x400000)
	step := func() reg.VecVirtual {
		f, odd := build.ZMM(), build.ZMM()
		build.VMOVDQU32_Z(operand.Mem{Base: src}, reg.K1, f)
		build.VPSRLD(operand.U8(16), f, odd)
		build.VPANDD(one, odd, odd)
		build.VPADDD(half, odd, odd)
		nan := build.K()
		build.VCMPPS(operand.U8(3), f, f, nan) // unordered with itself
		build.VPADDD(f, odd, odd)
		build.VPORD(quiet, f, nan, odd)
		build.VPSRLD(operand.U8(16), odd, odd)
		return odd
	}
	mask := build.GP32()
	build.MOVL(operand.I32(-1), mask)
	build.KMOVW(mask, reg.K1)
	build.Label("step")
	build.CMPQ(n, operand.U8(16))
	build.JGE(operand.LabelRef("whole"))
	build.TESTQ(n, n)
	build.JZ(operand.LabelRef("done"))
	build.BZHIL(n.As32(), mask, mask)
	build.KMOVW(mask, reg.K1)
	build.MOVQ(operand.U32(16), n)
	build.Label("whole")
	build.VPMOVDW(step(), reg.K1, operand.Mem{Base: dst})
	build.ADDQ(operand.U32(64), src)
	build.ADDQ(operand.U32(32), dst)
	build.SUBQ(operand.U32(16), n)
	build.JMP(operand.LabelRef("step"))
	build.Label("done")
	amd64.Return()
}
