// Command matmul writes the dot-product tiles of package kernels/cpu: matmul_avx512_amd64.s and matmul_avx2_amd64.s
// with their Go declarations. Run it through go generate.
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

var isaFlag = flag.String("isa", "", "instruction set: avx512 or avx2")

func main() {
	flag.Parse()
	target, ok := map[string]isa{"avx512": avx512{}, "avx512bf16": avx512bf16{}, "avx2": avx2{}}[*isaFlag]
	if !ok {
		log.Fatalf("generate matmul: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	for _, weight := range target.types() {
		for _, s := range target.shapes() {
			dots(target, weight, s)
		}
	}
	if *isaFlag == "avx512bf16" {
		round()
	} else {
		widen(target, "F16")
		widen(target, "BF16")
	}
	build.Generate()
	if err := encodeDots(flag.Lookup("out").Value.String()); err != nil {
		log.Fatalf("generate matmul: %v", err)
	}
}

// A shape is the extent of a tile: weight rows, a multiple of 4, by tokens.
type shape struct{ rows, tokens int }

// An isa emits what differs between vector widths.
type isa interface {
	name() string
	lanes() int
	types() []string // of weights
	shapes() []shape
	xBytes() int // bytes of an element of x
	vec() reg.VecVirtual
	zero(v reg.VecVirtual)
	// weights loads and widens lanes weights, load a vector of floats; both take the tail's mask instead when tail is set.
	weights(dst reg.VecVirtual, m operand.Mem, weight string, tail bool)
	load(dst reg.VecVirtual, m operand.Mem, tail bool)
	// prepareTail sets the mask for the last r elements and returns how many elements before the row's end the tail's
	// vector starts at.
	prepareTail(r reg.GPVirtual)
	// dot adds products of a and b to dst.
	dot(a, b, dst reg.VecVirtual)
	// sums reduces the accumulators of up to quads() quads to one vector of sums, that of accumulator j of quad i at byte
	// at(i, j).
	quads() int
	sums(quads [][4]reg.VecVirtual) (v reg.VecVirtual, at func(i, j int) int)
	done()
}

// Flags of a tile, which kernels/cpu/matmul.go knows by the same names.
const (
	add      = 1 << iota // to what y holds
	carryIn              // begin with the accumulators in carry
	carryOut             // leave the accumulators in carry, and y as it is
	fetch                // the rows of x that follow, a part with each group
)

// fetchBytes is how much of a row of x comes with each group: depth floats with the groups of packedRows rows.
const fetchBytes = 256

func elementBytes(weight string) int {
	if weight == "F32" {
		return 4
	}
	return 2
}

// dots emits one tile function. For each group of s.rows weight rows it computes their products with s.tokens rows of
// x. Every product has one accumulator of a vector's width that runs along k and is reduced at the end by halves.
//
// Accumulators begin with what a call for the columns before has left in carry, and end there, where flags say so.
//
// The rows of a group lie as many rows apart as there are groups, so that the tile reads s.rows stretches of memory
// from end to end. The processor's own prefetching follows such long streams and needs no help.
func dots(t isa, weight string, s shape) {
	bytes := elementBytes(weight)
	name := fmt.Sprintf("dots%dx%d%s%s", s.rows, s.tokens, weight, t.name())
	amd64.Text(name, "func(y, x *float32, w *byte, carry *float32, yStride, xStride, wStride, k, groups, flags int)",
		fmt.Sprintf("is a tileFunc of %d weight rows, tokens: %d.", s.rows, s.tokens))

	y := amd64.Param("y")
	w := amd64.Param("w")
	left := amd64.Param("groups")
	apart := amd64.Param("wStride")
	build.IMULQ(left, apart)
	wRow := strided(w, apart, s.rows)

	build.Label("group")
	x := amd64.Param("x")
	xRow := strided(x, amd64.Param("xStride"), s.tokens)
	steps := amd64.Param("k")
	build.SHRQ(operand.U8(amd64.Log2(t.lanes())), steps)
	acc := make([]reg.VecVirtual, s.rows*s.tokens)
	for i := range acc {
		acc[i] = t.vec()
	}
	has := func(flag int) {
		build.TESTQ(operand.I32(flag), operand.NewParamAddr("flags", 72))
	}
	accBytes := int(acc[0].Size())
	has(carryIn)
	build.JNZ(operand.LabelRef("resume"))
	for _, a := range acc {
		t.zero(a)
	}
	build.JMP(operand.LabelRef("start"))
	build.Label("resume")
	carried := amd64.Param("carry")
	for i, a := range acc {
		build.VMOVUPS(operand.Mem{Base: carried, Disp: i * accBytes}, a)
	}
	build.Label("start")
	if s.tokens > 1 {
		// Rows of x that come from far away would hold up the first group of the next tile.
		has(fetch)
		build.JZ(operand.LabelRef("fetched"))
		ahead := amd64.Param("groups")
		build.SUBQ(left, ahead)
		build.SHLQ(operand.U8(amd64.Log2(fetchBytes)), ahead)
		build.ADDQ(x, ahead)
		next := amd64.Param("xStride")
		build.IMUL3Q(operand.U8(s.tokens), next, next)
		build.ADDQ(next, ahead)
		for i := range s.tokens {
			for line := 0; line < fetchBytes; line += 64 {
				m := xRow(i)
				m.Base, m.Disp = ahead, line
				build.PREFETCHT1(m)
			}
		}
		build.Label("fetched")
	}
	step := func(tail bool) {
		xv := make([]reg.VecVirtual, s.tokens)
		for i := range xv {
			xv[i] = t.vec()
			t.load(xv[i], xRow(i), tail)
		}
		for r := range s.rows {
			wv := t.vec()
			t.weights(wv, wRow(r), weight, tail)
			for i := range xv {
				t.dot(xv[i], wv, acc[r*s.tokens+i])
			}
		}
	}
	build.TESTQ(steps, steps)
	build.JZ(operand.LabelRef("tail"))
	build.Label("step")
	step(false)
	build.ADDQ(operand.U32(t.lanes()*t.xBytes()), x)
	build.ADDQ(operand.U32(t.lanes()*bytes), w)
	build.DECQ(steps)
	build.JNZ(operand.LabelRef("step"))

	build.Label("tail")
	has(carryOut)
	build.JZ(operand.LabelRef("finish"))
	carry := amd64.Param("carry")
	for i, a := range acc {
		build.VMOVUPS(a, operand.Mem{Base: carry, Disp: i * accBytes})
	}
	build.JMP(operand.LabelRef("next"))
	build.Label("finish")
	rest := amd64.Param("k")
	build.ANDQ(operand.U32(t.lanes()-1), rest)
	build.JZ(operand.LabelRef("reduce"))
	t.prepareTail(rest)
	if _, back := t.(avx2); back {
		// There is no masked load of halves: the vector ends where the row ends, and the mask clears what the steps have had.
		build.LEAQ(operand.Mem{Base: x, Index: rest, Scale: uint8(t.xBytes()), Disp: -t.lanes() * t.xBytes()}, x)
		build.LEAQ(operand.Mem{Base: w, Index: rest, Scale: uint8(bytes), Disp: -t.lanes() * bytes}, w)
	}
	step(true)
	if _, back := t.(avx2); back {
		build.ADDQ(operand.U32(t.lanes()*bytes), w)
		again := amd64.Param("k")
		build.ANDQ(operand.U32(t.lanes()-1), again)
		build.NEGQ(again)
		build.LEAQ(operand.Mem{Base: w, Index: again, Scale: uint8(bytes)}, w)
	}

	build.Label("reduce")
	// The quads (four rows of one token) in the order in which they are stored.
	var all [][4]reg.VecVirtual
	var places []shape // tokens: the token; rows: the first row
	for i := range s.tokens {
		for r := 0; r < s.rows; r += 4 {
			var q [4]reg.VecVirtual
			for j := range q {
				q[j] = acc[(r+j)*s.tokens+i]
			}
			all = append(all, q)
			places = append(places, shape{rows: r, tokens: i})
		}
	}
	// Sums go to their columns by way of the stack: taking them out of a vector one by one keeps the port of shuffles, which
	// multiplies too, as long as half of the reduction.
	spilled := build.AllocLocal((len(all) + t.quads() - 1) / t.quads() * accBytes)
	sums := make([][4]operand.Mem, len(all))
	for from := 0; from < len(all); from += t.quads() {
		some := all[from:min(from+t.quads(), len(all))]
		v, at := t.sums(some)
		m := spilled
		m.Disp += from / t.quads() * accBytes
		build.VMOVUPS(v, m)
		for i := range some {
			for j := range 4 {
				sums[from+i][j] = m
				sums[from+i][j].Disp += at(i, j)
			}
		}
	}
	columns := amd64.Param("groups") // between the group's rows of y
	build.SHLQ(operand.U8(2), columns)
	store := func(onto bool) {
		at := build.GP64()
		build.MOVQ(y, at)
		next := amd64.Param("yStride")
		four := build.GP64() // on by four rows of the group
		build.LEAQ(operand.Mem{Base: columns, Index: columns, Scale: 1}, four)
		build.ADDQ(four, four)
		for i, p := range places {
			to := build.GP64()
			build.MOVQ(at, to)
			if p.rows > 0 {
				build.ADDQ(four, to)
			}
			place := strided(to, columns, 4)
			for j, sum := range sums[i] {
				if onto {
					v := build.XMM()
					build.VMOVSS(sum, v)
					build.VADDSS(place(j), v, v)
					build.VMOVSS(v, place(j))
				} else {
					v := build.GP32()
					build.MOVL(sum, v)
					build.MOVL(v, place(j))
				}
			}
			if p.rows+4 == s.rows {
				build.ADDQ(next, at)
			}
		}
	}
	has(add)
	build.JZ(operand.LabelRef("set"))
	store(true)
	build.JMP(operand.LabelRef("next"))
	build.Label("set")
	store(false)

	build.Label("next")
	build.ADDQ(operand.U8(4), y)
	build.ADDQ(operand.U32(len(acc)*accBytes), operand.NewParamAddr("carry", 24))
	// w stands behind the first row's last whole vector: go back to its start and on to the next row.
	whole := amd64.Param("k")
	build.ANDQ(operand.I32(-t.lanes()), whole)
	build.SHLQ(operand.U8(amd64.Log2(bytes)), whole)
	build.SUBQ(whole, w)
	build.ADDQ(operand.NewParamAddr("wStride", 48), w)
	build.DECQ(left)
	build.JNZ(operand.LabelRef("group"))
	t.done()
	build.RET()
}

// widen emits a function that widens weights.
func widen(t isa, weight string) {
	name := "widen" + weight + t.name()
	amd64.Text(name, "func(dst *float32, src *byte, n int)", "sets n floats, a multiple of 16 and not 0, to the weights at src.")
	dst, src, n := amd64.Param("dst"), amd64.Param("src"), amd64.Param("n")
	build.Label("step")
	for i := 0; i < 16; i += t.lanes() {
		v := t.vec()
		t.weights(v, operand.Mem{Base: src, Disp: i * elementBytes(weight)}, weight, false)
		build.VMOVUPS(v, operand.Mem{Base: dst, Disp: i * 4})
	}
	build.ADDQ(operand.U32(16*elementBytes(weight)), src)
	build.ADDQ(operand.U32(16*4), dst)
	build.SUBQ(operand.U32(16), n)
	build.JNZ(operand.LabelRef("step"))
	t.done()
	build.RET()
}

// strided returns the address of row i in [0, n) for rows that lie stride bytes apart, n at most 8.
func strided(base, stride reg.Register, n int) func(i int) operand.Mem {
	multiple := map[int]reg.Register{1: stride}
	for _, odd := range []int{3, 5, 7} {
		if odd >= n {
			break
		}
		r := build.GP64()
		build.LEAQ(operand.Mem{Base: multiple[odd-2], Index: stride, Scale: 2}, r)
		multiple[odd] = r
	}
	return func(i int) operand.Mem {
		if i == 0 {
			return operand.Mem{Base: base}
		}
		scale := uint8(1)
		for i%2 == 0 {
			i /= 2
			scale *= 2
		}
		return operand.Mem{Base: base, Index: multiple[i], Scale: scale}
	}
}
