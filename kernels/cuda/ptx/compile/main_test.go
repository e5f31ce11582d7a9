package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"eckart/kernels/cuda/ptx"
	"eckart/kernels/cuda/src"
)

// The committed PTX was made from the sources as they are.
func TestFresh(t *testing.T) {
	m, err := ptx.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, file := range src.Kernels() {
		for _, target := range ptx.Targets() {
			name := target.Name(strings.TrimSuffix(file, ".cu"))
			want[name] = true
			source, err := digest(file, target)
			if err != nil {
				t.Fatal(err)
			}
			if m.Modules[name].Source != source {
				t.Errorf("PTX of %s is stale, run make kernels", name)
			}
		}
	}
	for name, module := range m.Modules {
		if !want[name] {
			t.Errorf("PTX of %s has no source any more, run make kernels", name)
		}
		text, err := ptx.Text(name)
		if err != nil {
			t.Fatal(err)
		}
		if sum(text) != module.PTX {
			t.Errorf("PTX of %s is not what was compiled, run make kernels", name)
		}
	}
}

// exact lists the instructions that kernels write by hand, which clang does not look at: a slip in one shows only when a driver
// compiles it. Elsewhere clang chooses; stems lists what it may choose from.
var (
	exact = []string{
		"atom.relaxed.gpu.global.add.u32",
		"cp.async.cg.shared.global",
		"cp.async.commit_group",
		"cp.async.wait_group",
		"cvt.f32.f16",
		"cvt.rn.bf16x2.f32",
		"cvt.rn.f16.f32",
		"cvt.rn.f16x2.f32",
		"dp4a.s32.s32",
		"ex2.approx.f32",
		"fence.acq_rel.gpu",
		"ld.acquire.gpu.global.u32",
		"ld.global.v2.u32",
		"ld.global.v4.u32",
		"ld.global.nc.L1::no_allocate.u32",
		"ld.global.nc.L1::no_allocate.v2.u32",
		"ld.global.nc.L1::no_allocate.v4.u32",
		"ldmatrix.sync.aligned.m8n8.x2.shared.b16",
		"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16",
		"ldmatrix.sync.aligned.m8n8.x4.shared.b16",
		"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
		"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
		"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
		"mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
		"st.release.gpu.global.u32",
	}
	stems = strings.Fields(`abs add and bar bfe bfi bra brev clz cvt cvta div fma ld max min mov mul mad neg not or popc prmt rcp rem
		ret selp setp shf shfl shl shr sqrt st sub vote xor`)
	instruction = regexp.MustCompile(`^(?:@!?%p\d+ )?([a-z][\w.:]*)`)
)

// What no test on a CPU sees of the PTX: instructions outside of what is known, and arrays in memory, which is where local
// arrays end that are indexed at run time.
func TestText(t *testing.T) {
	m, err := ptx.Read()
	if err != nil {
		t.Fatal(err)
	}
	for name := range m.Modules {
		text, err := ptx.Text(name)
		if err != nil {
			t.Fatal(err)
		}
		byHand, said := false, map[string]bool{}
		for line := range strings.Lines(string(text)) {
			line = strings.Join(strings.Fields(line), " ")
			switch {
			case strings.HasPrefix(line, "// begin inline asm"):
				byHand = true
			case strings.HasPrefix(line, "// end inline asm"):
				byHand = false
			case strings.Contains(line, ".local"):
				t.Errorf("%s: memory of a thread: %s", name, line)
			}
			op := instruction.FindStringSubmatch(line)
			if op == nil {
				continue
			}
			stem, _, _ := strings.Cut(op[1], ".")
			if known := slices.Contains(exact, op[1]); !known && (byHand || !slices.Contains(stems, stem)) && !said[op[1]] {
				said[op[1]] = true
				t.Errorf("%s: instruction that is not in the list of this test: %s", name, line)
			}
			if strings.Contains(line, "ftz") || strings.Contains(op[1], ".approx") && op[1] != "ex2.approx.f32" {
				t.Errorf("%s: instruction of other bits than the CPU's: %s", name, line)
			}
		}
	}
}

// Weights and activations travel 16 bytes at a time.
func TestVectorLoads(t *testing.T) {
	for module, wanted := range map[string][]string{
		"matmul.sm_80":            {"mma.sync", "cp.async.cg.shared.global"},
		"matmul_few.sm_80":        {"ld.global.nc.L1::no_allocate.v4.u32", "mma.sync", "ld.shared.v4"},
		"grouped.sm_80":           {"cp.async.cg.shared.global", "mma.sync"},
		"attention_prefill.sm_80": {"mma.sync", "cp.async.cg.shared.global"},
		"attention_decode.sm_80":  {"v4"},
	} {
		text, err := ptx.Text(module)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wanted {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s has no %s", module, w)
			}
		}
	}
}

func TestUsages(t *testing.T) {
	out := `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, 376 bytes cmem[0]
`
	got := usages("m", []byte(out))
	want := []usage{{"m", "a", 40, 8, 16}, {"m", "b", 10, 0, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("usages are %v, want %v", got, want)
	}
}
