package cpu

import (
	"fmt"
	"testing"

	"eckart/kernels"
)

// BenchmarkRead measures what a product with one row can reach at best: the machine's bandwidth of reading.
func BenchmarkRead(b *testing.B) {
	size := 256 << 20
	if testing.Short() {
		size = largeBench
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			d, err := Open(Options{Threads: threads})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			a, err := d.NewArena(int64(size))
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			m, err := a.Alloc(1, size/4, kernels.F32)
			if err != nil {
				b.Fatal(err)
			}
			clear(m.Host) // memory that was never written is one page of zeros
			for b.Loop() {
				d.Sweep(m)
			}
			b.SetBytes(int64(size))
		})
	}
}

// BenchmarkFirstTouch measures what it costs to write new memory for the first time.
func BenchmarkFirstTouch(b *testing.B) {
	const size = 64 << 20
	for b.Loop() {
		mem, err := reserve(size)
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < size; i += 4096 {
			mem[i] = 1
		}
		if err := release(mem); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
}
