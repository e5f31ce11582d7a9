package kerneltest

import (
	"fmt"

	"eckart/kernels"
)

// testMark holds that a stream can be waited for in part: what was downloaded before a mark is there when it has been waited
// for, while what comes behind is under way; Upload has read its source by then; and all is there after Sync. A device that
// marks nothing passes.
func testMark(b *bench) {
	m, ok := b.stream.(kernels.Marker)
	if !ok {
		return
	}
	for _, n := range []int{1, 75_000} { // the larger ones fill whatever memory there is on the way, again and again
		b.reset()
		const steps = 40
		x, gain := b.take(1, n, kernels.F32), b.take(1, n, kernels.F32)
		ones, src := make([]float32, n), make([]float32, n)
		for i := range ones {
			ones[i] = 1
		}
		b.stream.Upload(gain, kernels.Float32Bytes(ones))
		b.sync()
		var got [2][]float32
		for i := range got {
			got[i] = make([]float32, n)
		}
		start := func(step int) {
			for i := range src {
				src[i] = float32(step*n + i)
			}
			b.stream.Upload(x, kernels.Float32Bytes(src))
			clear(src)
			b.stream.Bias(x, gain)
			b.stream.Download(kernels.Float32Bytes(got[step%2]), x)
		}
		see := func(step int) {
			b.Helper()
			for _, i := range []int{0, n / 2, n - 1} {
				if want := float32(step*n+i) + 1; got[step%2][i] != want {
					b.Fatalf("%d elements, step %d: element %d is %v, want %v", n, step, i, got[step%2][i], want)
				}
			}
			clear(got[step%2])
		}
		start(0)
		for step := range steps {
			m.Mark()
			start(step + 1)
			if err := m.Await(); err != nil {
				b.Fatal(err)
			}
			see(step)
			if step%16 == 15 { // everything has an end
				b.sync()
				see(step + 1)
				start(step + 1)
			}
		}
		m.Mark() // Sync takes it away
		b.sync()
		see(steps)
		m.Mark()
		if err := m.Await(); err != nil {
			b.Fatal(fmt.Errorf("nothing before the mark: %w", err))
		}
	}
}
