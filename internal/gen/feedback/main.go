// Command feedback writes the kernels of package internal/grid for rounding with feedback, feedback_vector_amd64.s with its
// Go declarations. Run it through go generate.
//
// Products and differences are rounded one by one, as in plain Go: none is fused.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

const (
	side     = 16       // rows and columns of a panel, as grid.Side
	line     = 4 * side // bytes of one of its columns, and of a row of the factor's panel
	whole    = 3 << 22  // is added to a float32 to round it to a whole number, as grid.whole
	scales   = 0        // fields of grid.Grids
	inverses = line
	zeros    = 2 * line
)

func main() {
	build.Constraint(buildtags.Not("purego"))
	spreadAVX512()
	spreadAVX2()
	round()
	build.Generate()
}

func spreadText(isa string) (x, e, u, n reg.GPVirtual) {
	amd64.Text("spread"+isa, "func(x, e, u *float32, n int)", "is Spread for n > 0 columns.")
	return amd64.Param("x"), amd64.Param("e"), amd64.Param("u"), amd64.Param("n")
}

// spreadAVX512 holds the panel in registers, a column in each.
func spreadAVX512() {
	x, e, u, n := spreadText("AVX512")
	var sum [side]reg.VecVirtual
	for c := range sum {
		sum[c] = build.ZMM()
		build.VMOVUPS(operand.Mem{Base: x, Disp: c * line}, sum[c])
	}
	build.Label("column")
	ev := build.ZMM()
	build.VMOVUPS(operand.Mem{Base: e}, ev)
	for c := range sum {
		p := build.ZMM()
		build.VMULPS_BCST(operand.Mem{Base: u, Disp: 4 * c}, ev, p)
		build.VSUBPS(p, sum[c], sum[c])
	}
	build.ADDQ(operand.U8(line), e)
	build.ADDQ(operand.U8(line), u)
	build.DECQ(n)
	build.JNZ(operand.LabelRef("column"))
	for c := range sum {
		build.VMOVUPS(sum[c], operand.Mem{Base: x, Disp: c * line})
	}
	amd64.Return()
}

// spreadAVX2 holds some columns of the panel at a time, each in two registers.
func spreadAVX2() {
	const cols = 4
	x, e, u, n := spreadText("AVX2")
	left := build.GP64()
	build.MOVQ(operand.U32(side/cols), left)
	build.Label("columns")
	var sum [cols][2]reg.VecVirtual
	for c := range sum {
		for h := range sum[c] {
			sum[c][h] = build.YMM()
			build.VMOVUPS(operand.Mem{Base: x, Disp: c*line + 32*h}, sum[c][h])
		}
	}
	ej, uj, j := build.GP64(), build.GP64(), build.GP64()
	build.MOVQ(e, ej)
	build.MOVQ(u, uj)
	build.MOVQ(n, j)
	build.Label("column")
	var ev [2]reg.VecVirtual
	for h := range ev {
		ev[h] = build.YMM()
		build.VMOVUPS(operand.Mem{Base: ej, Disp: 32 * h}, ev[h])
	}
	for c := range sum {
		uv := build.YMM()
		build.VBROADCASTSS(operand.Mem{Base: uj, Disp: 4 * c}, uv)
		for h := range ev {
			p := build.YMM()
			build.VMULPS(uv, ev[h], p)
			build.VSUBPS(p, sum[c][h], sum[c][h])
		}
	}
	build.ADDQ(operand.U8(line), ej)
	build.ADDQ(operand.U8(line), uj)
	build.DECQ(j)
	build.JNZ(operand.LabelRef("column"))
	for c := range sum {
		for h := range sum[c] {
			build.VMOVUPS(sum[c][h], operand.Mem{Base: x, Disp: c*line + 32*h})
		}
	}
	build.ADDQ(operand.U32(cols*line), x)
	build.ADDQ(operand.U8(cols*4), u)
	build.DECQ(left)
	build.JNZ(operand.LabelRef("columns"))
	amd64.Return()
}

