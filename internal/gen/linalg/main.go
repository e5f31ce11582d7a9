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

	"eckart/internal/gen/amd64"
)

var isaFlag = flag.String("isa", "", "instruction set: avx512 or avx2")

// An isa is a width of vectors, and the tile of a product that fills its registers.
type isa struct {
	name       string
	lanes      int // of float64
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
	t.tile("tile", double)
	t.tile("tileSingle", single)
	t.rowsBy("dots", "dots", true, false)
	t.rowsBy("axpys", "axpys", false, true)
	t.rowsBy("dotsAxpys", "both", true, true)
	t.narrow()
	t.narrowAcross()
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
	amd64.Text(name+t.name, signature, doc)
}

// A precision is the type of the panels that a product is made of. Its sums become float64 before they are added.
type precision struct {
	name            string
	bytes           int
	load, broadcast func(...operand.Op)
	multiplyAdd     func(...operand.Op)
}

var (
	double = precision{"float64", 8, build.VMOVUPD, build.VBROADCASTSD, build.VFMADD231PD}
	single = precision{"float32", 4, build.VMOVUPS, build.VBROADCASTSS, build.VFMADD231PS}
)

// tile emits the inner loop of the product: every element of the tile has an accumulator, and each step of k adds the
// products of a column of a, one number a row, with a row of b.
func (t isa) tile(name string, p precision) {
	t.text(name, "func(c *float64, stride int, a, b *"+p.name+", k int)", "is tileGeneric with a larger tile.")
	bytes := t.lanes * 8 // of a vector
	c, stride, a, b, k := amd64.Param("c"), amd64.Param("stride"), amd64.Param("a"), amd64.Param("b"), amd64.Param("k")
	build.SHLQ(operand.U8(3), stride)
	// What is to be added to comes while the products are made.
	row, rowBytes := build.GP64(), t.cols*bytes/p.bytes*8
	build.MOVQ(c, row)
	for i := range t.rows {
		for line := 0; line < rowBytes; line += 64 {
			build.PREFETCHT0(operand.Mem{Base: row, Disp: line})
		}
		build.PREFETCHT0(operand.Mem{Base: row, Disp: rowBytes - 1})
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
			p.load(operand.Mem{Base: b, Disp: (n*t.cols + j) * bytes}, bv[j])
		}
		for i := range t.rows {
			av := t.vec()
			p.broadcast(operand.Mem{Base: a, Disp: (n*t.rows + i) * p.bytes}, av)
			for j := range bv {
				p.multiplyAdd(bv[j], av, acc[i*t.cols+j])
			}
		}
	}
	const unroll = 4
	build.Label("steps")
	build.CMPQ(k, operand.U8(unroll))
	build.JLT(operand.LabelRef("last"))
	for n := range unroll {
		step(n)
	}
	build.ADDQ(operand.U32(unroll*t.rows*p.bytes), a)
	build.ADDQ(operand.U32(unroll*t.cols*bytes), b)
	build.SUBQ(operand.U8(unroll), k)
	build.JMP(operand.LabelRef("steps"))
	build.Label("last")
	build.TESTQ(k, k)
	build.JZ(operand.LabelRef("store"))
	step(0)
	build.ADDQ(operand.U32(t.rows*p.bytes), a)
	build.ADDQ(operand.U32(t.cols*bytes), b)
	build.DECQ(k)
	build.JMP(operand.LabelRef("last"))
	build.Label("store")
	for i := range t.rows {
		at := operand.Mem{Base: c}
		for j := range t.cols {
			for _, sum := range t.doubles(acc[i*t.cols+j], p) {
				build.VADDPD(at, sum, sum)
				build.VMOVUPD(sum, at)
				at.Disp += bytes
			}
		}
		if i+1 < t.rows {
			build.ADDQ(stride, c)
		}
	}
	amd64.Return()
}

// doubles returns the numbers of a vector as float64.
func (t isa) doubles(v reg.VecVirtual, p precision) []reg.VecVirtual {
	if p.bytes == 8 {
		return []reg.VecVirtual{v}
	}
	low, high := t.vec(), t.vec()
	if t.lanes == 8 {
		build.VEXTRACTF64X4(operand.U8(1), v, high.AsY())
		build.VCVTPS2PD(v.AsY(), low)
		build.VCVTPS2PD(high.AsY(), high)
	} else {
		build.VEXTRACTF128(operand.U8(1), v, high.AsX())
		build.VCVTPS2PD(v.AsX(), low)
		build.VCVTPS2PD(high.AsX(), high)
	}
	return []reg.VecVirtual{low, high}
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
	a, stride, n := amd64.Param("a"), amd64.Param("stride"), amd64.Param("n")
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
		x, sums = amd64.Param("x"), amd64.Param("sums")
		for i := range sum {
			sum[i][0] = t.zero()
			if sum[i][1] = sum[i][0]; pairs {
				sum[i][1] = t.zero()
			}
		}
	}
	if axpys {
		y, factors = amd64.Param("y"), amd64.Param("factors")
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
	amd64.Return()
}

