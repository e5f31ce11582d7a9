package layers_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// BenchmarkFeedback rounds matrices for a Gram matrix that has been prepared, and prepares it. For n columns each row is
// n²/2 products that are taken off: G/s. Run it with -cpu 1,2.
func BenchmarkFeedback(b *testing.B) {
	r := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	for _, shape := range [][2]int{{2048, 2048}, {512, 8192}} {
		rows, n := shape[0], shape[1]
		rng := rand.New(rand.NewPCG(1, 2))
		w, gram := normal(rng, rows*n, 0.02), make([]float64, n*n)
		const depth = 6
		mix := normal(rng, n*depth, 1)
		for i := range n {
			for j := range i + 1 {
				for k := range depth {
					gram[i*n+j] += float64(mix[i*depth+k]) * float64(mix[j*depth+k])
				}
			}
			gram[i*n+i]++
		}
		g, err := layers.NewFeedbackGram(gram, 0, false)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dx%d", rows, n), func(b *testing.B) {
			for b.Loop() {
				if _, err := g.Quantize(w, rows, r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(rows)*float64(n)*float64(n)/2/float64(b.Elapsed().Nanoseconds()), "G/s")
		})
		b.Run(fmt.Sprintf("%dx%d/with-gram", rows, n), func(b *testing.B) {
			for b.Loop() {
				if _, err := (layers.Feedback{Rounding: r}).Quantize(w, rows, gram); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
