package translate_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"eckart/kernels/cuda/ptx"
	"eckart/kernels/cuda/ptx/translate"
)

// TestCommitted translates the PTX that ships. Targets differ in their heads alone, so that the shim needs to run one of them.
func TestCommitted(t *testing.T) {
	manifest, err := ptx.Read()
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(manifest.Modules)) {
		text, err := ptx.Text(name)
		if err != nil {
			t.Fatal(err)
		}
		source, target, _ := strings.Cut(name, ".")
		_, body, ok := bytes.Cut(text, []byte("\n.target "+target+"\n"))
		if !ok {
			t.Errorf("%s does not say that it is for %s", name, target)
		}
		if other, ok := bodies[source]; ok {
			if !bytes.Equal(body, other) {
				t.Errorf("%s and the same for another target differ: the shim has to run both", name)
			}
			continue
		}
		bodies[source] = body
		cxx, err := translate.CXX(name+".ptx", text)
		if err != nil {
			t.Error(err)
		}
		if got, want := bytes.Count(cxx, []byte("\nKERNEL(")), bytes.Count(text, []byte(".visible .entry ")); got != want || got == 0 {
			t.Errorf("%s: %d kernels are translated, of %d", name, got, want)
		}
	}
}

// TestRefused translates what is not known, or wrong: the error names the line.
func TestRefused(t *testing.T) {
	const head = ".version 7.4\n.visible .entry k(.param .align 8 .b8 k_param_0[8]) .maxntid 32, 1, 1\n{\n.reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>;\n"
	for _, c := range []struct{ text, want string }{
		{head + "tanh.approx.f32 %f1, %f2;\n}", "k.ptx:5: tanh.approx.f32 %f1, %f2: is not known"},
		{head + "add.s32 %r1, %r2;\n}", "k.ptx:5: add.s32 %r1, %r2: has 2 operands and not 3"},
		{head + "add.s32 %r9, %r2, %r3;\n}", "%r9 is no register"},
		{head + "add.s32 %r1, %r2, %r10;\n}", "%r10 is no u32"},
		{head + "add.rn.f32 %f1, %f2, 1;\n}", "1 is no float"},
		{head + "cvt.rn.f32.f16 %f1, %r2;\n}", "is not known"},
		{head + "cvt.f32.s32 %f1, %r2;\n}", "is not known"},
		{head + "bar.sync 1;\n}", "has operand 1, and only 0 is known"},
		{head + "shfl.sync.bfly.b32 %r1, %r2, 1, 31, 15;\n}", "has operand 15, and only -1 is known"},
		{head + "ld.global.v4.u32 {%r1, %r2}, [%rd1];\n}", "has not 4 registers"},
		{head + "ld.local.u32 %r1, [%rd1];\n}", "is not known"},
		{head + "st.param.u32 [k_param_0], %r1;\n}", "is not known"},
		{head + "ld.global.u32 %r1, %rd1;\n}", "%rd1 is no address"},
		{head + "ld.global.u32 %r1, [table+4];\n}", "[table+4] is no address"},
		{head + "cp.async.cg.shared.global [%r1], [%rd1], 8;\n}", "is not known"},
		{head + "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f1};\n}", "is not known"},
		{head + ".local .b8 x[4];\n}", "is a directive that is not known"},
		{head + "ret;\n", "kernel k does not end"},
		{head + "ret", "line 5: the text ends within a statement"},
		{"ret;", "stands outside of a kernel"},
		{".global .b32 x;", "stands outside of a kernel"},
		{".visible .entry k(.param .b32 k_param_0) .maxntid 32, 1, 1 {}", "not one block of arguments"},
		{".visible .entry k(.param .align 8 .b8 k_param_0[8]) {}", "does not say how many threads"},
	} {
		_, err := translate.CXX("k.ptx", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", strings.TrimPrefix(c.text, head), err, c.want)
		}
	}
}