// round leaves the panel in memory and goes through its columns one by one, each in two registers. A column waits for the one
// before, so that wider registers are no faster (BenchmarkRoundPanel).
func round() {
	amd64.Text("roundAVX2", "func(codes *byte, x, u, grids *float32, top float32)", "is RoundPanel.")
	codes, x, u, grids := amd64.Param("codes"), amd64.Param("x"), amd64.Param("u"), amd64.Param("grids")
	vec := func() reg.VecVirtual { return build.YMM() }
	bits, low, high := build.GP32(), vec(), vec() // the least and the greatest of the sums that hold codes
	build.MOVL(operand.U32(math.Float32bits(whole)), bits)
	build.VMOVD(bits, low.AsX())
	build.VBROADCASTSS(low.AsX(), low)
	build.VBROADCASTSS(operand.NewParamAddr("top", 32), high)
	build.VADDPS(high, low, high)
	var scale, inverse, shift [2]reg.VecVirtual
	for h := range 2 {
		scale[h], inverse[h], shift[h] = vec(), vec(), vec()
		build.VMOVUPS(operand.Mem{Base: grids, Disp: scales + 32*h}, scale[h])
		build.VMOVUPS(operand.Mem{Base: grids, Disp: inverses + 32*h}, inverse[h])
		build.VADDPS(operand.Mem{Base: grids, Disp: zeros + 32*h}, low, shift[h])
	}
	left := build.GP64() // columns from this one on
	build.MOVQ(operand.U32(side), left)
	build.Label("column")
	divisor := vec()
	build.VBROADCASTSS(operand.Mem{Base: u}, divisor)
	var e [2]reg.VecVirtual
	var words [2]reg.VecVirtual // the codes of eight rows
	for h := range e {
		q, code, above := vec(), vec(), build.XMM()
		e[h], words[h] = vec(), build.XMM()
		build.VMOVUPS(operand.Mem{Base: x, Disp: 32 * h}, e[h])
		build.VMULPS(inverse[h], e[h], q)
		build.VADDPS(shift[h], q, q)
		build.VMAXPS(low, q, q) // low where q is not a number
		build.VMINPS(high, q, q)
		build.VPSUBD(low, q, code)
		build.VEXTRACTI128(operand.U8(1), code, above)
		build.VPACKUSDW(above, code.AsX(), words[h])
		build.VSUBPS(shift[h], q, q)
		build.VMULPS(scale[h], q, q)
		build.VSUBPS(q, e[h], e[h])
		build.VDIVPS(divisor, e[h], e[h])
		build.VMOVUPS(e[h], operand.Mem{Base: x, Disp: 32 * h})
	}
	build.VPACKUSWB(words[1], words[0], words[0])
	build.VMOVDQU(words[0], operand.Mem{Base: codes})
	build.ADDQ(operand.U8(side), codes)
	build.ADDQ(operand.U8(line), x)
	build.DECQ(left)
	build.JZ(operand.LabelRef("done"))
	to, from, n := build.GP64(), build.GP64(), build.GP64()
	build.MOVQ(x, to)
	build.LEAQ(operand.Mem{Base: u, Disp: 4}, from)
	build.MOVQ(left, n)
	build.Label("later")
	uv := vec()
	build.VBROADCASTSS(operand.Mem{Base: from}, uv)
	for h := range e {
		p, v := vec(), vec()
		build.VMULPS(uv, e[h], p)
		build.VMOVUPS(operand.Mem{Base: to, Disp: 32 * h}, v)
		build.VSUBPS(p, v, v)
		build.VMOVUPS(v, operand.Mem{Base: to, Disp: 32 * h})
	}
	build.ADDQ(operand.U8(line), to)
	build.ADDQ(operand.U8(4), from)
	build.DECQ(n)
	build.JNZ(operand.LabelRef("later"))
	build.ADDQ(operand.U8(line+4), u) // down the diagonal
	build.JMP(operand.LabelRef("column"))
	build.Label("done")
	amd64.Return()
}
