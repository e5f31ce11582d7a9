// Command sweep writes the kernel of package kernels/cpu that reads memory and does nothing else: sweep_avx512_amd64.s
// and sweep_avx2_amd64.s with their Go declarations. Run it through go generate.
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

const (
	streams = 4    // places read in turns: one alone is slower on a single thread
	line    = 64   // bytes read of each in a round
	ahead   = 1024 // bytes that are fetched ahead
)

// isa is what differs between vector widths.
type isa struct {
	name  string
	bytes int // of a vector
	vec   func() reg.VecVirtual
	zero  func(v reg.VecVirtual)
	or    func(m operand.Mem, v reg.VecVirtual)
	join  func(a, b reg.VecVirtual) // b |= a
	fold  func(v reg.VecVirtual)    // ORs the halves of v until its low 64 bits have everything
}

// fold128 does the last step of a fold.
func fold128(x reg.Register) {
	high := build.XMM()
	build.VPSRLDQ(operand.U8(8), x, high)
	build.VPOR(high, x, x)
}

func foldYMM(y reg.VecVirtual) {
	high := build.XMM()
	build.VEXTRACTI128(operand.U8(1), y, high)
	build.VPOR(high, y.AsX(), y.AsX())
	fold128(y.AsX())
}

var isas = map[string]isa{
	"avx2": {
		"AVX2", 32,
		func() reg.VecVirtual { return build.YMM() },
		func(v reg.VecVirtual) { build.VPXOR(v, v, v) },
		func(m operand.Mem, v reg.VecVirtual) { build.VPOR(m, v, v) },
		func(a, b reg.VecVirtual) { build.VPOR(a, b, b) },
		foldYMM,
	},
	"avx512": {
		"AVX512", 64,
		func() reg.VecVirtual { return build.ZMM() },
		func(v reg.VecVirtual) { build.VPXORQ(v, v, v) },
		func(m operand.Mem, v reg.VecVirtual) { build.VPORQ(m, v, v) },
		func(a, b reg.VecVirtual) { build.VPORQ(a, b, b) },
		func(v reg.VecVirtual) {
			high := build.YMM()
			build.VEXTRACTI64X4(operand.U8(1), v, high)
			build.VPOR(high, v.AsY(), v.AsY())
			x := build.XMM()
			build.VEXTRACTI128(operand.U8(1), v.AsY(), x)
			build.VPOR(x, v.AsX(), v.AsX())
			fold128(v.AsX())
		},
	},
}

func main() {
	flag.Parse()
	t, ok := isas[*isaFlag]
	if !ok {
		log.Fatalf("generate sweep: unknown -isa %q", *isaFlag)
	}
	build.Constraint(buildtags.Not("purego"))
	sweep(t)
	build.Generate()
}

func sweep(t isa) {
	name := "sweep" + t.name
	amd64.Text(name, "func(p *byte, n int) uint64",
		"reads n bytes, a multiple of 256 and at least that, and returns the OR of their 64-bit words.")
	var at [streams]reg.GPVirtual
	for i := range at {
		at[i] = build.GP64()
	}
	build.Load(build.Param("p"), at[0])
	n := build.GP64()
	build.Load(build.Param("n"), n)
	build.SHRQ(operand.U8(2), n)
	for i := 1; i < streams; i++ {
		build.LEAQ(operand.Mem{Base: at[i-1], Index: n, Scale: 1}, at[i])
	}
	var sums [streams]reg.VecVirtual
	for i := range sums {
		sums[i] = t.vec()
		t.zero(sums[i])
	}
	build.Label("round")
	for i := range at {
		build.PREFETCHT0(operand.Mem{Base: at[i], Disp: ahead})
	}
	for i := range at {
		for b := 0; b < line; b += t.bytes {
			t.or(operand.Mem{Base: at[i], Disp: b}, sums[i])
		}
	}
	for i := range at {
		build.ADDQ(operand.U8(line), at[i])
	}
	build.SUBQ(operand.U8(line), n)
	build.JNE(operand.LabelRef("round"))
	t.join(sums[3], sums[2])
	t.join(sums[1], sums[0])
	t.join(sums[2], sums[0])
	t.fold(sums[0])
	result := build.GP64()
	build.VMOVQ(sums[0].AsX(), result)
	build.VZEROUPPER()
	build.Store(result, build.ReturnIndex(0))
	build.RET()
}
