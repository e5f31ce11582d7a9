package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eckart/kernels"
	"eckart/kernels/cuda/shim"
	"eckart/model"
	"eckart/model/checkpoint"
)

// The program runs its parts in processes of its own: here that is the test's program, which this variable makes it.
const asProgram = "ECKART_BENCH_GPU"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// needShim skips the test where there is no compiler for the shim.
func needShim(t *testing.T) {
	t.Helper()
	shim.ForTest(t)
	t.Setenv(asProgram, "1")
}

// script writes a program that says something and ends with a status.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the program and returns what it prints.
func run(t *testing.T, args ...string) string {
	t.Helper()
	var b strings.Builder
	if err := command(t.Context(), args, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const demo = "../../cmd/internal/demo/gopher-dense"

// TestOnShim runs everything at small sizes, and again, which runs nothing. With -short, replies are left out.
func TestOnShim(t *testing.T) {
	needShim(t)
	out := t.TempDir()
	chosen := []string{"device", "suite", "gorgonia", "repeat", "golden", "roofline", "steps", "cold", "sanitizer"}
	if testing.Short() {
		chosen = slices.DeleteFunc(chosen, func(part string) bool { return part == "golden" })
	}
	passes := script(t, "echo '--- PASS: TestSuite (0.1s)'\necho '    --- PASS: TestSuite/MatMul (0.1s)'\n")
	args := []string{"-shim", "-out", out, "-model", demo, "-tests", passes, "-gorgonia", passes, "-eckart", filepath.Join(out, "none"), "-parts", strings.Join(chosen, ",")}
	printed := run(t, args...)
	if len(printed) > 12<<10 {
		t.Errorf("%d bytes are printed", len(printed))
	}
	for _, name := range chosen {
		r, err := load(out, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !r.Done || r.Failed != "" || len(r.Wrong()) > 0 || (len(r.Figures) == 0) != (r.Skipped != "") {
			t.Errorf("%s: %s", name, r.state())
		}
		for _, f := range r.Figures {
			if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) || f.Seconds < 0 {
				t.Errorf("%s: figure %+v", name, f)
			}
			if f.Column != "launches a layer" {
				continue
			}
			for kind, most := range map[string]float64{dense: 7, int4: 7, lowRank: 10} {
				if strings.HasSuffix(f.Row, ", "+kind) && f.Value > most {
					t.Errorf("a layer of %s takes %v launches, want at most %v", f.Row, f.Value, most)
				}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(out, reportFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"On the shim", "SIMT shim (sm_", "at least 72 % at first, 80 to lead", "Steps: ms", "launches a layer", " % idle | % idle, not ahead |", "Products of int4", "Attention of a prompt"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	again := run(t, args...)
	if n := strings.Count(again, "done before"); n != len(chosen) {
		t.Errorf("%d of %d parts were done before:\n%s", n, len(chosen), again)
	}
}

// TestFailedPartsAreReported has parts fail, each in a way of its own, and the others run.
func TestFailedPartsAreReported(t *testing.T) {
	needShim(t)
	out := t.TempDir()
	fails := script(t, "echo '    x_test.go:5: the sum is off'\necho '--- FAIL: TestSuite (0.1s)'\nexit 1\n")
	printed := run(t, "-shim", "-out", out, "-model", filepath.Join(out, "none"), "-tests", fails, "-parts", "suite,golden,repeat")
	for part, want := range map[string]string{"suite": "WRONG", "golden": "FAILED", "repeat": "passed"} {
		r, err := load(out, part)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.state(), want) {
			t.Errorf("%s: got %q, want %s", part, r.state(), want)
		}
	}
	if !strings.Contains(printed, "the sum is off") {
		t.Errorf("printed:\n%s", printed)
	}
	// What failed is tried again, and a part that does not end is ended.
	hangs := script(t, "exec sleep 60\n")
	start := time.Now()
	run(t, "-shim", "-out", out, "-tests", hangs, "-parts", "suite,repeat", "-limit", "1s")
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("took %v", took)
	}
	if r, err := load(out, "suite"); err != nil || r.Failed == "" || r.Done {
		t.Errorf("a part that hangs: %+v, %v", r, err)
	}
}

func TestCount(t *testing.T) {
	passed, failed, skipped := count([]byte(`=== RUN   TestA
--- PASS: TestA (0.00s)
    --- PASS: TestB/x (0.00s)
    --- SKIP: TestB/y (0.00s)
    suite.go:12: MatMul: off by 3
        --- FAIL: TestB/z (0.00s)
panic: BUG: rows
`))
	if passed != 2 || skipped != 1 || len(failed) != 2 || failed[0] != "TestB/z suite.go:12: MatMul: off by 3" || failed[1] != "panic: BUG: rows" {
		t.Errorf("got %d, %q, %d", passed, failed, skipped)
	}
}

// TestGoals holds the verdicts to what the goals say.
func TestGoals(t *testing.T) {
	least := goal{first: 72, lead: 80, unit: "%", value: share}
	most := goal{first: 15, unit: "%", atMost: true, value: seconds, group: "far", against: [3]string{"near", "", ""}}
	for _, c := range []struct {
		goal    goal
		figure  Figure
		verdict string
		spelled string
	}{
		{least, Figure{Share: 0.5}, "MISSED", "50 %"},
		{least, Figure{Share: 0.75}, "reached at first", "75 %"},
		{least, Figure{Share: 0.8}, "leads", "80 %"},
		{most, Figure{Seconds: 1.1}, "reached", "10.0 %"},
		{most, Figure{Seconds: 1.5}, "MISSED", "50 %"},
	} {
		spelled, verdict := c.goal.reached(func(group, _, _ string) (Figure, bool) {
			if group == "near" {
				return Figure{Seconds: 1}, true
			}
			return c.figure, true
		})
		if verdict != c.verdict || spelled != c.spelled {
			t.Errorf("%+v: got %s, %s, want %s, %s", c.figure, spelled, verdict, c.spelled, c.verdict)
		}
	}
	if _, verdict := least.reached(func(_, _, _ string) (Figure, bool) { return Figure{}, false }); verdict != "not measured" {
		t.Errorf("got %s", verdict)
	}
	// What is printed of a GPU must fit: goals of figures that the parts at full size do not have are never measured.
	full := full()
	for _, g := range goals() {
		if g.group == decodes && !strings.Contains(g.row, full.models[0].name) {
			t.Errorf("%s: row %q is not measured", g.text, g.row)
		}
	}
}

func TestLayerOfTrace(t *testing.T) {
	names := strings.Fields("embed angles a b b c a b b c a b b c gather norm head")
	if n, kernels := (&trace{names}).layer(3); n != 4 || kernels != "a b b c" {
		t.Errorf("got %d, %q", n, kernels)
	}
}

// TestCheckpoint writes a model and reads it back.
func TestCheckpoint(t *testing.T) {
	src := newRandom().source(tiny, dense)
	folder := t.TempDir()
	if err := writeCheckpoint(folder, src); err != nil {
		t.Fatal(err)
	}
	back := open(t, folder)
	for _, name := range []string{"lm_head.weight", "model.layers.1.mlp.down_proj.weight"} {
		want, err := src.Weight(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := back.Weight(name)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := want.Dense()
		b, errB := got.Dense()
		if errA != nil || errB != nil || len(a) != len(b) {
			t.Fatalf("%s: %v, %v", name, errA, errB)
		}
		for i := range a {
			if a[i] != b[i] || math.Abs(float64(a[i])) > 1 {
				t.Fatalf("%s: element %d is %v, want %v", name, i, b[i], a[i])
			}
		}
	}
	// All that the decoder asks for is there, and nothing else.
	if _, err := model.Measure(back, model.Limits{Rows: 1, Seqs: 1, Samples: 1, Blocks: 1, BlockTokens: 1}); err != nil {
		t.Error(err)
	}
}

// TestShapes holds the models to the numbers of parameters that they are published with, and to the bytes of their kinds.
func TestShapes(t *testing.T) {
	r := newRandom()
	for _, c := range []struct {
		shape
		parameters float64
	}{{smollm, 361821120}, {llama1b, 1235814400}, {llama8b, 8030261248}} {
		tables := float64(c.vocab * c.dim)
		if !c.tied {
			tables *= 2
		}
		blocks := c.parameters - tables
		for kind, want := range map[string]float64{
			dense: 2 * c.parameters, int4: blocks/2*(1+4./32) + tables*(1+2./32), lowRank: blocks + 2*tables,
		} {
			f, err := model.Measure(r.source(c.shape, kind), model.Limits{Rows: 1, Seqs: 1, Samples: 1, Blocks: 1, BlockTokens: 1})
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, kind, err)
				continue
			}
			if ratio := float64(f.Weights) / want; ratio < 0.98 || ratio > 1.01 {
				t.Errorf("%s, %s: %d bytes, want %.0f", c.name, kind, f.Weights, want)
			}
		}
	}
}

// TestHalf holds numbers in F16 to what they stand for.
func TestHalf(t *testing.T) {
	for x, want := range map[float32]uint16{1: 0x3c00, -2: 0xc000, 0.015625: 0x2400, 1.5: 0x3e00, 1e-9: 0, 65504: 0x7bff} {
		if got := half(x); got != want {
			t.Errorf("%v: got %#x, want %#x", x, got, want)
		}
	}
	for i, n := 0, floats(kernels.F16); i < len(n); i += 2 {
		if n[i+1]&0x7c == 0x7c {
			t.Fatalf("element %d is not finite", i/2)
		}
	}
}

// open opens a checkpoint until the test ends.
func open(t *testing.T, folder string) model.Source {
	t.Helper()
	c, err := checkpoint.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	src, err := model.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	return src
}
