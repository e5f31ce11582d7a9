package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/internal/divergence"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
	"eckart/model/tokenizer"
)

// comparerFor brings the built-in model up twice, once rounded, with a sizing.
func comparerFor(t *testing.T, bits int, s launch.Sizing) *comparer {
	t.Helper()
	m, err := launch.Open("")
	if err != nil {
		t.Fatal(err)
	}
	m.Quantize(&model.Quantization{Blocks: &layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}})
	i, err := launch.Start(t.Context(), m, launch.Options{Sizing: s, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(i.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return newComparer(newScorer(i, s.Context), scorerFor(t, s))
}

// logProbabilities is the plain log-softmax of what s predicts after token at of ids, whose tokens before were computed.
func logProbabilities(t *testing.T, s *scorer, ids []int32, at int) []float64 {
	t.Helper()
	s.Batch.Reset()
	s.Batch.Add(ids[at:at+1], at, s.blocks, []int{0})
	logits, err := s.Decoder.Forward(s.Batch)
	if err != nil {
		t.Fatal(err)
	}
	row := logits.Float32s(0)
	sum := 0.0
	for _, v := range row {
		sum += math.Exp(float64(v))
	}
	all := make([]float64, len(row))
	for i, v := range row {
		all[i] = float64(v) - math.Log(sum)
	}
	return all
}

// TestCompare holds a comparison with a rounded model against one that is computed token by token, and finds the same
// figures, to the bit, whichever pieces a window is computed in.
func TestCompare(t *testing.T) {
	const window = 40
	c := comparerFor(t, 8, launch.Sizing{Context: window, Slots: 1, StepTokens: window, Samples: window, CacheType: kernels.F32})
	ids := c.model.Tokenizer.Encode(strings.Repeat(sample, 8), tokenizer.EncodeOptions{})[:2*window+1] // one that makes no window
	steps := 0
	meter, err := c.compare(t.Context(), ids, func(done int, m *divergence.Meter) {
		if steps++; done != steps || m.Result().Tokens != done*(window-1) {
			t.Errorf("step %d: %d windows done, %d tokens", steps, done, m.Result().Tokens)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := meter.Result()

	var kl []float64
	var mean, loss, referenceLoss, agree float64
	const tokens = 2 * (window - 1)
	for _, text := range [][]int32{ids[:window], ids[window : 2*window]} {
		for at := range window - 1 {
			p, q := logProbabilities(t, c.reference, text, at), logProbabilities(t, c.model, text, at)
			d := 0.0
			for i := range p {
				d += math.Exp(p[i]) * (p[i] - q[i])
			}
			kl, mean = append(kl, d), mean+d/tokens
			referenceLoss -= p[text[at+1]] / tokens
			loss -= q[text[at+1]] / tokens
			if slices.Index(p, slices.Max(p)) == slices.Index(q, slices.Max(q)) {
				agree++
			}
		}
	}
	near := func(name string, got, want float64) {
		if !(math.Abs(got-want) <= 1e-6*want) {
			t.Errorf("%s %.10g, want %.10g", name, got, want)
		}
	}
	near("mean", got.KLMean, mean)
	near("max", got.KLMax, slices.Max(kl))
	near("top1", got.Top1, agree/tokens)
	near("perplexity", got.Model.Perplexity(), math.Exp(loss))
	near("reference perplexity", got.Reference.Perplexity(), math.Exp(referenceLoss))
	if got.Tokens != tokens || mean < 1e-7 || mean > 1e-2 {
		t.Errorf("%d tokens with a mean of %g", got.Tokens, mean)
	}

	for _, s := range []launch.Sizing{{StepTokens: window, Samples: 5}, {StepTokens: 7, Samples: 3}} {
		s.Context, s.Slots, s.CacheType = window, 1, kernels.F32
		pieces, err := comparerFor(t, 8, s).compare(t.Context(), ids, func(int, *divergence.Meter) {})
		if err != nil || pieces.Result() != got {
			t.Errorf("steps of %d with %d rows of logits: %+v, error %v, want %+v", s.StepTokens, s.Samples, pieces.Result(), err, got)
		}
	}
}

// TestCompareSizing: the logits of a step take no more than they may, and a step still has the rows of a piece.
func TestCompareSizing(t *testing.T) {
	for _, c := range []struct{ window, vocab, want int }{{512, 4096, 512}, {2048, 4096, 512}, {512, 128256, 130}, {512, 1 << 20, 64}, {32, 128256, 32}} {
		if got := compareSizing(c.window, c.vocab, kernels.F16).StepTokens; got != c.want {
			t.Errorf("windows of %d, vocabulary of %d: steps of %d tokens, want %d", c.window, c.vocab, got, c.want)
		}
	}
}

// TestEvalAgainst runs the command: a model does not differ from itself, and rounding is for one of the two alone.
func TestEvalAgainst(t *testing.T) {
	run := func(args ...string) (e evaluation, keys map[string]any) {
		t.Helper()
		args = slices.Concat([]string{"eval", "--json", "--window", "32", "--windows", "3", "--threads", "2", "--text", "-"}, args)
		status, stdout, stderr := eckart(t, strings.Repeat(sample, 12), args...)
		if status != 0 || stderr != "" {
			t.Fatalf("%q: status %d, stderr %q", args, status, stderr)
		}
		if err := errors.Join(json.Unmarshal([]byte(stdout), &e), json.Unmarshal([]byte(stdout), &keys)); err != nil {
			t.Fatal(err)
		}
		return e, keys
	}
	// The loss of a token is computed alone in one case and beside another model's in the other: the last bits may differ.
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*b }
	alone, keys := run()
	if _, ok := keys["kl_mean"]; ok || alone.Comparison != nil {
		t.Errorf("without --against there is %v", keys)
	}
	same, keys := run("--against", "demo")
	for _, key := range []string{
		"model", "perplexity", "standard_error", "tokens", "windows", "window", "cache_type", "device", "seconds", "tokens_per_second",
		"against", "against_perplexity", "against_standard_error", "kl_mean", "kl_p50", "kl_p90", "kl_p99", "kl_max", "top1",
	} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no %s in %v", key, keys)
		}
	}
	if same.KLMean != 0 || same.KLMax != 0 || same.Top1 != 1 || !near(same.Perplexity, alone.Perplexity) ||
		!near(same.AgainstPerplexity, alone.Perplexity) || same.Tokens != alone.Tokens || same.Against != "gopher-dense" {
		t.Errorf("against itself: %+v, %+v", same, *same.Comparison)
	}
	rounded, _ := run("--quantize", "int4", "--against", "demo")
	plain, _ := run("--quantize", "int4")
	if !near(rounded.AgainstPerplexity, alone.Perplexity) || !near(rounded.Perplexity, plain.Perplexity) || near(plain.Perplexity, alone.Perplexity) {
		t.Errorf("perplexity %g rounded, %g against, want %g and %g", rounded.Perplexity, rounded.AgainstPerplexity, plain.Perplexity, alone.Perplexity)
	}
	k := rounded.Comparison
	if !(0 < k.KLP50 && k.KLP50 < k.KLP90 && k.KLP90 < k.KLP99 && k.KLP99 <= k.KLMax && k.KLMean < k.KLMax && k.KLMean < 0.2) || !(0.5 < k.Top1 && k.Top1 <= 1) {
		t.Errorf("rounded to int4: %+v", *k)
	}

	status, stdout, stderr := eckart(t, strings.Repeat(sample, 12), "eval", "--window", "32", "--text", "-", "--quantize", "int4", "--against", "demo")
	lines := strings.Split(strings.TrimRight(stdout, "\n"), "\n")
	if status != 0 || stderr != "" || len(lines) != 6 || len(strings.Fields(lines[4])) != 9 || len(strings.Fields(lines[5])) != 2 {
		t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
}

// TestEvalAgainstRefusals: models that do not predict the same tokens cannot be compared.
func TestEvalAgainstRefusals(t *testing.T) {
	const from = "../internal/demo/gopher-dense"
	other := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "tokenizer.json" { // the same tokens, which text never merges to
			var file map[string]json.RawMessage
			var bpe map[string]json.RawMessage
			if err := errors.Join(json.Unmarshal(text, &file), json.Unmarshal(file["model"], &bpe)); err != nil {
				t.Fatal(err)
			}
			bpe["merges"] = json.RawMessage("[]")
			if file["model"], err = json.Marshal(bpe); err != nil {
				t.Fatal(err)
			}
			if text, err = json.Marshal(file); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(other, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--against", "../../model/testdata/llama", "--window", "32"}, command.Failed, "has a vocabulary of 320 tokens and the model one of 4096"},
		{[]string{"--against", other, "--window", "32"}, command.Failed, "makes other tokens of --text, from token"},
		{[]string{"--against", filepath.Join(other, "nowhere")}, command.Failed, "open --against: "},
		{[]string{"--against", "demo", "--window", "4096"}, command.BadUsage, "--window 4096 is more than the 2048 positions that --against demo"},
	} {
		status, stdout, stderr := eckart(t, strings.Repeat(sample, 12), slices.Concat([]string{"eval", "--text", "-"}, c.args)...)
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, stdout %q, stderr %q, want %q", c.args, status, stdout, stderr, c.want)
		}
	}
}

// TestHeldoutDivergence scores real text with a trained model, as it is and rounded. The reference figures (shared/golden/compression) are of plain rounding
// to nearest, of the blocks alone, with 8 and 4 bits in groups of 32; the scales here are searched, which is better.
func TestHeldoutDivergence(t *testing.T) {
	const shared = "../../../shared/models"
	if _, err := os.Stat(shared); err != nil {
		t.Skip("no shared models")
	}
	if testing.Short() {
		t.Skip("scores 24,000 tokens, four times")
	}
	dense := filepath.Join(shared, "gopher-dense")
	for _, c := range []struct {
		quantize             string
		perplexity, kl, top1 float64
	}{{"int8", 10.3512, 0.00005, 0.9955}, {"int4", 10.5057, 0.01739, 0.9264}} {
		status, stdout, stderr := eckart(t, "", "eval", "--json", "--cache-type", "f32", "--windows", "48", "--text", filepath.Join(shared, "text/heldout.txt"), dense,
			"--quantize", c.quantize, "--quantize-tables", "keep", "--activations", "f32", "--against", dense)
		var e evaluation
		if err := json.Unmarshal([]byte(stdout), &e); status != 0 || err != nil {
			t.Fatalf("status %d, error %v, stderr %q in\n%s", status, err, stderr, stdout)
		}
		t.Logf("%s: perplexity %.4f (%.4f), KL %.5f (%.5f), top-1 %.4f (%.4f)", c.quantize, e.Perplexity, c.perplexity, e.KLMean, c.kl, e.Top1, c.top1)
		if e.KLMean < 0.3*c.kl || e.KLMean > 1.2*c.kl || math.Abs(e.Top1-c.top1) > 0.3*(1-c.top1) || math.Abs(e.Perplexity-c.perplexity) > 0.01*c.perplexity {
			t.Errorf("%s: %+v", c.quantize, *e.Comparison)
		}
		// That of the model as it was trained, in F32, over windows of 512 tokens of which the first is not scored.
		if math.Abs(e.AgainstPerplexity-10.3482) > 2e-4*10.3482 || e.Tokens != 48*511 || e.Windows != 48 || e.Window != 512 {
			t.Errorf("%s: perplexity against %.4f, want 10.3482; scored %+v", c.quantize, e.AgainstPerplexity, e)
		}
	}
}
