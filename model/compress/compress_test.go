package compress_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"eckart/kernels/cpu"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/compress"
	"eckart/model/tokenizer"
)

// demo is the small trained model that the commands have built in. What it was trained on is Go, which the tests have.
const demo = "../../cmd/internal/demo/gopher-dense"

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// shallow is a model of which only the first blocks are left: enough for what does not depend on what it predicts.
type shallow struct {
	model.Source
	blocks int
}

func (s shallow) Config() []byte {
	return []byte(strings.Replace(string(s.Source.Config()), `"num_hidden_layers": 8`, fmt.Sprintf(`"num_hidden_layers": %d`, s.blocks), 1))
}

func (s shallow) Names() []string {
	return slices.DeleteFunc(slices.Clone(s.Source.Names()), func(name string) bool {
		var block int
		n, _ := fmt.Sscanf(name, "model.layers.%d.", &block)
		return n == 1 && block >= s.blocks
	})
}

// open returns a walker over the first blocks of the demo model, which has 8, for windows of 256 tokens.
func open(t testing.TB, blocks int) *model.Walker {
	t.Helper()
	c := must(checkpoint.Open(demo))(t)
	t.Cleanup(func() { c.Close() })
	dev := must(cpu.Open(cpu.Options{Threads: 2}))(t)
	t.Cleanup(func() { dev.Close() })
	w := must(model.NewWalker(shallow{must(model.NewSource(c))(t), blocks}, dev, 256))(t)
	t.Cleanup(func() { w.Close() })
	return w
}

// windows returns n windows of a text from one on: Go source of this project as it once was, which must not change with it.
func windows(t testing.TB, from, n int) [][]int32 {
	t.Helper()
	tok := must(tokenizer.New(must(os.ReadFile(demo + "/tokenizer.json"))(t)))(t)
	ids := tok.Encode(string(must(os.ReadFile("testdata/source.txt"))(t)), tokenizer.EncodeOptions{})
	if len(ids) < (from+n)*256 {
		t.Fatalf("%d tokens, want %d windows of them", len(ids), from+n)
	}
	var all [][]int32
	for i := range n {
		all = append(all, ids[(from+i)*256:][:256])
	}
	return all
}

func quiet(int, int) {}

// survey returns what is known of the demo's inputs on some windows.
func survey(t testing.TB, w *model.Walker, windows [][]int32) *compress.Statistics {
	t.Helper()
	return must(compress.Survey(t.Context(), w, windows, quiet))(t)
}

// planFor returns the plan that stores every matrix in one form.
func planFor(t testing.TB, w *model.Walker, known compress.Inputs, form string, ratio float64) *compress.Plan {
	t.Helper()
	only := must(compress.ParseChoice(form, known != nil))(t)
	p := must(compress.NewPlanner(t.Context(), w, known, nil, compress.Space{Only: &only, Ratio: ratio}, quiet))(t)
	return must(p.Plan(compress.Policy{}))(t)
}

// run carries a plan out.
func run(t testing.TB, w *model.Walker, known compress.Inputs, p *compress.Plan, drift, verify [][]int32) *compress.Result {
	t.Helper()
	return must(compress.Run(t.Context(), w, p, known, compress.Options{
		Drift: drift, Verify: verify, Progress: func(string, int, int) {},
	}))(t)
}

// TestPredicted has every method do what was predicted of it, matrix by matrix, and store as many bytes as planned.
func TestPredicted(t *testing.T) {
	// What one method shares with the others, like going from block to block, the quick ones show.
	one, two := open(t, 1), open(t, 2)
	known := survey(t, two, windows(t, 0, 12))
	for _, m := range []struct {
		form  string
		ratio float64
		slow  bool
	}{
		{"lowrank", 0.6, false},
		{"lowrank/int8", 0.8, true},
		{"lowrank:svd", 0.6, true},
		{"lowrank:diagonal", 0.6, true},
		{"lowrank:output_pca", 0.6, true},
		{"joint", 0.6, false},
		{"joint/int8", 0.5, true},
		{"pifa", 0.6, false},
		{"int8", 0, true},
		{"int4/64", 0, false},
		{"int3z", 0, true},
		{"int3:nearest", 0, true},
		{"int2", 0, true},
		{"int3+r16", 0, false},
		{"int4+r8:eora", 0, true},
		{"int2+r16", 0, true},
		{"int3+r8/bf16:alternated1", 0, true},
		{"int3+r8:alternated_near2", 0, true},
	} {
		t.Run(m.form, func(t *testing.T) {
			if m.slow && testing.Short() {
				t.Skip("one of many")
			}
			w := two
			if m.slow {
				w = one
			}
			p := planFor(t, w, known, m.form, m.ratio)
			r := run(t, w, known, p, nil, nil)
			if len(r.Report.Modules) != len(p.Modules) {
				t.Fatalf("%d modules of %d planned", len(r.Report.Modules), len(p.Modules))
			}
			for i, got := range r.Report.Modules {
				want := p.Modules[i]
				if got.Name != want.Name || got.Bytes != want.Bytes || got.Bytes >= got.BytesBefore {
					t.Errorf("%s takes %d bytes of %d, planned is %s with %d", got.Name, got.Bytes, got.BytesBefore, want.Name, want.Bytes)
				}
				if math.Abs(got.Reached-want.Error) > 0.05*want.Error {
					t.Errorf("%s as %s: error %g, predicted %g", got.Name, got.Kind, got.Reached, want.Error)
				}
			}
		})
	}
}

