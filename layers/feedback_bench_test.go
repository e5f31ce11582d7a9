package layers_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
)

// BenchmarkFeedback rounds matrices for a Gram matrix that has been prepared, and prepares it. For n columns each row is
// n²/2 products that are taken off: G/s. It sets the threads itself, as -cpu does not hold for a first run with b.Loop.
func BenchmarkFeedback(b *testing.B) {
	r := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	shapes := [][2]int{{2048, 2048}, {512, 8192}}
	if testing.Short() { // to see that it runs
		shapes = [][2]int{{256, 512}}
	}
	for _, shape := range shapes {
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
		g, err := layers.NewFeedbackGram(gram, linalg.Matrix{}, 0, false)
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, threads int, f func() error) {
			b.Run(fmt.Sprintf("%dx%d/%s/threads=%d", rows, n, name, threads), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)*float64(rows)*float64(n)*float64(n)/2/float64(b.Elapsed().Nanoseconds()), "G/s")
			})
		}
		for _, threads := range []int{1, 2} {
			run("prepared", threads, func() error {
				_, err := g.Quantize(w, rows, r)
				return err
			})
			run("whole", threads, func() error {
				_, err := layers.Feedback{Rounding: r}.Quantize(w, rows, gram)
				return err
			})
		}
	}
}
