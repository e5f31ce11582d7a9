package compress

import "testing"

// TestDivergeWindows compares states of several windows, which a walker with windows shorter than the logits that it has at once
// compares as one with longer ones does.
func TestDivergeWindows(t *testing.T) {
	windows := [][]int32{{1, 2, 3, 4, 5, 6, 7, 8}, {9, 10, 11}, {12, 13, 14, 15, 16, 17, 18}}
	mean := func(window int) float64 {
		w := demoWalker(t, window)
		var of states
		if err := of.embed(w, windows); err != nil {
			t.Fatal(err)
		}
		from := of.clone()
		for i, h := range from {
			for j := range h {
				h[j] += 0.01 * float32((i+j)%7)
			}
		}
		m, err := diverge(w, w, windows, of, from)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Result(); r.Tokens != 18 || r.Reference.Tokens != 15 || r.KLMean <= 0 {
			t.Errorf("windows of %d: %d tokens compared, %d scored, divergence %g", window, r.Tokens, r.Reference.Tokens, r.KLMean)
		}
		return m.Mean()
	}
	if short, long := mean(8), mean(40); short != long {
		t.Errorf("divergence %g, with longer windows %g", short, long)
	}
}
