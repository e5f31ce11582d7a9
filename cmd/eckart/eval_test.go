package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/internal/divergence"
	"eckart/kernels"
	"eckart/model/tokenizer"
)

const sample = "// Add returns the sum of a and b.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n\n"

// scorerFor brings the built-in model up with a sizing.
func scorerFor(t *testing.T, s launch.Sizing) *scorer {
	t.Helper()
	m, err := launch.Open("")
	if err != nil {
		t.Fatal(err)
	}
	i, err := launch.Start(t.Context(), m, launch.Options{Sizing: s, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(i.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return newScorer(i, s.Context)
}

// TestScore holds the losses against logits that are asked for token by token, and finds the same ones, to the bit,
// whichever pieces a window is computed in.
func TestScore(t *testing.T) {
	const window = 48
	whole := scorerFor(t, launch.Sizing{Context: window, Slots: 1, StepTokens: window, Samples: window, CacheType: kernels.F32})
	ids := whole.Tokenizer.Encode(strings.Repeat(sample, 8), tokenizer.EncodeOptions{})
	if len(ids) < 2*window+1 {
		t.Fatalf("the sample has %d tokens", len(ids))
	}
	ids = ids[:2*window+1] // one that makes no window
	quiet := func(int, divergence.Score) {}
	got, err := whole.score(t.Context(), ids, quiet)
	if err != nil {
		t.Fatal(err)
	}

	var want divergence.Score
	for _, text := range [][]int32{ids[:window], ids[window : 2*window]} {
		for at := range window - 1 {
			whole.Batch.Reset()
			whole.Batch.Add(text[at:at+1], at, whole.blocks, []int{0})
			logits, err := whole.Decoder.Forward(whole.Batch)
			if err != nil {
				t.Fatal(err)
			}
			p := 0.0 // of all tokens relative to the next one
			for _, v := range logits.Float32s(0) {
				p += math.Exp(float64(v - logits.Float32s(0)[text[at+1]]))
			}
			want.Add(math.Log(p))
		}
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-4*b }
	if got.Tokens != want.Tokens || !near(got.Perplexity(), want.Perplexity()) || !near(got.StandardError(), want.StandardError()) {
		t.Errorf("score %+v, want %+v", got, want)
	}

	for _, s := range []launch.Sizing{
		{StepTokens: window, Samples: 5},
		{StepTokens: 20, Samples: 20},
		{StepTokens: 7, Samples: 3},
	} {
		s.Context, s.Slots, s.CacheType = window, 1, kernels.F32
		if pieces, err := scorerFor(t, s).score(t.Context(), ids, quiet); err != nil || pieces != got {
			t.Errorf("steps of %d with %d rows of logits: score %+v, error %v, want %+v", s.StepTokens, s.Samples, pieces, err, got)
		}
	}
}

// TestScoreInterrupted stops after a window.
func TestScoreInterrupted(t *testing.T) {
	s := scorerFor(t, scoreSizing(16, kernels.F16))
	ctx, stop := context.WithCancel(t.Context())
	sum, err := s.score(ctx, make([]int32, 64), func(int, divergence.Score) { stop() })
	if !errors.Is(err, context.Canceled) || sum.Tokens != 15 {
		t.Errorf("error %v after %d tokens, want an interruption after 15", err, sum.Tokens)
	}
}

func TestScoreLine(t *testing.T) {
	if got, want := scoreLine(2, 6, "perplexity 20.0855", 3*time.Second), "[2 of 6] perplexity 20.0855, 6s left"; got != want {
		t.Errorf("progress %q, want %q", got, want)
	}
}

// TestEval runs the command: figures for people and for programs, from a file and from standard input.
func TestEval(t *testing.T) {
	text := strings.Repeat(sample, 12)
	status, stdout, stderr := eckart(t, text, "eval", "--json", "--window", "32", "--windows", "3", "--threads", "1", "--text", "-")
	var e evaluation
	if err := json.Unmarshal([]byte(stdout), &e); status != 0 || err != nil || stderr != "" {
		t.Fatalf("status %d, error %v, stderr %q in\n%s", status, err, stderr, stdout)
	}
	if e.Tokens != 3*31 || e.Windows != 3 || e.Model != "gopher-dense" || e.CacheType != "f16" || !(e.Perplexity > 1 && e.Perplexity < 1000) || !(e.StandardError > 0) {
		t.Errorf("evaluation %+v", e)
	}
	name := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr = eckart(t, "", "eval", "--window", "32", "--text", name)
	if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "perplexity ") || !strings.Contains(stdout, "windows of 32)") {
		t.Errorf("status %d, stderr %q, stdout %q", status, stderr, stdout)
	}
}

func TestEvalRefusals(t *testing.T) {
	dir := t.TempDir()
	latin := filepath.Join(dir, "latin1")
	if err := os.WriteFile(latin, []byte("na\xefve"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, command.BadUsage, "--text"},
		{[]string{"--text", "-", "--window", "1"}, command.BadUsage, "--window must be at least 2, got 1"},
		{[]string{"--text", "-", "--window", "4096"}, command.BadUsage, "--window 4096 is more than the 2048 positions"},
		{[]string{"--text", "-", "--windows=-1"}, command.BadUsage, "--windows must be from 1"},
		{[]string{"--text", "-", "--threads=-1"}, command.BadUsage, "--threads must be from 1"},
		{[]string{"--text", "-"}, command.Failed, "it has 0 tokens, which do not fill one --window of 512"},
		{[]string{"--text", filepath.Join(dir, "nowhere")}, command.Failed, "no such file"},
		{[]string{"--text", dir}, command.Failed, "is a directory"},
		{[]string{"--text", latin}, command.Failed, "is not UTF-8: byte 2 is 0xef"},
	} {
		status, stdout, stderr := eckart(t, "", slices.Concat([]string{"eval"}, c.args)...)
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, stdout %q, stderr %q, want %q", c.args, status, stdout, stderr, c.want)
		}
	}
}
