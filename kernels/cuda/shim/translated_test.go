package shim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"eckart/kernels/cuda/ptx/translate"
)

// Some F32, as their bits.
const (
	nan       = 0x7fc00000
	infinite  = 0x7f800000
	minusZero = 1 << 31
)

func f32(x float32) uint64 { return uint64(math.Float32bits(x)) }
func f64(x float64) uint64 { return math.Float64bits(x) }

// s32 and s64 are integers as their bits.
func s32(x int32) uint64 { return uint64(uint32(x)) }
func s64(x int64) uint64 { return uint64(x) }

// instructions are the cases of TestInstructions: %d is the result, %a to %c what a register holds, with one letter for the type
// of each register in regs, first the result: h 16 bits, r 32, l 64, f F32, d F64, p a predicate.
var instructions = []struct {
	text, regs string
	in         []uint64
	want       uint64
}{
	{"add.s32 %d, %a, %b", "rrr", []uint64{s32(math.MaxInt32), 1}, s32(math.MinInt32)},
	{"add.s64 %d, %a, -1", "ll", []uint64{0}, s64(-1)},
	{"sub.s32 %d, %a, %b", "rrr", []uint64{3, 5}, s32(-2)},
	{"neg.s32 %d, %a", "rr", []uint64{s32(math.MinInt32)}, s32(math.MinInt32)},
	{"neg.f32 %d, %a", "ff", []uint64{f32(0)}, minusZero},
	{"mul.lo.s32 %d, %a, %b", "rrr", []uint64{1 << 20, 1<<20 + 3}, 3 << 20},
	{"mul.wide.u32 %d, %a, %b", "lrr", []uint64{s32(-1), 2}, 1<<33 - 2},
	{"mul.wide.s32 %d, %a, %b", "lrr", []uint64{s32(-1), 2}, s64(-2)},
	{"mul.wide.u16 %d, %a, 40000", "rh", []uint64{50000}, 2_000_000_000},
	{"mad.lo.s32 %d, %a, -3, %b", "rrr", []uint64{5, 1}, s32(-14)},
	{"div.u32 %d, %a, %b", "rrr", []uint64{s32(-1), 2}, math.MaxInt32},
	{"div.s32 %d, %a, %b", "rrr", []uint64{s32(-7), 2}, s32(-3)},
	{"rem.u32 %d, %a, %b", "rrr", []uint64{17, 5}, 2},
	{"min.u32 %d, %a, %b", "rrr", []uint64{s32(-1), 2}, 2},
	{"max.s32 %d, %a, %b", "rrr", []uint64{s32(-1), 2}, 2},
	{"max.f32 %d, %a, 0f00000000", "ff", []uint64{nan}, 0},
	{"max.f32 %d, %a, %b", "fff", []uint64{minusZero, 0}, 0},
	{"max.f32 %d, %a, %b", "fff", []uint64{0, minusZero}, 0},
	{"min.f32 %d, %a, %b", "fff", []uint64{0, minusZero}, minusZero},
	{"div.s32 %d, %a, %b", "rrr", []uint64{s32(math.MinInt32), s32(-1)}, s32(math.MinInt32)},
	{"rem.s32 %d, %a, %b", "rrr", []uint64{s32(math.MinInt32), s32(-1)}, 0},
	{"min.f32 %d, %a, %b", "fff", []uint64{f32(2), nan}, f32(2)},
	{"and.b32 %d, %a, 255", "rr", []uint64{0x1234}, 0x34},
	{"or.b64 %d, %a, %b", "lll", []uint64{1 << 40, 1}, 1<<40 + 1},
	{"xor.b32 %d, %a, -1", "rr", []uint64{0xff}, 0xffffff00},
	{"not.b32 %d, %a", "rr", []uint64{0}, 0xffffffff},
	{"not.pred %d, %a", "pp", []uint64{1}, 0},
	{"and.pred %d, %a, %b", "ppp", []uint64{1, 1}, 1},
	{"or.pred %d, %a, %b", "ppp", []uint64{0, 1}, 1},
	{"shl.b32 %d, %a, %b", "rrr", []uint64{3, 31}, 1 << 31},
	{"shl.b32 %d, %a, %b", "rrr", []uint64{3, 32}, 0},
	{"shl.b64 %d, %a, %b", "llr", []uint64{3, 100}, 0},
	{"shr.u32 %d, %a, %b", "rrr", []uint64{s32(-1), 32}, 0},
	{"shr.s32 %d, %a, %b", "rrr", []uint64{s32(-8), 40}, s32(-1)},
	{"shr.s32 %d, %a, 2", "rr", []uint64{s32(-8)}, s32(-2)},
	{"shr.u64 %d, %a, 63", "ll", []uint64{s64(-1)}, 1},
	{"popc.b32 %d, %a", "rr", []uint64{0xf0f}, 8},
	{"clz.b32 %d, %a", "rr", []uint64{0}, 32},
	{"bfe.u32 %d, %a, 4, 8", "rr", []uint64{0xabcde}, 0xcd},
	{"bfe.u32 %d, %a, 28, 8", "rr", []uint64{0xabcdef01}, 0xa},
	{"bfe.s32 %d, %a, 4, 4", "rr", []uint64{0xf0}, s32(-1)},
	{"bfe.s32 %d, %a, 30, 8", "rr", []uint64{1 << 30}, 1},
	{"bfe.s32 %d, %a, 5, 0", "rr", []uint64{s32(-1)}, 0},
	{"selp.b32 %d, %a, 7, %b", "rrp", []uint64{5, 0}, 7},
	{"selp.f32 %d, %a, %b, %c", "fffp", []uint64{f32(1), f32(2), 1}, f32(1)},
	{"add.rn.f32 %d, %a, %b", "fff", []uint64{f32(1 << 24), f32(1)}, f32(1 << 24)},
	{"mul.rn.f32 %d, %a, 0f3F000000", "ff", []uint64{f32(3)}, f32(1.5)},
	{"div.rn.f32 %d, %a, %b", "fff", []uint64{f32(1), f32(0)}, infinite},
	{"fma.rn.f32 %d, %a, %b, %c", "ffff", []uint64{f32(1 + 1.0/4096), f32(1 - 1.0/4096), f32(-1)}, f32(-1.0 / (1 << 24))},
	{"fma.rn.f64 %d, %a, %b, %c", "dddd", []uint64{f64(3), f64(5), f64(-1)}, f64(14)},
	{"rcp.rn.f32 %d, %a", "ff", []uint64{f32(8)}, f32(0.125)},
	{"sqrt.rn.f32 %d, %a", "ff", []uint64{f32(2.25)}, f32(1.5)},
	{"ex2.approx.f32 %d, %a", "ff", []uint64{f32(5)}, f32(32)},
	{"setp.lt.u32 %d, %a, %b", "prr", []uint64{s32(-1), 1}, 0},
	{"setp.lt.s32 %d, %a, %b", "prr", []uint64{s32(-1), 1}, 1},
	{"setp.eq.f32 %d, %a, %b", "pff", []uint64{nan, nan}, 0},
	{"setp.ne.f32 %d, %a, %b", "pff", []uint64{nan, f32(1)}, 0},
	{"setp.neu.f32 %d, %a, %b", "pff", []uint64{nan, f32(1)}, 1},
	{"setp.equ.f32 %d, %a, %b", "pff", []uint64{nan, f32(1)}, 1},
	{"setp.equ.f32 %d, %a, %b", "pff", []uint64{f32(2), f32(1)}, 0},
	{"setp.gt.f32 %d, %a, %b", "pff", []uint64{nan, f32(1)}, 0},
	{"setp.gtu.f32 %d, %a, %b", "pff", []uint64{nan, f32(1)}, 1},
	{"setp.leu.f64 %d, %a, %b", "pdd", []uint64{f64(2), f64(1)}, 0},
	{"setp.geu.f32 %d, %a, %b", "pff", []uint64{f32(1), f32(1)}, 1},
	{"setp.ltu.f32 %d, %a, %b", "pff", []uint64{f32(1), f32(1)}, 0},
	{"setp.nan.f32 %d, %a, %b", "pff", []uint64{f32(1), nan}, 1},
	{"setp.num.f32 %d, %a, %b", "pff", []uint64{f32(1), nan}, 0},
	{"setp.eq.b16 %d, %a, 3", "ph", []uint64{3}, 1},
	{"cvt.u64.u32 %d, %a", "lr", []uint64{s32(-1)}, math.MaxUint32},
	{"cvt.s64.s32 %d, %a", "lr", []uint64{s32(-1)}, s64(-1)},
	{"cvt.u32.u64 %d, %a", "rl", []uint64{1<<32 + 5}, 5},
	{"cvt.u16.u32 %d, %a", "hr", []uint64{0x12345}, 0x2345},
	{"cvt.u32.u16 %d, %a", "rh", []uint64{0xffff}, 0xffff},
	{"cvt.rzi.s32.f32 %d, %a", "rf", []uint64{f32(-2.9)}, s32(-2)},
	{"cvt.rzi.s32.f32 %d, %a", "rf", []uint64{f32(3e9)}, math.MaxInt32},
	{"cvt.rzi.s32.f32 %d, %a", "rf", []uint64{f32(-3e9)}, s32(math.MinInt32)},
	{"cvt.rzi.s32.f32 %d, %a", "rf", []uint64{nan}, 0},
	{"cvt.rzi.u32.f64 %d, %a", "rd", []uint64{f64(-1)}, 0},
	{"cvt.rzi.u32.f64 %d, %a", "rd", []uint64{f64(4294967295.5)}, math.MaxUint32},
	{"cvt.rzi.u32.f64 %d, %a", "rd", []uint64{f64(4294967294.5)}, math.MaxUint32 - 1},
	{"cvt.rn.f32.s32 %d, %a", "fr", []uint64{1<<24 + 1}, f32(1 << 24)},
	{"cvt.rn.f32.u32 %d, %a", "fr", []uint64{s32(-1)}, f32(1 << 32)},
	{"cvt.rn.f64.u32 %d, %a", "dr", []uint64{s32(-1)}, f64(math.MaxUint32)},
	{"cvt.rn.f32.f64 %d, %a", "fd", []uint64{f64(0.1)}, f32(0.1)},
	{"cvt.f64.f32 %d, %a", "df", []uint64{f32(0.5)}, f64(0.5)},
	{"cvt.f32.f16 %d, %a", "fh", []uint64{0xc000}, f32(-2)},
	{"cvt.rn.f16.f32 %d, %a", "hf", []uint64{f32(1)}, 0x3c00},
	{"cvt.rn.f16x2.f32 %d, %a, %b", "rff", []uint64{f32(1), f32(2)}, 0x3c004000},
	{"cvt.rn.bf16x2.f32 %d, %a, %b", "rff", []uint64{f32(1), f32(2)}, 0x3f804000},
	{"mov.b32 %d, %a", "fr", []uint64{f32(7)}, f32(7)},
	{"mov.b64 %d, {%a, %b}", "lrr", []uint64{1, 2}, 2<<32 + 1},
	{"{ .reg .b32 %%low; mov.b64 {%%low, %d}, %a; }", "rl", []uint64{2<<32 + 1}, 2},
	{"{ .reg .b16 %%low; mov.b32 {%%low, %d}, %a; }", "hr", []uint64{0x12345678}, 0x1234},
	{"mov.u32 %d, %ntid.x", "r", nil, 32},
	{"mov.f32 %d, 0f3F800000", "f", nil, f32(1)},
	{"mov.f64 %d, 0d3FF0000000000000", "d", nil, f64(1)},
	{"mov.pred %d, -1", "p", nil, 1},
	{"dp4a.s32.s32 %d, %a, %b, %c", "rrrr", []uint64{0xff02ff01, 0x01020304, 10}, 10 + 4 - 3 + 4 - 1},
	{"ld.param.u32 %d, [ops_param_0+4]", "r", nil, 7},
	{"ld.global.u16 %d, [%rdx+2]", "r", nil, 0x89ab},
	{"ld.global.s16 %d, [%rdx+2]", "r", nil, 0xffff89ab},
	{"ld.global.u8 %d, [%rdx+8]", "h", nil, 0x10},
	{"ld.global.nc.L1::no_allocate.u32 %d, [%rdx+4]", "r", nil, 0x01234567},
	{"{ .reg .b32 %x<4>; ld.global.v4.u32 {%x1, %x2, %x3, %d}, [%rdx]; }", "r", nil, 0xfedcba98},
	{"{ .reg .b32 %x<3>; ld.global.v2.u32 {%x1, %d}, [%rdx+8]; }", "r", nil, 0xfedcba98},
	{"{ .reg .b32 %x<3>; ld.param.v2.u32 {%x1, %d}, [ops_param_0]; }", "r", nil, 7},
	{"{ st.shared.u32 [%rds+4], %a; bar.warp.sync -1; ld.shared.u16 %d, [%rds+6]; }", "rr", []uint64{0x12345678}, 0x1234},
	{"{ st.shared.v2.f32 [%rds+8], {%a, %a}; ld.shared.f32 %d, [%rds+12]; }", "ff", []uint64{f32(3)}, f32(3)},
	{"shfl.sync.idx.b32 %d, %a, 5, 31, -1", "rr", []uint64{9}, 9},
	{"vote.sync.ballot.b32 %d, %a, -1", "rp", []uint64{1}, math.MaxUint32},
	{"@%b mov.u32 %d, 3", "rrp", []uint64{0, 0}, 0xe0ddf00d}, // what was never written shows
	{"@!%b mov.u32 %d, 3", "rrp", []uint64{0, 0}, 3},
}

