package main

import (
	"fmt"

	"eckart/internal/gen/arm64"
)

// What kernels/cpu knows by the same names, or kernels.
const (
	quads       = 8 // of a block
	recordBytes = 40
	scaleAt     = 32 // in a record; the sum follows
	f16         = 1  // scaleType; F32 is 0, BF16 is 2
)

// grouped writes the groupedFuncs for panels of 8 rows, with dot products and without, what rounds activations, and
// what multiplies them as they are.
func grouped(f *arm64.File) {
	for _, dot := range []bool{false, true} {
		for _, bits := range []int{8, 4, 3, 2} {
			(&product{bits: bits, dot: dot, one: true}).write(f)
			(&product{bits: bits, dot: dot}).write(f)
		}
	}
	for _, bits := range []int{8, 4, 3, 2} {
		unpacked(f, bits)
	}
	multiplied(f)
	record(f)
}

// product is a groupedFunc that is being written. A vector has a word for each of four rows, and things come in pairs of
// vectors, for the halves of the panel. For one token a product multiplies as it unpacks and keeps the sums in registers.
// For many it unpacks a block once, to registers, and runs along the tokens, whose sums lie in memory. The weights are
// one stream, which processors fetch ahead by themselves.
type product struct {
	*arm64.Func
	bits     int
	dot, one bool

	w           arm64.X
	scale, zero pair // of the group; zero is the negative of the zero point
	sum         pair
	x           pair    // the bytes of a record
	factors     arm64.V // its scale and sum
	acc         []arm64.V
	short       []arm64.V // without dot products, sums of 16 bits for two quads of codes of 8 bits
	fours       []arm64.V // without dot products, four columns of x for every row; they take turns
	low, third  arm64.V   // masks
	shifted     arm64.V
	raw         []pair // vectors of the block
	codes       []pair // unpacked: every quad for many tokens, or some that take turns
}

type pair [2]arm64.V

func (p *product) pair() pair { return pair{p.V(), p.V()} }

func (p *product) pairs(n int) []pair {
	all := make([]pair, n)
	for i := range all {
		all[i] = p.pair()
	}
	return all
}

// registers hands out the vectors: with many tokens there is hardly one left.
func (p *product) registers() {
	p.scale, p.zero, p.x, p.factors = p.pair(), p.pair(), p.pair(), p.V()
	if p.dot {
		p.acc = p.Vs(2)
	} else {
		p.acc = p.Vs(4)
		p.fours = p.Vs(1)
		if p.bits == 8 {
			p.short = p.Vs(4)
		}
	}
	if p.one || p.bits < 8 || p.dot {
		p.sum = p.pair()
	} else {
		p.sum = pair{p.short[0], p.short[1]}
	}
	if p.bits < 8 {
		p.low = p.V()
	}
	if p.bits == 3 {
		p.third = p.V()
	}
	vectors := p.bits // of a block
	if !p.one {
		// The first quads are unpacked in place. What else it takes is free until the tokens come.
		p.codes = p.pairs(quads)
		p.raw, p.shifted = append(p.raw, p.codes[:min(vectors, quads)]...), p.acc[0]
		if p.bits == 3 {
			p.raw[2] = p.x
		}
		return
	}
	p.raw = p.pairs(min(vectors, 4))
	if p.bits < 8 {
		p.codes = p.pairs(2)
	}
	if p.bits == 3 {
		p.shifted = p.V()
	}
	if !p.dot {
		p.fours = append(p.fours, p.V())
	}
}

