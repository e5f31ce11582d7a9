package model_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"eckart/kernels"
	"eckart/model/modeltest"
	"eckart/model/tokenizer"
)

// TestHeldoutPerplexity scores real text with a trained model. The reference figure is transformers' in F32, over
// windows of 512 tokens that do not overlap, without special tokens, the first token of each not scored.
func TestHeldoutPerplexity(t *testing.T) {
	const (
		shared  = "../../shared/models"
		window  = 512
		windows = 48
		want    = 10.3482
	)
	if _, err := os.Stat(shared); err != nil {
		t.Skip("no shared models")
	}
	if testing.Short() {
		t.Skip("scores 24,000 tokens")
	}
	dir := filepath.Join(shared, "gopher-dense")
	text, err := os.ReadFile(filepath.Join(shared, "text/heldout.txt"))
	if err != nil {
		t.Fatal(err)
	}
	vocabulary, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.New(vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode(string(text), tokenizer.EncodeOptions{})
	m := modeltest.Load(t, openCPU(t), dir, kernels.F32)
	step := m.Batch.Limits().Rows
	var loss float64
	for w := range windows {
		tokens := ids[w*window : (w+1)*window]
		for from := 0; from < window; from += step {
			for i, row := range m.Logits(t, tokens[from:from+step], from) {
				if next := from + i + 1; next < window {
					loss -= logProb(row, tokens[next])
				}
			}
		}
	}
	got := math.Exp(loss / (windows * (window - 1)))
	t.Logf("perplexity %.4f", got)
	if math.Abs(got-want) > 2e-4*want {
		t.Errorf("perplexity %.4f, want %.4f", got, want)
	}
}

// logProb returns the logarithm of id's probability under softmax(logits).
func logProb(logits []float32, id int32) float64 {
	top := float64(logits[argmax(logits)])
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return float64(logits[id]) - top - math.Log(sum)
}

func argmax(v []float32) int {
	best := 0
	for i, f := range v {
		if f > v[best] {
			best = i
		}
	}
	return best
}