// instructionKernel is PTX that runs them all, in one lane, and stores results of 8 bytes.
func instructionKernel() string {
	var b strings.Builder
	b.WriteString(`.version 7.4
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 tk_shared[];
.visible .entry ops(
	.param .align 8 .b8 ops_param_0[32]
)
.maxntid 32, 1, 1
{
	.reg .b64 %rdy, %rdin, %rdx, %rds; .reg .b32 %lane;
	ld.param.u64 %rdx, [ops_param_0+8];
	ld.param.u64 %rdin, [ops_param_0+16]; // a comment
	ld.param.u64 %rdy, [ops_param_0+24];
	mov.u32 %lane, %tid.x; mul.wide.u32 %rds, %lane, 16; add.s64 %rds, %rds, tk_shared;
`)
	kinds := map[byte]string{'h': ".b16", 'r': ".b32", 'l': ".b64", 'f': ".f32", 'd': ".f64", 'p': ".pred"}
	words := map[byte]string{'h': "u16", 'r': "u32", 'l': "u64", 'f': "f32", 'd': "f64"}
	next := 0
	for i, c := range instructions {
		fmt.Fprintf(&b, "{\n\t.reg .b32 %%word;\n")
		for j := range len(c.regs) {
			name := "%" + string("dabc"[j])
			fmt.Fprintf(&b, "\t.reg %s %s;\n", kinds[c.regs[j]], name)
			if j == 0 {
				continue
			}
			if c.regs[j] == 'p' {
				fmt.Fprintf(&b, "\tld.global.u32 %%word, [%%rdin+%d];\n\tsetp.ne.s32 %s, %%word, 0;\n", 8*next, name)
			} else {
				fmt.Fprintf(&b, "\tld.global.%s %s, [%%rdin+%d];\n", words[c.regs[j]], name, 8*next)
			}
			next++
		}
		// %% stands for a % that is followed by a name of more letters.
		text := strings.ReplaceAll(c.text, "%%", "%")
		if !strings.HasPrefix(text, "{") {
			text += ";"
		}
		fmt.Fprintf(&b, "\t%s\n", text)
		if c.regs[0] == 'p' {
			fmt.Fprintf(&b, "\tselp.b32 %%word, 1, 0, %%d;\n\tst.global.u32 [%%rdy+%d], %%word;\n}\n", 8*i)
		} else {
			fmt.Fprintf(&b, "\tst.global.%s [%%rdy+%d], %%d;\n}\n", words[c.regs[0]], 8*i)
		}
	}
	b.WriteString("\tret;\n}\n")
	return b.String()
}

