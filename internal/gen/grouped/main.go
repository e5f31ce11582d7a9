// Command grouped writes the products of package kernels/cpu with grouped matrices: grouped_avx2_amd64.s and
// grouped_avx512vnni_amd64.s with their Go declarations. Run it through go generate.
package main

import (
	"flag"
	"fmt"
	"log"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"eckart/internal/gen/amd64"
)

var isaFlag = flag.String("isa", "", "instruction set: avx2 or avx512vnni")

func main() {
	flag.Parse()
	t, ok := map[string]isa{"avx2": avx2{}, "avx512vnni": avx512vnni{}}[*isaFlag]
	if !ok {
		log.Fatalf("generate grouped: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	for _, bits := range []int{8, 4, 3, 2} {
		(&product{isa: t, bits: bits, one: true}).emit()
		(&product{isa: t, bits: bits}).emit()
	}
	for _, bits := range []int{8, 4, 3, 2} {
		unpackPanel(t, bits)
	}
	floats(t)
	if *isaFlag == "avx2" {
		record()
	}
	build.Generate()
}

const (
	quads = 8 // of a block

	// A record of activations: the bytes of a block, the scale, the sum.
	scaleAt     = 32
	sumAt       = 36
	recordBytes = 40

	// aheadBytes and streamAheadBytes are how far ahead a groupedFunc and each stream of a streamsFunc ask for weights.
	// Measured by BenchmarkGroupedMatMul, as is how many streams there are.
	aheadBytes       = 1536
	streamAheadBytes = 512
)

// An isa emits what differs between vector widths. A vector has a lane of 32 bits for each row of a panel.
type isa interface {
	name() string
	rows() int // of a panel
	vec() reg.VecVirtual
	// constants returns those that the loop needs.
	constants(bits int) []uint32
	// constant returns a vector of v in every lane; scarce says that there are few registers left.
	constant(v uint32, scarce bool) operand.Op
	and(a operand.Op, b, dst reg.VecVirtual)
	// flip turns the highest bit of every byte over.
	flip(v reg.VecVirtual)
	// merge sets dst to dst or a and mask.
	merge(mask operand.Op, a, dst reg.VecVirtual)
	// zeroPoints makes of the zero points z, one in a lane, what correct takes; symmetric is what it is without any.
	zeroPoints(bits int, z reg.VecVirtual)
	symmetric(bits int) uint32
	// codes loads quad j of codes of 8 bits for dot.
	codes(p *product, j int) reg.VecVirtual
	// together is how many tokens go side by side, so that one's sums need not wait for each other.
	together() int
	// dots returns the products of a block, given its codes by quad, with the records of some tokens from x on.
	dots(p *product, x reg.GPVirtual, tokens int, codes func(j int) reg.VecVirtual) []reg.VecVirtual
	// scaled returns scale times the scale of the record of a token from x on.
	scaled(x reg.GPVirtual, token int, scale reg.VecVirtual) reg.VecVirtual
	copyConstant(c operand.Op, dst reg.VecVirtual)
}

// product is a function under construction: for one token a streamsFunc, which multiplies as it unpacks; for many a
// groupedFunc, which unpacks a block once, to registers, and runs along the tokens.
type product struct {
	isa
	bits int
	one  bool

	w           reg.GPVirtual // the block
	zeros       reg.GPVirtual // whether there are zero points
	scale, zero reg.VecVirtual
	masks       map[uint32]operand.Op
	loaded      map[int]reg.VecVirtual // vectors of the block, for one token
}

// mask returns one of the constants of the loop.
func (p *product) mask(v uint32) operand.Op {
	if p.masks[v] == nil {
		p.masks[v] = p.constant(v, !p.one && v != ones)
	}
	return p.masks[v]
}

// masksOf are the masks of unpack by the bits of a code.
var masksOf = map[int][]uint32{4: {0x0f0f0f0f}, 3: {0x03030303, 0x04040404}, 2: {0x03030303}}

// ones is 1 in every 16 bits.
const ones = 0x00010001

// vector returns the address of vector i of the block.
func (p *product) vector(i int) operand.Mem {
	return operand.Mem{Base: p.w, Disp: i * p.rows() * 4}
}

// load returns vector i of the block, which stays in its register.
func (p *product) load(i int) reg.VecVirtual {
	if p.loaded[i] == nil {
		p.loaded[i] = p.vec()
		p.move(p.vector(i), p.loaded[i])
	}
	return p.loaded[i]
}

func (p *product) move(m operand.Mem, v reg.VecVirtual) { build.VMOVUPS(m, v) }

// unpack returns the codes of quad j, as unsigned bytes where they have less than 8 bits.
func (p *product) unpack(j int) reg.VecVirtual {
	v := p.vec()
	switch p.bits {
	case 8:
		return p.isa.codes(p, j)
	case 4:
		from := p.load(j % 4)
		if j >= 4 {
			build.VPSRLW(operand.U8(4), from, v)
			from = v
		}
		p.and(p.mask(0x0f0f0f0f), from, v)
	default:
		from := p.load(j % 2)
		if j >= 2 {
			build.VPSRLW(operand.U8(j/2*2), from, v)
			from = v
		}
		p.and(p.mask(0x03030303), from, v)
		if p.bits == 3 {
			third, t := p.load(2), p.vec()
			switch {
			case j < 2:
				build.VPSLLW(operand.U8(2-j), third, t)
			case j == 2:
				t = third
			default:
				build.VPSRLW(operand.U8(j-2), third, t)
			}
			p.merge(p.mask(0x04040404), t, v)
		}
	}
	return v
}

// unsigned returns the codes of quad j as unsigned bytes whatever their width.
func (p *product) unsigned(j int) reg.VecVirtual {
	if p.bits < 8 {
		return p.unpack(j)
	}
	v := p.vec()
	p.move(p.vector(j), v)
	p.flip(v)
	return v
}

// order is in which order quads are unpacked: those from one vector side by side.
func (p *product) order() []int {
	switch p.bits {
	case 8:
		return []int{0, 1, 2, 3, 4, 5, 6, 7}
	case 4:
		return []int{0, 4, 1, 5, 2, 6, 3, 7}
	}
	return []int{0, 2, 4, 6, 1, 3, 5, 7}
}

func (p *product) blockBytes() int { return p.rows() * 4 * p.bits }

func (p *product) emit() {
	if p.one {
		p.emitStreams()
		return
	}
	name := fmt.Sprintf("products%d%s", p.bits, p.name())
	amd64.Text(name, "func(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool)",
		fmt.Sprintf("is a groupedFunc for codes of %d bits.", p.bits))
	sums, x, left := amd64.Param("sums"), amd64.Param("x"), amd64.Param("blocks")
	p.w = amd64.Param("w")
	p.prepare()
	p.clear(sums, amd64.Param("tokens"))

	build.Label("group")
	p.groupScales(p.loadZeros, p.symmetric(p.bits))
	n := p.groupLength(left, 40)
	build.Label("block")
	p.loaded = map[int]reg.VecVirtual{}
	for i := 0; i < p.blockBytes(); i += 64 {
		build.PREFETCHT0(operand.Mem{Base: p.w, Disp: aheadBytes + i})
	}
	var codes [quads]reg.VecVirtual
	for _, j := range p.order() {
		codes[j] = p.unpack(j)
	}
	to, tokens := build.GP64(), amd64.Param("tokens")
	build.MOVQ(sums, to)
	step := func(n int) {
		for t, dot := range p.dots(p, x, n, func(j int) reg.VecVirtual { return codes[j] }) {
			sum := operand.Mem{Base: to, Disp: t * p.rows() * 4}
			build.VCVTDQ2PS(dot, dot)
			build.VFMADD213PS(sum, p.scaled(x, t, p.scale), dot)
			build.VMOVUPS(dot, sum)
		}
		build.ADDQ(operand.U32(n*recordBytes), x)
		build.ADDQ(operand.U32(n*p.rows()*4), to)
	}
	eachToken(tokens, p.together(), step)
	p.nextBlock(n)
	build.TESTQ(left, left)
	build.JNZ(operand.LabelRef("group"))
	amd64.Return()
}

// emitStreams emits a streamsFunc: a group of every panel, then the next group of every panel.
func (p *product) emitStreams() {
	name := fmt.Sprintf("streams%d%s", p.bits, p.name())
	amd64.Text(name, "func(sums *float32, x, w *byte, panels, apart, blocks, groupBlocks, scaleType int, zeros bool)",
		fmt.Sprintf("is a streamsFunc for codes of %d bits.", p.bits))
	sums, first, left, apart := amd64.Param("sums"), amd64.Param("x"), amd64.Param("blocks"), amd64.Param("apart")
	w, x := amd64.Param("w"), build.GP64()
	p.w = build.GP64()
	p.prepare()
	p.clear(sums, amd64.Param("panels"))
	back := amd64.Param("panels") // from the last panel to the first
	build.DECQ(back)
	build.IMULQ(apart, back)

	build.Label("group")
	length := p.groupLength(left, 48)
	to, panels, from := build.GP64(), amd64.Param("panels"), build.GP64()
	build.MOVQ(sums, to)
	build.MOVQ(w, from)
	build.Label("panel")
	build.MOVQ(from, p.w)
	build.MOVQ(first, x)
	p.groupScales(p.loadZeros, p.symmetric(p.bits))
	sum, n := p.vec(), build.GP64()
	build.VMOVUPS(operand.Mem{Base: to}, sum)
	build.MOVQ(length, n)
	build.Label("block")
	p.loaded = map[int]reg.VecVirtual{}
	for i := 0; i < p.blockBytes(); i += 64 {
		build.PREFETCHT0(operand.Mem{Base: p.w, Disp: streamAheadBytes + i})
	}
	dot := p.dots(p, x, 1, p.unpack)[0]
	build.VCVTDQ2PS(dot, dot)
	build.VFMADD231PS(p.scaled(x, 0, p.scale), dot, sum)
	build.ADDQ(operand.U32(recordBytes), x)
	p.nextBlock(n)
	build.VMOVUPS(sum, operand.Mem{Base: to})
	build.ADDQ(operand.U32(p.rows()*4), to)
	build.ADDQ(apart, from)
	build.DECQ(panels)
	build.JNZ(operand.LabelRef("panel"))
	build.MOVQ(p.w, w)
	build.SUBQ(back, w)
	build.MOVQ(x, first)
	build.TESTQ(left, left)
	build.JNZ(operand.LabelRef("group"))
	amd64.Return()
}

// prepare loads what stays in registers.
func (p *product) prepare() {
	p.masks = map[uint32]operand.Op{}
	p.zeros = build.GP64()
	build.MOVBQZX(build.Load(build.Param("zeros"), build.GP8()), p.zeros)
	p.scale, p.zero = p.vec(), p.vec()
	for _, v := range p.constants(p.bits) {
		p.mask(v)
	}
}

// loadZeros reads the zero points of a group.
func (p *product) loadZeros() {
	build.VPMOVZXBD(operand.Mem{Base: p.w}, p.zero)
	p.zeroPoints(p.bits, p.zero)
}

// clear sets the sums of n tokens or panels to zero.
func (p *product) clear(sums, n reg.GPVirtual) {
	zero, to := p.vec(), build.GP64()
	build.VXORPS(zero, zero, zero)
	build.MOVQ(sums, to)
	build.Label("clear")
	build.VMOVUPS(zero, operand.Mem{Base: to})
	build.ADDQ(operand.U32(p.rows()*4), to)
	build.DECQ(n)
	build.JNZ(operand.LabelRef("clear"))
}

// groupLength returns the blocks of a group, of which left remain; the parameter groupBlocks is at offset.
func (p *product) groupLength(left reg.GPVirtual, offset int) reg.GPVirtual {
	n := build.GP64()
	build.MOVQ(operand.NewParamAddr("groupBlocks", offset), n)
	build.CMPQ(left, n)
	build.CMOVQLT(left, n)
	build.SUBQ(n, left)
	return n
}

// nextBlock goes on to the next block of the group, of which n remain.
func (p *product) nextBlock(n reg.GPVirtual) {
	build.ADDQ(operand.U32(p.blockBytes()), p.w)
	build.DECQ(n)
	build.JNZ(operand.LabelRef("block"))
}

// groupScales reads what stands before the blocks of a group. points reads the zero points, and symmetric stands in
// every lane if there are none.
func (p *product) groupScales(points func(), symmetric uint32) {
	from := operand.Mem{Base: p.w}
	kind := amd64.Param("scaleType")
	build.CMPQ(kind, operand.U8(1))
	build.JEQ(operand.LabelRef("f16"))
	build.JGT(operand.LabelRef("bf16"))
	build.VMOVUPS(from, p.scale)
	build.ADDQ(operand.U32(p.rows()*4), p.w)
	build.JMP(operand.LabelRef("points"))
	build.Label("bf16")
	build.VPMOVZXWD(from, p.scale)
	build.VPSLLD(operand.U8(16), p.scale, p.scale)
	build.ADDQ(operand.U32(p.rows()*2), p.w)
	build.JMP(operand.LabelRef("points"))
	build.Label("f16")
	build.VCVTPH2PS(from, p.scale)
	build.ADDQ(operand.U32(p.rows()*2), p.w)

	build.Label("points")
	build.TESTQ(p.zeros, p.zeros)
	build.JZ(operand.LabelRef("symmetric"))
	points()
	build.ADDQ(operand.U32(p.rows()), p.w)
	build.JMP(operand.LabelRef("scaled"))
	build.Label("symmetric")
	p.copyConstant(p.constant(symmetric, true), p.zero)
	build.Label("scaled")
}

// eachToken counts tokens down to zero and emits the step for so many together, as long as there are so many, and then
// for one.
func eachToken(tokens reg.GPVirtual, together int, step func(n int)) {
	build.SUBQ(operand.U32(together), tokens)
	build.JLT(operand.LabelRef("few"))
	build.Label("tokens")
	step(together)
	build.SUBQ(operand.U32(together), tokens)
	build.JGE(operand.LabelRef("tokens"))
	build.Label("few")
	build.ADDQ(operand.U32(together), tokens)
	build.JZ(operand.LabelRef("done"))
	build.Label("token")
	step(1)
	build.DECQ(tokens)
	build.JNZ(operand.LabelRef("token"))
	build.Label("done")
}
