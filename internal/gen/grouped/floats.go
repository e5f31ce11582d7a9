package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

// unpackPanel emits an unpackFunc for codes of some bits.
func unpackPanel(t isa, bits int) {
	p := &product{isa: t, bits: bits, masks: map[uint32]operand.Op{}}
	name := fmt.Sprintf("unpack%d%s", bits, p.name())
	amd64.Text(name, "func(dst *float32, w *byte, blocks, groupBlocks, scaleType int, zeros bool)",
		fmt.Sprintf("is an unpackFunc for codes of %d bits.", bits))
	to, left := amd64.Param("dst"), amd64.Param("blocks")
	p.w, p.zeros, p.scale, p.zero = amd64.Param("w"), build.GP64(), p.vec(), p.vec()
	build.MOVBQZX(build.Load(build.Param("zeros"), build.GP8()), p.zeros)
	for _, v := range append(masksOf[bits], 0xff) {
		p.mask(v)
	}

	build.Label("group")
	p.groupScales(func() { build.VPMOVZXBD(operand.Mem{Base: p.w}, p.zero) }, 1<<(bits-1))
	n := p.groupLength(left, 24)
	build.Label("block")
	p.loaded = map[int]reg.VecVirtual{}
	for _, j := range p.order() {
		codes := p.unsigned(j)
		for c := range 4 {
			v := p.vec()
			switch c {
			case 0:
				p.and(p.mask(0xff), codes, v)
			case 3:
				build.VPSRLD(operand.U8(24), codes, v)
			default:
				build.VPSRLD(operand.U8(8*c), codes, v)
				p.and(p.mask(0xff), v, v)
			}
			build.VPSUBD(p.zero, v, v)
			build.VCVTDQ2PS(v, v)
			build.VMULPS(p.scale, v, v)
			build.VMOVUPS(v, operand.Mem{Base: to, Disp: (4*j + c) * p.rows() * 4})
		}
	}
	build.ADDQ(operand.U32(quads*4*p.rows()*4), to)
	p.nextBlock(n)
	build.TESTQ(left, left)
	build.JNZ(operand.LabelRef("group"))
	amd64.Return()
}

// floatTokens is how many tokens go side by side: with four partial sums each, as many as there are registers for.
const floatTokens = 3

// floats emits a floatsFunc.
func floats(t isa) {
	name := "floats" + t.name()
	amd64.Text(name, "func(sums, x, w *float32, tokens, xStride, cols int)", "is a floatsFunc.")
	sums, x, tokens, stride := amd64.Param("sums"), amd64.Param("x"), amd64.Param("tokens"), amd64.Param("xStride")
	bytes := t.rows() * 4
	// step multiplies n tokens, whose labels end in their number.
	step := func(n int) {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, n) }
		w, left := amd64.Param("w"), amd64.Param("cols")
		rows := []reg.GPVirtual{build.GP64()}
		build.MOVQ(x, rows[0])
		for len(rows) < n {
			r := build.GP64()
			build.LEAQ(operand.Mem{Base: rows[len(rows)-1], Index: stride, Scale: 1}, r)
			rows = append(rows, r)
		}
		acc := make([][4]reg.VecVirtual, n)
		for i := range acc {
			for j := range acc[i] {
				acc[i][j] = t.vec()
				build.VXORPS(acc[i][j], acc[i][j], acc[i][j])
			}
		}
		column := func(j int) {
			weights := t.vec()
			build.VMOVUPS(operand.Mem{Base: w, Disp: j * bytes}, weights)
			for i, r := range rows {
				v := t.vec()
				build.VBROADCASTSS(operand.Mem{Base: r, Disp: 4 * j}, v)
				build.VFMADD231PS(v, weights, acc[i][j])
			}
		}
		next := func(columns int) {
			build.ADDQ(operand.U32(columns*bytes), w)
			for _, r := range rows {
				build.ADDQ(operand.U32(columns*4), r)
			}
		}
		build.SUBQ(operand.U32(4), left)
		build.JLT(operand.LabelRef(label("rest")))
		build.Label(label("columns"))
		for j := range 4 {
			column(j)
		}
		next(4)
		build.SUBQ(operand.U32(4), left)
		build.JGE(operand.LabelRef(label("columns")))
		build.Label(label("rest"))
		build.ADDQ(operand.U32(4), left)
		build.JZ(operand.LabelRef(label("sum")))
		build.Label(label("column"))
		column(0)
		next(1)
		build.DECQ(left)
		build.JNZ(operand.LabelRef(label("column")))
		build.Label(label("sum"))
		for i, s := range acc {
			build.VADDPS(s[2], s[0], s[0])
			build.VADDPS(s[3], s[1], s[1])
			build.VADDPS(s[1], s[0], s[0])
			build.VMOVUPS(s[0], operand.Mem{Base: sums, Disp: i * bytes})
			build.ADDQ(stride, x)
		}
		build.ADDQ(operand.U32(n*bytes), sums)
	}
	eachToken(tokens, floatTokens, step)
	amd64.Return()
}