// translatedTests builds the shim with kernels of PTX: that of the instructions, and those that do what they may not.
var translatedTests = sync.OnceValues(func() (string, error) {
	kernels := fstest.MapFS{}
	for name, text := range map[string]string{"ops": instructionKernel(), "shuffles": shuffleKernel(), "wrong": wrongPTX} {
		cxx, err := translate.CXX(name+".ptx", []byte(text))
		if err != nil {
			return "", err
		}
		kernels[name+translatedSuffix] = &fstest.MapFile{Data: cxx}
	}
	return build(kernels)
})

// TestInstructions runs translated instructions and holds their results against what PTX says of them.
func TestInstructions(t *testing.T) {
	d := openBuilt(t, translatedTests)
	var in []uint64
	for _, c := range instructions {
		in = append(in, c.in...)
	}
	x := upload(d, []uint32{0x89abcdef&^0xffff | 0xcdef, 0x01234567, 0x76543210, 0xfedcba98})
	y := upload(d, make([]uint64, len(instructions)))
	type arguments struct {
		_, seven uint32
		x, in, y uintptr
	}
	right(d, "ops", 1, 32, 512, arguments{0, 7, x, upload(d, in), y})
	for i, got := range download[uint64](d, y, len(instructions)) {
		c := instructions[i]
		if got != c.want {
			t.Errorf("%s with %#x gives %#x, want %#x", c.text, c.in, got, c.want)
		}
	}
}