func (p *product) write(file *arm64.File) {
	name, doc := fmt.Sprintf("products%dNEON", p.bits), fmt.Sprintf("is a groupedFunc for codes of %d bits.", p.bits)
	if p.one {
		name, doc = fmt.Sprintf("product%dNEON", p.bits), fmt.Sprintf("is a groupedFunc for one token and codes of %d bits.", p.bits)
	}
	if p.dot {
		name += "DotProd"
	}
	params := append(arm64.Params("*float32", "sums"), arm64.Params("*byte", "x", "w")...)
	params = append(params, arm64.Params("int", "tokens", "blocks", "groupBlocks", "scaleType")...)
	params = append(params, arm64.Param{Name: "zeros", Type: "bool"})
	p.Func = file.Func(name, params, "", doc)
	p.registers()
	sums, x, left, scaleType := p.Param("sums"), p.Param("x"), p.Param("blocks"), p.Param("scaleType")
	p.w = p.Param("w")
	zeros, n, to, tokens := p.X(), p.X(), p.X(), p.X()
	p.Go("MOVBU %s, %s", p.Frame("zeros"), zeros)
	p.constants(n)
	for _, v := range p.sum {
		p.Zero(v)
	}
	if !p.one {
		p.Go("MOVD %s, %s", sums, to)
		p.Load("tokens", tokens)
		p.Label("clear")
		p.Go("FSTPQ.P (%s, %s), 32(%s)", p.sum[0].F(), p.sum[1].F(), to)
		p.Go("SUBS $1, %s", tokens)
		p.Go("BNE clear")
	}

	p.Label("group")
	p.group(scaleType, zeros, n)
	p.Load("groupBlocks", n)
	p.Go("CMP %s, %s", n, left)
	p.Go("CSEL LT, %s, %s, %s", left, n, n)
	p.Go("SUB %s, %s", n, left)

	p.Label("block")
	if p.one {
		p.loadRaw(0, len(p.raw))
		p.record(x)
		p.multiply(p.quad)
		p.scaled()
		p.add()
	} else {
		p.loadRaw(0, len(p.raw))
		for j := quads - 1; j >= 0 && p.bits < 8; j-- {
			p.unpack(j, p.codes[j])
		}
		p.Go("MOVD %s, %s", sums, to)
		p.Load("tokens", tokens)
		p.Label("token")
		p.record(x)
		p.multiply(func(j int) pair { return p.codes[j] })
		p.scaled()
		p.Go("FLDPQ (%s), (%s, %s)", to, p.sum[0].F(), p.sum[1].F())
		p.add()
		p.Go("FSTPQ.P (%s, %s), 32(%s)", p.sum[0].F(), p.sum[1].F(), to)
		p.Go("SUBS $1, %s", tokens)
		p.Go("BNE token")
	}
	p.AddBytes(p.bits*32, p.w)
	p.Go("SUBS $1, %s", n)
	p.Go("BNE block")
	p.Go("CBNZ %s, group", left)
	if p.one {
		p.Go("FSTPQ (%s, %s), (%s)", p.sum[0].F(), p.sum[1].F(), sums)
	}
	p.Ret()
}

// constants sets the masks, and the zero points of a matrix that stores none.
func (p *product) constants(scratch arm64.X) {
	switch p.bits {
	case 8: // stored less 128, which is the zero point
		for _, v := range p.zero {
			p.Zero(v)
		}
		return
	case 4:
		p.Go("VMOVI $15, %s", p.low.B16())
	default:
		p.Go("VMOVI $3, %s", p.low.B16())
	}
	if p.bits == 3 {
		p.Go("VMOVI $4, %s", p.third.B16())
	}
	p.Go("MOVD $%d, %s", -(1 << (p.bits - 1)), scratch)
	for _, v := range p.zero {
		p.Go("VDUP %s, %s", scratch, v.S4())
	}
}

// group loads the scales and zero points of a group and moves w on to its blocks.
func (p *product) group(scaleType, zeros, scratch arm64.X) {
	v, from := p.acc[0], p.acc[1]
	p.Go("CBNZ %s, halves", scaleType)
	p.Go("FLDPQ.P 32(%s), (%s, %s)", p.w, p.scale[0].F(), p.scale[1].F())
	p.Go("B zeros")
	p.Label("halves")
	p.Go("FMOVQ.P 16(%s), %s", p.w, v.F())
	p.Go("CMP $%d, %s", f16, scaleType)
	p.Go("BNE bfloats")
	p.FCVTL(p.scale[0], v)
	p.FCVTL2(p.scale[1], v)
	p.Go("B zeros")
	p.Label("bfloats")
	p.SHLL(p.scale[0], v)
	p.SHLL2(p.scale[1], v)
	p.Label("zeros")
	p.Go("CBZ %s, scaled", zeros)
	p.Go("FMOVD.P 8(%s), %s", p.w, v.F())
	p.Go("VUXTL %s.B8, %s", v, v.H8())
	p.Go("VUXTL %s.H4, %s", v, p.zero[0].S4())
	p.Go("VUXTL2 %s, %s", v.H8(), p.zero[1].S4())
	if p.bits == 8 {
		p.Go("MOVD $128, %s", scratch)
		p.Go("VDUP %s, %s", scratch, from.S4())
	} else {
		p.Zero(from)
	}
	for _, z := range p.zero {
		p.Go("VSUB %s, %s, %s", z.S4(), from.S4(), z.S4())
	}
	p.Label("scaled")
}

