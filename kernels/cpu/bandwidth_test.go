package cpu

import (
	"bytes"
	"fmt"
	"testing"
)

// search reads memory as fast as the standard library can: it looks for a byte that is not there.
type search struct{ chunks [][]byte }

func (s *search) do(_, chunk int) {
	if bytes.IndexByte(s.chunks[chunk], 1) >= 0 {
		panic("BUG: found")
	}
}

// BenchmarkRead measures what a product with one row can reach at best: the machine's bandwidth of reading.
func BenchmarkRead(b *testing.B) {
	const size, part = 256 << 20, 128 << 10
	mem, err := reserve(size)
	if err != nil {
		b.Fatal(err)
	}
	defer release(mem)
	clear(mem)
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := newPool(threads)
			defer p.close()
			s := &search{}
			for at := 0; at < size; at += part {
				s.chunks = append(s.chunks, mem[at:at+part])
			}
			for b.Loop() {
				p.run(len(s.chunks), s)
			}
			b.SetBytes(size)
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