// shuffles are the cases of TestShuffles: the last operand of a shuffle, and its third, a number or the register that has the
// lane's own.
var shuffles = []struct {
	mode      string
	c         uint32
	operand   string
	ownSource bool
}{
	{mode: "bfly", c: 31, operand: "5"},
	{mode: "bfly", c: 0x1c1f, operand: "3"}, // segments of four lanes
	{mode: "bfly", c: 7, operand: "8"},      // beyond the last lane of a clamp
	{mode: "up", c: 0, operand: "2"},
	{mode: "up", c: 0x1800, operand: "3"}, // segments of eight
	{mode: "down", c: 31, operand: "3"},
	{mode: "down", c: 0x181f, operand: "2"},
	{mode: "idx", c: 31, operand: "9"},
	{mode: "idx", c: 0x181f, operand: "3"},
	{mode: "idx", c: 31, operand: "%own", ownSource: true},
}

// shuffleSource returns where lane l takes its value from: PTX ISA, shfl.sync, whose names these are.
func shuffleSource(mode string, lane, bval, c int) int {
	cval, segmask := c&31, c>>8&31
	maxLane := lane&segmask | cval&^segmask
	minLane := lane & segmask
	j, in := 0, false
	switch mode {
	case "up":
		j = lane - bval
		in = j >= maxLane
	case "down":
		j = lane + bval
		in = j <= maxLane
	case "bfly":
		j = lane ^ bval
		in = j <= maxLane
	case "idx":
		j = minLane | bval&^segmask
		in = j <= maxLane
	}
	if !in {
		return lane
	}
	return j
}