// narrow emits the rounding of numbers to float32.
func (t isa) narrow() {
	t.text("narrow", "func(dst *float32, src *float64, n int, factor float64)", "sets dst to factor times src, rounded. n is a multiple of 8.")
	dst, src, n := amd64.Param("dst"), amd64.Param("src"), amd64.Param("n")
	factor := t.broadcast("factor")
	build.Label("step")
	build.VMOVUPS(t.rounded(operand.Mem{Base: src}, factor), operand.Mem{Base: dst})
	build.ADDQ(operand.U8(64), src)
	build.ADDQ(operand.U8(32), dst)
	build.SUBQ(operand.U8(8), n)
	build.JNZ(operand.LabelRef("step"))
	amd64.Return()
}

// narrowAcross emits the rounding of numbers to float32 with rows turned into columns.
func (t isa) narrowAcross() {
	t.text("narrowAcross", "func(dst *float32, width int, src *float64, stride, n int, factor float64)",
		"sets dst (n, 8), whose rows lie width apart, to factor times the transpose of src (8, n), whose rows lie stride apart, rounded. n is a multiple of 8.")
	dst, width, src, stride, n := amd64.Param("dst"), amd64.Param("width"), amd64.Param("src"), amd64.Param("stride"), amd64.Param("n")
	factor := t.broadcast("factor")
	build.SHLQ(operand.U8(2), width)
	build.SHLQ(operand.U8(3), stride)
	three, below := build.GP64(), build.GP64()
	build.LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, three)
	build.LEAQ(operand.Mem{Base: src, Index: stride, Scale: 4}, below)
	build.Label("step")
	var rows [8]reg.VecVirtual
	for i := range rows {
		base := src
		if i >= 4 {
			base = below
		}
		rows[i] = t.rounded([4]operand.Mem{
			{Base: base},
			{Base: base, Index: stride, Scale: 1},
			{Base: base, Index: stride, Scale: 2},
			{Base: base, Index: three, Scale: 1},
		}[i%4], factor)
	}
	// Pairs of rows, then four of them, then all eight.
	var pairs, fours [8]reg.VecVirtual
	for i := range 4 {
		pairs[2*i], pairs[2*i+1] = build.YMM(), build.YMM()
		build.VUNPCKLPS(rows[2*i+1], rows[2*i], pairs[2*i])
		build.VUNPCKHPS(rows[2*i+1], rows[2*i], pairs[2*i+1])
	}
	for i := range fours {
		fours[i] = build.YMM()
		half, pair := i/4*4, i%4/2
		if i%2 == 0 {
			build.VUNPCKLPD(pairs[half+2+pair], pairs[half+pair], fours[i])
		} else {
			build.VUNPCKHPD(pairs[half+2+pair], pairs[half+pair], fours[i])
		}
	}
	for i := range 8 {
		column, lanes := build.YMM(), uint8(0x20)
		if i >= 4 {
			lanes = 0x31
		}
		build.VPERM2F128(operand.U8(lanes), fours[4+i%4], fours[i%4], column)
		build.VMOVUPS(column, operand.Mem{Base: dst})
		build.ADDQ(width, dst)
	}
	build.ADDQ(operand.U8(64), src)
	build.ADDQ(operand.U8(64), below)
	build.SUBQ(operand.U8(8), n)
	build.JNZ(operand.LabelRef("step"))
	amd64.Return()
}

// broadcast returns a vector of a parameter of type float64.
func (t isa) broadcast(name string) reg.VecVirtual {
	p, err := build.Param(name).Resolve()
	if err != nil {
		log.Fatalf("generate linalg: %v", err)
	}
	v := t.vec()
	build.VBROADCASTSD(p.Addr, v)
	return v
}

// rounded returns factor times the eight numbers at src in a YMM register of float32.
func (t isa) rounded(src operand.Mem, factor reg.VecVirtual) reg.VecVirtual {
	v := t.vec()
	build.VMULPD(src, factor, v)
	if t.lanes == 8 {
		eight := build.YMM()
		build.VCVTPD2PS(v, eight)
		return eight
	}
	build.VCVTPD2PSY(v, v.AsX())
	high := t.vec()
	build.VMULPD(src.Offset(32), factor, high)
	build.VCVTPD2PSY(high, high.AsX())
	build.VINSERTF128(operand.U8(1), high.AsX(), v, v)
	return v
}