// loadRaw loads vectors of the block.
func (p *product) loadRaw(from, to int) {
	for i := from; i < to; i++ {
		v := p.raw[i%len(p.raw)]
		p.Go("FLDPQ %d(%s), (%s, %s)", i*32, p.w, v[0].F(), v[1].F())
	}
}

// record loads a record and moves x on.
func (p *product) record(x arm64.X) {
	p.Go("FLDPQ (%s), (%s, %s)", x, p.x[0].F(), p.x[1].F())
	p.Go("FMOVD %d(%s), %s", scaleAt, x, p.factors.F())
	p.AddBytes(recordBytes, x)
}

// quad returns the codes of quad j, for one token. Quads are asked for in order.
func (p *product) quad(j int) pair {
	if p.bits < 8 {
		to := p.codes[j%2]
		p.unpack(j, to)
		return to
	}
	// The quad before this one has been used up.
	if next := j + len(p.raw) - 1; j > 0 && next < quads {
		p.loadRaw(next, next+1)
	}
	return p.raw[j%len(p.raw)]
}

// unpack sets to to the codes of quad j.
func (p *product) unpack(j int, to pair) {
	for h, to := range to {
		if p.bits == 4 {
			if from := p.raw[j%4][h]; j < 4 {
				p.Go("VAND %s, %s, %s", p.low.B16(), from.B16(), to.B16())
			} else {
				p.Go("VUSHR $4, %s, %s", from.B16(), to.B16())
			}
			continue
		}
		from, shift := p.raw[j%2][h], j/2*2
		if shift > 0 {
			p.Go("VUSHR $%d, %s, %s", shift, from.B16(), to.B16())
			from = to
		}
		if shift < 6 {
			p.Go("VAND %s, %s, %s", p.low.B16(), from.B16(), to.B16())
		}
		if p.bits == 3 {
			bit := p.raw[2][h]
			if j < 2 {
				p.Go("VSHL $%d, %s, %s", 2-j, bit.B16(), p.shifted.B16())
				bit = p.shifted
			} else if j > 2 {
				p.Go("VUSHR $%d, %s, %s", j-2, bit.B16(), p.shifted.B16())
				bit = p.shifted
			}
			p.Go("VBIT %s, %s, %s", p.third.B16(), bit.B16(), to.B16())
		}
	}
}

// multiply sets the first two of acc to the products of the block with the record, as F32.
func (p *product) multiply(codes func(j int) pair) {
	if p.dot {
		for h, v := range p.acc {
			p.MULElement(v, p.zero[h], p.factors, 1)
		}
		for j := range quads {
			for h, c := range codes(j) {
				p.SDOTElement(p.acc[h], c, p.x[j/4], j%4)
			}
		}
	} else {
		p.products(codes)
		for h := range 2 {
			p.Go("VADDP %s, %s, %s", p.acc[2*h+1].S4(), p.acc[2*h].S4(), p.acc[h].S4())
			p.MLAElement(p.acc[h], p.zero[h], p.factors, 1)
		}
	}
	for _, v := range p.acc[:2] {
		p.SCVTF(v, v)
	}
}

// products sets acc to the sums of pairs of columns, two rows in a vector. A sum of 16 bits has room for the products of
// eight columns if codes have 4 bits or less, and of two if they have 8: 2·128·127 is below 2^15.
func (p *product) products(codes func(j int) pair) {
	four := func(j int) arm64.V { return p.fours[j%len(p.fours)] }
	spread := func(j int) { p.Go("VDUP %s, %s", p.x[j/4].S(j%4), four(j).S4()) }
	spread(0)
	for j := range quads {
		c := codes(j)
		if next := j + 1; len(p.fours) > 1 && next < quads {
			spread(next)
		} else if len(p.fours) == 1 && j > 0 {
			spread(j)
		}
		to, first := p.acc, j == 0
		if p.bits == 8 {
			to, first = p.short, j%2 == 0
		}
		for h, c := range c {
			if first {
				p.SMULL(to[2*h], c, four(j))
				p.SMULL2(to[2*h+1], c, four(j))
			} else {
				p.SMLAL(to[2*h], c, four(j))
				p.SMLAL2(to[2*h+1], c, four(j))
			}
		}
		if p.bits == 8 && !first {
			for i, v := range p.acc {
				if j == 1 {
					p.SADDLP(v, p.short[i])
				} else {
					p.SADALP(v, p.short[i])
				}
			}
		}
	}
	if p.bits < 8 {
		for _, v := range p.acc {
			p.SADDLP(v, v)
		}
	}
}

