// Command linalg writes the kernels of package internal/linalg, kernels_avx512_amd64.s and kernels_avx2_amd64.s with their
// Go declarations. Run it through go generate.
package main

import (
	"flag"
	"log"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var isaFlag = flag.String("isa", "", "instruction set: avx512 or avx2")

// An isa is a width of vectors of float64, and the tile of a product that fills its registers.
type isa struct {
	name       string
	lanes      int
	rows, cols int // of the tile; cols in vectors
	vec        func() reg.VecVirtual
}

var isas = map[string]isa{
	"avx512": {"AVX512", 8, 8, 3, func() reg.VecVirtual { return build.ZMM() }},
	"avx2":   {"AVX2", 4, 4, 3, func() reg.VecVirtual { return build.YMM() }},
}

func main() {
	flag.Parse()
	t, ok := isas[*isaFlag]
	if !ok {
		log.Fatalf("generate linalg: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	t.tile()
	t.rowsBy("dots", "dots", true, false)
	t.rowsBy("axpys", "axpys", false, true)
	t.rowsBy("dotsAxpys", "both", true, true)
	build.Generate()
}

func (t isa) zero() reg.VecVirtual {
	v := t.vec()
	if t.lanes == 8 {
		build.VPXORQ(v, v, v)
	} else {
		build.VXORPD(v, v, v)
	}
	return v
}

func (t isa) text(name, signature, doc string) {
	build.TEXT(name+t.name, build.NOSPLIT, signature)
	build.Doc(name + t.name + " " + doc)
	build.Pragma("noescape")
}

func param(name string) reg.GPVirtual {
	r := build.GP64()
	build.Load(build.Param(name), r)
	return r
}

// tile emits the inner loop of the product: every element of the tile has an accumulator, and each step of k adds the
// products of a column of a, one number a row, with a row of b.
func (t isa) tile() {
	t.text("tile", "func(c *float64, stride int, a, b *float64, k int)", "is a tileFunc.")
	bytes := t.lanes * 8
	c, stride, a, b, k := param("c"), param("stride"), param("a"), param("b"), param("k")
	build.SHLQ(operand.U8(3), stride)
	// What is to be added to comes while the products are made.
	row := build.GP64()
	build.MOVQ(c, row)
	for i := range t.rows {
		for line := 0; line < t.cols*bytes; line += 64 {
			build.PREFETCHT0(operand.Mem{Base: row, Disp: line})
		}
		build.PREFETCHT0(operand.Mem{Base: row, Disp: t.cols*bytes - 1})
		if i+1 < t.rows {
			build.ADDQ(stride, row)
		}
	}
	acc := make([]reg.VecVirtual, t.rows*t.cols)
	for i := range acc {
		acc[i] = t.zero()
	}
	build.TESTQ(k, k)
	build.JZ(operand.LabelRef("store"))
	step := func(n int) {
		bv := make([]reg.VecVirtual, t.cols)
		for j := range bv {
			bv[j] = t.vec()
			build.VMOVUPD(operand.Mem{Base: b, Disp: (n*t.cols + j) * bytes}, bv[j])
		}
		for i := range t.rows {
			av := t.vec()
			build.VBROADCASTSD(operand.Mem{Base: a, Disp: (n*t.rows + i) * 8}, av)
			for j := range bv {
				build.VFMADD231PD(bv[j], av, acc[i*t.cols+j])
			}
		}
	}
	const unroll = 4
	build.Label("steps")
	build.CMPQ(k, operand.U8(unroll))
	build.JLT(operand.LabelRef("single"))
	for n := range unroll {
		step(n)
	}
	build.ADDQ(operand.U32(unroll*t.rows*8), a)
	build.ADDQ(operand.U32(unroll*t.cols*bytes), b)
	build.SUBQ(operand.U8(unroll), k)
	build.JMP(operand.LabelRef("steps"))
	build.Label("single")
	build.TESTQ(k, k)
	build.JZ(operand.LabelRef("store"))
	step(0)
	build.ADDQ(operand.U32(t.rows*8), a)
	build.ADDQ(operand.U32(t.cols*bytes), b)
	build.DECQ(k)
	build.JMP(operand.LabelRef("single"))
	build.Label("store")
	for i := range t.rows {
		for j := range t.cols {
			at := operand.Mem{Base: c, Disp: j * bytes}
			build.VADDPD(at, acc[i*t.cols+j], acc[i*t.cols+j])
			build.VMOVUPD(acc[i*t.cols+j], at)
		}
		if i+1 < t.rows {
			build.ADDQ(stride, c)
		}
	}
	build.VZEROUPPER()
	build.RET()
}

// rowsBy emits a function that passes once over four rows of a matrix, for their products with a vector, their sum with
// coefficients, or both.
func (t isa) rowsBy(name, doc string, dots, axpys bool) {
	signature, what := "func(a *float64, stride, n int", map[string]string{
		"dots":  "adds to sums[i] the product of row i with x.",
		"axpys": "adds to y the sum of factors[i] times row i.",
		"both":  "adds to sums[i] the product of row i with x, and to y the sum of factors[i] times row i.",
	}[doc]
	if dots {
		signature += ", x *float64, sums *[4]float64"
	}
	if axpys {
		signature += ", y *float64, factors *[4]float64"
	}
	t.text(name, signature+")", what+" n is a multiple of 8.")
	bytes := t.lanes * 8
	a, stride, n := param("a"), param("stride"), param("n")
	build.SHLQ(operand.U8(3), stride)
	three := build.GP64()
	build.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, three)
	at := func(i, disp int) operand.Mem {
		return [4]operand.Mem{
			{Base: a, Disp: disp},
			{Base: a, Index: stride, Scale: 1, Disp: disp},
			{Base: a, Index: stride, Scale: 2, Disp: disp},
			{Base: a, Index: three, Scale: 1, Disp: disp},
		}[i]
	}
	half := 8 / t.lanes          // vectors in a step's eight numbers
	pairs := half == 2 && !axpys // one sum a row for each of them, where there are registers for it
	var x, y, sums, factors reg.GPVirtual
	var sum [4][2]reg.VecVirtual
	var factor [4]reg.VecVirtual
	if dots {
		x, sums = param("x"), param("sums")
		for i := range sum {
			sum[i][0] = t.zero()
			if sum[i][1] = sum[i][0]; pairs {
				sum[i][1] = t.zero()
			}
		}
	}
	if axpys {
		y, factors = param("y"), param("factors")
		for i := range factor {
			factor[i] = t.vec()
			build.VBROADCASTSD(operand.Mem{Base: factors, Disp: i * 8}, factor[i])
		}
	}
	build.Label("step")
	for v := range half {
		var xv, yv reg.VecVirtual
		if dots {
			xv = t.vec()
			build.VMOVUPD(operand.Mem{Base: x, Disp: v * bytes}, xv)
		}
		if axpys {
			yv = t.vec()
			build.VMOVUPD(operand.Mem{Base: y, Disp: v * bytes}, yv)
		}
		for i := range 4 {
			av := t.vec()
			build.VMOVUPD(at(i, v*bytes), av)
			if dots {
				build.VFMADD231PD(xv, av, sum[i][v%2])
			}
			if axpys {
				build.VFMADD231PD(factor[i], av, yv)
			}
		}
		if axpys {
			build.VMOVUPD(yv, operand.Mem{Base: y, Disp: v * bytes})
		}
	}
	build.ADDQ(operand.U8(64), a)
	if dots {
		build.ADDQ(operand.U8(64), x)
	}
	if axpys {
		build.ADDQ(operand.U8(64), y)
	}
	build.SUBQ(operand.U8(8), n)
	build.JNZ(operand.LabelRef("step"))
	if dots {
		for i := range sum {
			if pairs {
				build.VADDPD(sum[i][1], sum[i][0], sum[i][0])
			}
			s := sum[i][0]
			if t.lanes == 8 {
				high := build.YMM()
				build.VEXTRACTF64X4(operand.U8(1), s, high)
				build.VADDPD(high, s.AsY(), s.AsY())
			}
			high := build.XMM()
			build.VEXTRACTF128(operand.U8(1), s.AsY(), high)
			build.VADDPD(high, s.AsX(), s.AsX())
			build.VHADDPD(s.AsX(), s.AsX(), s.AsX())
			to := operand.Mem{Base: sums, Disp: i * 8}
			build.VADDSD(to, s.AsX(), s.AsX())
			build.VMOVSD(s.AsX(), to)
		}
	}
	build.VZEROUPPER()
	build.RET()
}