// TestDrift has the correction take off a good part of what low rank costs: a seventh in four blocks, as in all of them.
func TestDrift(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a model many times")
	}
	w := open(t, 4)
	learn, verify := windows(t, 0, 12), windows(t, 12, 4)
	known := survey(t, w, learn)
	p := planFor(t, w, known, "lowrank", 0.6)
	without := run(t, w, known, p, nil, verify).Report.Verified
	with := run(t, w, known, p, learn, verify).Report.Verified
	t.Logf("divergence %.4f without, %.4f with", without.KLMean, with.KLMean)
	if with.KLMean > 0.95*without.KLMean {
		t.Errorf("divergence %.4f with the drift corrected, %.4f without", with.KLMean, without.KLMean)
	}
	if v := with; v.Tokens != 4*256 || v.Top1 < 0.5 || v.KLP50 > v.KLMean || v.KLP99 < v.KLP90 {
		t.Errorf("verification %+v", v)
	}
}

// TestKeep has a plan that keeps everything give the model itself.
func TestKeep(t *testing.T) {
	w := open(t, 2)
	p := planFor(t, w, nil, "keep", 0)
	r := run(t, w, nil, p, nil, windows(t, 0, 2))
	if v := r.Report.Verified; v.KLMean != 0 || v.Top1 != 1 || v.PerplexityAfter != v.PerplexityBefore {
		t.Errorf("the model diverges from itself: %+v", v)
	}
	if r.Report.After.LinearBytes != r.Report.Before.LinearBytes || r.Report.After.BitsPerWeight != 16 {
		t.Errorf("totals %+v", r.Report.After)
	}
}

// TestPlanner has plans keep to budgets, and lose less where they may take more.
func TestPlanner(t *testing.T) {
	if testing.Short() {
		t.Skip("tries every choice for every matrix")
	}
	w := open(t, 2)
	learn := windows(t, 0, 8)
	known := survey(t, w, learn)
	sensitivities := must(compress.Sensitivities(t.Context(), w, known, learn[:2], quiet))(t)
	sum := must(compress.Matrices(w))(t)
	p := must(compress.NewPlanner(t.Context(), w, known, sensitivities, compress.Space{Forms: []string{"round", "lowrank"}}, quiet))(t)

	last := math.Inf(1)
	for _, ratio := range []float64{0.2, 0.3, 0.5, 0.8, 1} {
		budget := int64(ratio * float64(sum.Bytes))
		plan := must(p.Plan(compress.Policy{Bytes: budget}))(t)
		if plan.Bytes > budget || float64(plan.Bytes) < 0.97*float64(budget) && plan.Loss > 0 {
			t.Errorf("a budget of %d gives %d bytes", budget, plan.Bytes)
		}
		if plan.Loss > last {
			t.Errorf("a budget of %d loses %g, more than a smaller one", budget, plan.Loss)
		}
		last = plan.Loss
	}
	if last != 0 {
		t.Errorf("the whole model loses %g", last)
	}

	var short *compress.BudgetError
	if _, err := p.Plan(compress.Policy{Bytes: sum.Bytes / 20}); !errors.As(err, &short) {
		t.Fatalf("a twentieth gives %v", err)
	}
	if _, err := p.Plan(compress.Policy{Bytes: int64(short.Least)}); err != nil {
		t.Errorf("the smallest budget that the error names: %v", err)
	}

	// What is predicted to be lost is about what is lost, on other text.
	plan := must(p.Plan(compress.Policy{Loss: 0.02}))(t)
	if plan.Loss > 0.02 || plan.Loss < 0.015 {
		t.Errorf("a plan that may lose 0.02 is predicted to lose %g", plan.Loss)
	}
	if kl := run(t, w, known, plan, nil, windows(t, 12, 4)).Report.Verified.KLMean; kl < 0.005 || kl > 0.08 {
		t.Errorf("a plan that is predicted to lose %g loses %g", plan.Loss, kl)
	}
}

// TestPlan has plans survive as text, and what is wrong with an edited one be named.
func TestPlan(t *testing.T) {
	w := open(t, 2)
	p := planFor(t, w, nil, "int4/64", 0)
	p.Model = "digest"
	text := must(p.Encode())(t)
	again := must(compress.ParsePlan(text))(t)
	if err := again.Check(w, "digest"); err != nil {
		t.Fatal(err)
	}
	if must(again.Encode())(t); string(must(again.Encode())(t)) != string(text) {
		t.Error("a plan that was read is another one when written")
	}
	for _, c := range []struct{ old, new, want string }{
		{`"digest"`, `"other"`, "another model"},
		{`"version": 1`, `"version": 2`, "version 2"},
		{`"form": "round"`, `"form": "square"`, `form "square" is unknown`},
		{`"bits": 4`, `"bits": 5`, "5 bits"},
		{`"module": "model.layers.0.self_attn.q_proj"`, `"module": "model.layers.0.self_attn.k_proj"`, "twice"},
		{`"module": "model.layers.1.mlp.up_proj"`, `"module": "model.layers.1.mlp.down"`, "model.layers.1.mlp.up_proj is missing"},
		{`"bits": 4`, `"bit": 4`, `unknown field "bit"`},
	} {
		p, err := compress.ParsePlan([]byte(strings.Replace(string(text), c.old, c.new, 1)))
		if err == nil {
			err = p.Check(w, "digest")
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in place of %s: %v, want it to say %q", c.new, c.old, err, c.want)
		}
	}
}

// TestRunEnds has a run end when its context does, and hear of it.
func TestRunEnds(t *testing.T) {
	w := open(t, 2)
	p := planFor(t, w, nil, "int4", 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	_, err := compress.Run(ctx, w, p, nil, compress.Options{Verify: windows(t, 0, 1), Progress: func(_ string, done, _ int) {
		if done == 1 {
			cancel(stop)
		}
	}})
	if !errors.Is(err, stop) {
		t.Errorf("ended with %v", err)
	}
}