// scaled sets x, of which there is no more need, to the products of the scales.
func (p *product) scaled() {
	for h, v := range p.x {
		p.FMULElement(v, p.scale[h], p.factors, 0)
	}
}

// add adds the scaled products to the sums.
func (p *product) add() {
	for h, v := range p.sum {
		p.Go("VFMLA %s, %s, %s", p.acc[h].S4(), p.x[h].S4(), v.S4())
	}
}

// record writes what rounds blocks of activations to records.
func record(file *arm64.File) {
	params := append(arm64.Params("*byte", "dst"), arm64.Params("*float32", "x")...)
	f := file.Func("recordNEON", append(params, arm64.Params("int", "blocks", "stride")...), "",
		"rounds blocks of 32 activations side by side to records that lie stride bytes apart.")
	dst, x, blocks, stride := f.Param("dst"), f.Param("x"), f.Param("blocks"), f.Param("stride")
	bits, limit, tiny := f.X(), f.X(), f.X()
	v, tops := f.Vs(8), f.Vs(8)
	most, top, factor := f.V(), f.V(), f.V()
	f.Go("MOVD $0x7f800000, %s", limit)
	f.Go("MOVD $0x0d800000, %s", tiny) // 2^-100
	f.Go("MOVD $0x42fe0000, %s", bits) // 127
	f.Go("FMOVS %s, %s", bits, most.F())

	f.Label("block")
	for i := 0; i < len(v); i += 2 {
		f.Go("FLDPQ.P 32(%s), (%s, %s)", x, v[i].F(), v[i+1].F())
	}
	// Magnitudes as whole numbers: what is not finite is above all others.
	for i, v := range v {
		f.Go("VSHL $1, %s, %s", v.S4(), tops[i].S4())
	}
	for n := len(tops) / 2; n > 0; n /= 2 {
		for i := range n {
			f.Go("VUMAX %s, %s, %s", tops[i+n].S4(), tops[i].S4(), tops[i].S4())
		}
	}
	f.UMAXV(top, tops[0])
	f.Go("VUSHR $1, %s, %s", top.S4(), top.S4())
	f.Go("FMOVS %s, %s", top.F(), bits)
	f.Go("CMPW %s, %s", limit, bits)
	f.Go("BHS infinite")
	f.Go("CMPW %s, %s", tiny, bits)
	f.Go("BLO tiny")
	f.Go("FDIVS %s, %s, %s", top.F(), most.F(), factor.F())
	f.Go("FDIVS %s, %s, %s", most.F(), top.F(), top.F())
	f.Go("B round")
	f.Label("infinite") // by zero, a number gives zero and the rest NaN, which rounds to zero as well
	f.Go("MOVD $0x7fc00000, %s", bits)
	f.Go("FMOVS %s, %s", bits, top.F())
	f.Zero(factor)
	f.Go("B round")
	f.Label("tiny")
	f.Zero(top)
	f.Zero(factor)

	f.Label("round")
	f.Go("FMOVS %s, %d(%s)", top.F(), scaleAt, dst)
	for _, v := range v {
		f.FMULElement(v, v, factor, 0)
		f.FCVTNS(v, v)
	}
	for i := range tops[:4] {
		f.Go("VADD %s, %s, %s", v[2*i].S4(), v[2*i+1].S4(), tops[i].S4())
		f.Go("VUZP1 %s, %s, %s", v[2*i+1].H8(), v[2*i].H8(), v[2*i].H8())
	}
	for i := range 2 {
		f.Go("VADD %s, %s, %s", tops[i].S4(), tops[i+2].S4(), tops[i].S4())
		f.Go("VUZP1 %s, %s, %s", v[4*i+2].B16(), v[4*i].B16(), v[4*i].B16())
	}
	f.Go("FSTPQ (%s, %s), (%s)", v[0].F(), v[4].F(), dst)
	f.Go("VADD %s, %s, %s", tops[0].S4(), tops[1].S4(), tops[0].S4())
	f.Go("VADDV %s, %s", tops[0].S4(), tops[0])
	f.Go("FMOVS %s, %d(%s)", tops[0].F(), scaleAt+4, dst)
	f.Go("ADD %s, %s", stride, dst)
	f.Go("SUBS $1, %s", blocks)
	f.Go("BNE block")
	f.Ret()
}