// shuffleKernel is PTX that stores what each lane gets, and a ballot of odd lanes.
func shuffleKernel() string {
	var b strings.Builder
	b.WriteString(`.version 7.4
.target sm_80
.address_size 64
.visible .entry shuffles(.param .align 8 .b8 shuffles_param_0[8]) .maxntid 32, 1, 1
{
	.reg .b32 %v, %r, %own, %lane; .reg .b64 %y, %at; .reg .pred %odd;
	ld.param.u64 %y, [shuffles_param_0];
	mov.u32 %lane, %tid.x; mul.wide.u32 %at, %lane, 4; add.s64 %y, %y, %at;
	mul.lo.s32 %v, %lane, 3; add.s32 %v, %v, 100;
	mul.lo.s32 %own, %lane, 7; and.b32 %own, %own, 31;
`)
	for i, c := range shuffles {
		fmt.Fprintf(&b, "\tshfl.sync.%s.b32 %%r, %%v, %s, %d, -1;\n\tst.global.u32 [%%y+%d], %%r;\n", c.mode, c.operand, c.c, 128*i)
	}
	fmt.Fprintf(&b, "\tand.b32 %%r, %%lane, 1; setp.eq.s32 %%odd, %%r, 1;\n\tvote.sync.ballot.b32 %%r, %%odd, -1;\n\tst.global.u32 [%%y+%d], %%r;\n\tret;\n}\n",
		128*len(shuffles))
	return b.String()
}

