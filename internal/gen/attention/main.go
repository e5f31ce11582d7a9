// Command attention writes the inner products of attention for package kernels/cpu: attention_avx512_amd64.s and
// attention_avx2_amd64.s with their Go declarations. Run it through go generate.
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

// What kernels/cpu/attention.go knows by the same names.
const (
	tileTokens  = 128
	groupTokens = 64
	chunkTokens = 16
	maxQueries  = 6
	fewQueries  = 4
)

var isaFlag = flag.String("isa", "", "instruction set: avx512 or avx2")

func main() {
	flag.Parse()
	target, ok := map[string]isa{
		"avx512": {name: "AVX512", lanes: 16, vec: func() reg.VecVirtual { return build.ZMM() }},
		"avx2":   {name: "AVX2", lanes: 8, vec: func() reg.VecVirtual { return build.YMM() }},
	}[*isaFlag]
	if !ok {
		log.Fatalf("generate attention: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	for _, cache := range []string{"F32", "F16", "BF16"} {
		for queries := 1; queries <= maxQueries; queries++ {
			scores(target, cache, queries)
		}
		for queries := 1; queries <= maxQueries; queries++ {
			values(target, cache, queries)
		}
	}
	build.Generate()
}

// isa is a vector width.
type isa struct {
	name  string
	lanes int
	vec   func() reg.VecVirtual
}

// most returns how many vectors of keys or values fit into the registers beside as many sums for each query.
func (t isa) most(queries int) int {
	if t.lanes == 8 && queries > 3 {
		return 2
	}
	return 4
}

func (t isa) zero(v reg.VecVirtual) {
	if t.lanes == 16 {
		build.VPXORD(v, v, v)
	} else {
		build.VXORPS(v, v, v)
	}
}

// load widens the next vector of the cache.
func (t isa) load(cache string, m operand.Mem, v reg.VecVirtual) {
	switch cache {
	case "F32":
		build.VMOVUPS(m, v)
	case "F16":
		build.VCVTPH2PS(m, v)
	case "BF16":
		build.VPMOVZXWD(m, v)
		build.VPSLLD(operand.U8(16), v, v)
	}
}

func elementBytes(cache string) int {
	if cache == "F32" {
		return 4
	}
	return 2
}

// multiply adds to sums (queries by vectors) the products of one scalar of each query with vectors of the cache. The
// fewer of the two stay in registers.
func (t isa) multiply(cache string, sums [][]reg.VecVirtual, scalar func(query int) operand.Mem, vector func(i int) operand.Mem) {
	if n := len(sums[0]); len(sums) < n {
		scalars := make([]reg.VecVirtual, len(sums))
		for q := range scalars {
			scalars[q] = t.vec()
			build.VBROADCASTSS(scalar(q), scalars[q])
		}
		for i := range n {
			v := t.vec()
			t.load(cache, vector(i), v)
			for q := range sums {
				build.VFMADD231PS(v, scalars[q], sums[q][i])
			}
		}
		return
	}
	vectors := make([]reg.VecVirtual, len(sums[0]))
	for i := range vectors {
		vectors[i] = t.vec()
		t.load(cache, vector(i), vectors[i])
	}
	for q := range sums {
		s := t.vec()
		build.VBROADCASTSS(scalar(q), s)
		for i, v := range vectors {
			build.VFMADD231PS(v, s, sums[q][i])
		}
	}
}

// scores emits a scoresFunc. A score is one chain of multiply-adds along the features.
func scores(t isa, cache string, queries int) {
	name := fmt.Sprintf("scores%d%s%s", queries, cache, t.name)
	amd64.Text(name, "func(s, q *float32, rows *int, k *byte, chunks, ahead *int, groups, dim int)",
		fmt.Sprintf("is a scoresFunc of %d queries.", queries))
	perChunk := chunkTokens / t.lanes
	chunks := t.most(queries) / perChunk // of a pass
	// What the inner loop does not need stays in the frame.
	frame := func(name string, at int) operand.Mem { return operand.NewParamAddr(name, at) }
	build.SHLQ(operand.U8(2), frame("dim", 56))
	if passes := groupTokens / chunkTokens / chunks; passes > 1 {
		build.SHLQ(operand.U8(amd64.Log2(passes)), frame("groups", 48))
	}
	offsets := amd64.Param("rows")
	row := make([]reg.GPVirtual, queries)
	for i := range row {
		row[i] = amd64.Param("q")
		build.ADDQ(operand.Mem{Base: offsets, Disp: i * 8}, row[i])
	}

	build.Label("pass")
	key := make([]reg.GPVirtual, chunks)
	var ahead []reg.GPVirtual
	now, later := amd64.Param("chunks"), amd64.Param("ahead")
	for i := range key {
		key[i] = amd64.Param("k")
		if queries <= fewQueries {
			ahead = append(ahead, build.GP64())
			build.MOVQ(key[i], ahead[i])
			build.ADDQ(operand.Mem{Base: later, Disp: i * 8}, ahead[i])
		}
		build.ADDQ(operand.Mem{Base: now, Disp: i * 8}, key[i])
	}
	sums := t.sums(queries, t.most(queries), t.zero)
	feature, at := build.GP64(), build.GP64()
	build.XORQ(feature, feature)
	build.XORQ(at, at)
	build.Label("feature")
	bytes := elementBytes(cache)
	t.multiply(cache, sums,
		func(q int) operand.Mem { return operand.Mem{Base: row[q], Index: feature, Scale: 1} },
		func(i int) operand.Mem {
			return operand.Mem{Base: key[i/perChunk], Index: at, Scale: 1, Disp: i % perChunk * t.lanes * bytes}
		})
	// Into the second-level cache: the first level tracks too few lines on their way (BenchmarkAttend).
	for i := range ahead {
		build.PREFETCHT1(operand.Mem{Base: ahead[i], Index: at, Scale: 1})
	}
	build.ADDQ(operand.U32(chunkTokens*bytes), at)
	build.ADDQ(operand.U8(4), feature)
	build.CMPQ(feature, frame("dim", 56))
	build.JLT(operand.LabelRef("feature"))

	s := amd64.Param("s")
	for q := range sums {
		for i, v := range sums[q] {
			build.VMOVUPS(v, operand.Mem{Base: s, Disp: q*tileTokens*4 + i*t.lanes*4})
		}
	}
	build.ADDQ(operand.U32(chunks*chunkTokens*4), frame("s", 0))
	build.ADDQ(operand.U32(chunks*8), frame("chunks", 32))
	build.ADDQ(operand.U32(chunks*8), frame("ahead", 40))
	build.DECQ(frame("groups", 48))
	build.JNZ(operand.LabelRef("pass"))
	amd64.Return()
}

// values emits a valuesFunc. A feature of a result is one chain of multiply-adds along the tokens.
func values(t isa, cache string, queries int) {
	name := fmt.Sprintf("values%d%s%s", queries, cache, t.name)
	amd64.Text(name, "func(y *float32, stride int, p *float32, v *byte, chunks, ahead *int, from, to, width int)",
		fmt.Sprintf("is a valuesFunc of %d queries.", queries))
	frame := func(name string, at int) operand.Mem { return operand.NewParamAddr(name, at) }
	bytes := elementBytes(cache)
	tokenBytes := amd64.Param("width")
	build.SHLQ(operand.U8(amd64.Log2(bytes)), tokenBytes)
	for n := t.most(queries); n*t.lanes >= chunkTokens; n /= 2 {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, n*t.lanes) }
		build.Label(label("features"))
		build.CMPQ(frame("width", 64), operand.U32(n*t.lanes))
		build.JLT(operand.LabelRef(label("done")))
		sums := t.sums(queries, n, func(reg.VecVirtual) {})
		t.each(sums, func(m operand.Mem, v reg.VecVirtual) { build.VMOVUPS(m, v) })
		token := amd64.Param("from")

		build.Label(label("chunk"))
		value, count, p := build.GP64(), build.GP64(), build.GP64()
		build.MOVQ(token, count)
		build.SHRQ(operand.U8(amd64.Log2(chunkTokens)), count)
		build.Load(build.Param("chunks"), value)
		build.MOVQ(operand.Mem{Base: value, Index: count, Scale: 8}, value)
		build.ADDQ(frame("v", 24), value)
		ahead := amd64.Param("ahead")
		build.MOVQ(operand.Mem{Base: ahead, Index: count, Scale: 8}, ahead)
		build.ADDQ(frame("v", 24), ahead)
		build.MOVQ(token, count)
		build.ANDQ(operand.U8(chunkTokens-1), count)
		skip := build.GP64()
		build.MOVQ(count, skip)
		build.IMULQ(tokenBytes, skip)
		build.ADDQ(skip, value)
		build.ADDQ(skip, ahead)
		build.Load(build.Param("p"), p)
		build.LEAQ(operand.Mem{Base: p, Index: token, Scale: 4}, p)
		// count = min(the chunk's rest, the tokens' rest)
		build.SUBQ(operand.U8(chunkTokens), count)
		build.NEGQ(count)
		rest := amd64.Param("to")
		build.SUBQ(token, rest)
		build.CMPQ(rest, count)
		build.CMOVQLT(rest, count)
		build.ADDQ(count, token)

		build.Label(label("token"))
		t.multiply(cache, sums,
			func(q int) operand.Mem { return operand.Mem{Base: p, Disp: q * tileTokens * 4} },
			func(i int) operand.Mem { return operand.Mem{Base: value, Disp: i * t.lanes * bytes} })
		for line := 0; line < n*t.lanes*bytes && queries <= fewQueries; line += 64 {
			build.PREFETCHT1(operand.Mem{Base: ahead, Disp: line})
		}
		build.ADDQ(operand.U8(4), p)
		build.ADDQ(tokenBytes, value)
		build.ADDQ(tokenBytes, ahead)
		build.DECQ(count)
		build.JNZ(operand.LabelRef(label("token")))
		build.CMPQ(token, frame("to", 56))
		build.JLT(operand.LabelRef(label("chunk")))

		t.each(sums, func(m operand.Mem, v reg.VecVirtual) { build.VMOVUPS(v, m) })
		build.ADDQ(operand.U32(n*t.lanes*4), frame("y", 0))
		build.ADDQ(operand.U32(n*t.lanes*bytes), frame("v", 24))
		build.SUBQ(operand.U32(n*t.lanes), frame("width", 64))
		build.JMP(operand.LabelRef(label("features")))
		build.Label(label("done"))
	}
	amd64.Return()
}

// sums returns queries by n vectors, each prepared.
func (t isa) sums(queries, n int, prepare func(reg.VecVirtual)) [][]reg.VecVirtual {
	sums := make([][]reg.VecVirtual, queries)
	for q := range sums {
		for range n {
			v := t.vec()
			prepare(v)
			sums[q] = append(sums[q], v)
		}
	}
	return sums
}

// each moves sums from or to y, whose rows lie stride bytes apart.
func (t isa) each(sums [][]reg.VecVirtual, move func(m operand.Mem, v reg.VecVirtual)) {
	y, stride := amd64.Param("y"), amd64.Param("stride")
	for q := range sums {
		for i, v := range sums[q] {
			move(operand.Mem{Base: y, Disp: i * t.lanes * 4}, v)
		}
		if q < len(sums)-1 {
			build.ADDQ(stride, y)
		}
	}
}
