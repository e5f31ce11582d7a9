package layers_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
)

// BenchmarkQuantize rounds a BF16 matrix and packs it, as a load with --quantize does.
func BenchmarkQuantize(b *testing.B) {
	const rows, cols = 4096, 2048
	raw := make([]byte, 0, 2*rows*cols)
	rng := rand.New(rand.NewPCG(1, 2))
	for range rows * cols {
		raw = binary.LittleEndian.AppendUint16(raw, uint16(math.Float32bits(float32(rng.NormFloat64())/50)>>16))
	}
	d := layers.NewDense(layers.Part{Name: "weight", Type: kernels.BF16, Rows: rows, Cols: cols, Read: func(dst []byte, row int) error {
		copy(dst, raw[2*row*cols:])
		return nil
	}})
	dev, err := cpu.Open(cpu.Options{Threads: cpu.DefaultThreads()})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	stream, err := dev.NewStream()
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range []layers.Rounding{
		{Bits: 8, Group: 32}, {Bits: 4, Group: 32}, {Bits: 4, Group: 128}, {Bits: 4, Group: 32, Zeros: true}, {Bits: 3, Group: 32}, {Bits: 2, Group: 32},
	} {
		r.ScaleType = kernels.F16
		b.Run(fmt.Sprintf("int%d of %d zeros=%t", r.Bits, r.Group, r.Zeros), func(b *testing.B) {
			g, err := layers.Quantize(d, r, nil)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				arena, err := dev.NewArena(2 * rows * cols)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := g.Bind(arena, stream); err != nil {
					b.Fatal(err)
				}
				if err := arena.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*cols), "ns/weight")
		})
	}
}