// TestShuffles holds what lanes give each other against the definition, and a ballot.
func TestShuffles(t *testing.T) {
	d := openBuilt(t, translatedTests)
	y := upload(d, make([]uint32, 32*(len(shuffles)+1)))
	right(d, "shuffles", 1, 32, 0, struct{ y uintptr }{y})
	got := download[uint32](d, y, 32*(len(shuffles)+1))
	for lane := range 32 {
		for i, c := range shuffles {
			bval := lane * 7 & 31
			if !c.ownSource {
				bval, _ = strconv.Atoi(c.operand)
			}
			if v, want := got[32*i+lane], uint32(100+3*shuffleSource(c.mode, lane, bval, int(c.c))); v != want {
				t.Errorf("shfl %s by %s with %#x: lane %d gets %d, want %d", c.mode, c.operand, c.c, lane, v, want)
			}
		}
		if v := got[32*len(shuffles)+lane]; v != 0xaaaaaaaa {
			t.Errorf("ballot of odd lanes: %#x", v)
		}
	}
}

// wrongPTX has kernels that do what they may not, in lines that begin with their names.
const wrongPTX = `
.version 7.4
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 tk_shared[];
.visible .entry race(.param .align 8 .b8 race_param_0[8]) .maxntid 64, 1, 1 {
	.reg .b32 %r<4>; .reg .b64 %rd<4>;
	mov.u32 %r1, %tid.x; mov.u64 %rd1, tk_shared; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2;
	st.shared.u32 [%rd1], %r1;
	ld.shared.u32 %r2, [tk_shared+4];
	ret;
}
.visible .entry beyond(.param .align 8 .b8 beyond_param_0[8]) .maxntid 64, 1, 1 {
	.reg .b32 %r<2>;
	ld.param.u32 %r1, [beyond_param_0+8];
	ret;
}
.visible .entry divergent(.param .align 8 .b8 divergent_param_0[8]) .maxntid 64, 1, 1 {
	.reg .b32 %r<4>; .reg .pred %p<2>;
	mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32;
	@%p1 bra $L__BB0_1;
	bar.sync 0;
	ret;
$L__BB0_1:
	bar.sync 0;
	ret;
}
`

// TestTranslatedWrong runs kernels of PTX that are wrong: they end with the line of the PTX.
func TestTranslatedWrong(t *testing.T) {
	for _, c := range []struct {
		kernel, statement string // the one at fault
		code              int
		text              string
	}{
		{"race", "ld.shared.u32 %r2", 700, "offset 4 of shared memory: "}, // not written yet, or just now
		{"beyond", "ld.param.u32 %r1", 719, "reads beside its arguments"},
		{"divergent", "bar.sync 0", 719, "is in block_sync, while other threads are in the one in wrong.ptx:"},
	} {
		d := openBuilt(t, translatedTests)
		code, message := launch(d, c.kernel, 1, 64, 256, uint64(0)), d.Message()
		_, place, _ := strings.Cut(message, "wrong.ptx:")
		place, _, _ = strings.Cut(place, ":")
		line, err := strconv.Atoi(place)
		if err != nil || code != c.code || !strings.Contains(message, c.text) {
			t.Errorf("%s returns %d (%s), want %d (%s)", c.kernel, code, message, c.code, c.text)
		} else if at := strings.Split(wrongPTX, "\n")[line-1]; !strings.Contains(at, c.statement) {
			t.Errorf("%s names line %d, %q, and not that of %s", c.kernel, line, at, c.statement)
		}
	}
}
