package lowrank_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// benchBytes is the bytes of weights that each of two layers goes through before it comes to a matrix again: both together
// more than caches hold, as in a model. With many rows it is arithmetic that takes the time; with -short it is a few matrices.
func benchBytes(rows int) int64 {
	switch {
	case testing.Short():
		return 4 << 20
	case rows > 1:
		return 64 << 20
	}
	return 224 << 20
}

// benchShapes returns (out, in) of the linears of a model of 2048 features; with -short one, to see that all runs.
func benchShapes() [][2]int {
	if testing.Short() {
		return [][2]int{{512, 2048}}
	}
	return [][2]int{{2048, 2048}, {512, 2048}, {8192, 2048}, {2048, 8192}}
}

// densities returns the shares of bytes at which layers of low rank are measured; with -short one.
func densities() []float64 {
	if testing.Short() {
		return []float64{0.5}
	}
	return []float64{0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
}

// BenchmarkRatio times a layer of low rank and the dense layer that it stands for, BF16 both, in turns. It prints what one
// takes of the other's time ("ratio", of the fastest of many) beside what it has of the other's bytes ("density").
func BenchmarkRatio(b *testing.B) {
	for _, kind := range []string{"lowrank", "pifa"} {
		for _, threads := range []int{1, 2} {
			for _, rows := range []int{1, 512} {
				for _, s := range benchShapes() {
					for _, density := range densities() {
						name := fmt.Sprintf("%s/threads=%d/rows=%d/%dx%d/%.1f", kind, threads, rows, s[0], s[1], density)
						b.Run(name, func(b *testing.B) {
							d := openBench(b, threads, rows)
							out, in := s[0], s[1]
							d.turns(rows, func() layers.Weight { return d.bf16(out, in) }, func() layers.Weight { return d.ofDensity(kind, out, in, density) })
						})
					}
				}
			}
		}
	}
}

// BenchmarkResidual times a base of 4 bits with a residual of low rank beside the base alone, and prints the ratio of the
// times beside that of the bytes.
func BenchmarkResidual(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, rows := range []int{1, 512} {
			for _, s := range benchShapes() {
				for _, rank := range []int{64, 128} {
					b.Run(fmt.Sprintf("threads=%d/rows=%d/%dx%d/rank=%d", threads, rows, s[0], s[1], rank), func(b *testing.B) {
						d := openBench(b, threads, rows)
						out, in := s[0], s[1]
						d.turns(rows, func() layers.Weight { return d.int4(out, in) }, func() layers.Weight {
							return d.must(layers.NewSum(d.int4(out, in), d.must(lowrank.New(d.bf16(out, rank), d.bf16(rank, in)))))
						})
					})
				}
			}
		}
	}
}

type ratioBench struct {
	*testing.B
	kernels.Arena
	stream kernels.Stream
	bytes  int64  // benchBytes
	noise  []byte // numbers in BF16
	codes  []byte // of 4 bits
}

func openBench(b *testing.B, threads, rows int) *ratioBench {
	dev, err := cpu.Open(cpu.Options{Threads: threads})
	if err != nil {
		b.Fatal(err)
	}
	enough := benchBytes(rows)
	a, err := dev.NewArena(2*enough + 512<<20)
	if err != nil {
		b.Fatal(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = a.Close(), dev.Close() })
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for i := 0; i < len(noise); i += 2 { // numbers of some 1/64, of either sign
		bits := math.Float32bits(float32(rng.NormFloat64())/64) >> 16
		noise[i], noise[i+1] = byte(bits), byte(bits>>8)
	}
	codes := make([]byte, len(noise))
	for i, b := range noise {
		codes[i] = b & 15
	}
	return &ratioBench{b, a, s, enough, noise, codes}
}

func (d *ratioBench) must(w layers.Weight, err error) layers.Weight {
	if err != nil {
		d.Fatal(err)
	}
	return w
}

func (d *ratioBench) bf16(out, in int) layers.Weight {
	return layers.NewDense(layers.Part{Type: kernels.BF16, Rows: out, Cols: in, Read: func(dst []byte, _ int) error {
		fill(dst, d.noise)
		return nil
	}})
}

// fill repeats some bytes.
func fill(dst, some []byte) {
	for len(dst) > 0 {
		dst = dst[copy(dst, some):]
	}
}

func (d *ratioBench) int4(out, in int) layers.Weight {
	f := kernels.Grouped{Rows: out, Cols: in, Bits: 4, Group: 32, ScaleType: kernels.BF16}
	return d.must(layers.NewGrouped(f, nil, func(dst layers.GroupedRows, _ int) error {
		fill(dst.Codes, d.codes)
		for i := 0; i < len(dst.Scales); i += 2 {
			dst.Scales[i], dst.Scales[i+1] = 0, 0x3c
		}
		return nil
	}))
}

// ofDensity returns a matrix of the largest rank, a multiple of 8, with which it has at most density of the bytes of the
// dense one.
func (d *ratioBench) ofDensity(kind string, out, in int, density float64) layers.Weight {
	m, n, budget := float64(out), float64(in), density*float64(out)*float64(in)
	if kind == "lowrank" {
		r := int(budget/(m+n)) / 8 * 8
		return d.must(lowrank.New(d.bf16(out, r), d.bf16(r, in)))
	}
	r := int((m+n-math.Sqrt((m+n)*(m+n)-4*budget))/2) / 8 * 8
	pivots := make([]int32, out)
	for i, row := range rand.New(rand.NewPCG(3, 4)).Perm(out) {
		pivots[i] = int32(row)
	}
	slices.Sort(pivots[:r])
	return d.must(lowrank.NewPIFA(pivots[:r], d.bf16(r, in), d.bf16(out-r, r)))
}

// copies returns bound layers of so many bytes.
func (d *ratioBench) copies(make func() layers.Weight) (all []layers.Linear, bytes int64) {
	for bytes < d.bytes {
		l, err := make().Bind(d.Arena, d.stream)
		if err != nil {
			d.Fatal(err)
		}
		all, bytes = append(all, l), bytes+l.Bytes()
	}
	return all, all[0].Bytes()
}

// turns times products of rows by a and b in turns.
func (d *ratioBench) turns(rows int, a, b func() layers.Weight) {
	as, aBytes := d.copies(a)
	bs, bBytes := d.copies(b)
	out, in := as[0].Dims()
	scratch, err := layers.NewScratch(d.Arena, int64(rows*(out+in)*4))
	if err != nil {
		d.Fatal(err)
	}
	p := layers.NewPass(d.stream, scratch)
	x, err := d.Alloc(rows, in, kernels.F32)
	if err != nil {
		d.Fatal(err)
	}
	for i := range rows {
		for j := range in {
			x.Float32s(i)[j] = float32((i+j)%13) - 6
		}
	}
	y, err := d.Alloc(rows, out, kernels.F32)
	if err != nil {
		d.Fatal(err)
	}
	fastest := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	for i := 0; d.Loop(); i++ {
		for j, l := range []layers.Linear{as[i%len(as)], bs[i%len(bs)]} {
			start := time.Now()
			l.Apply(p, y, x, kernels.Set)
			fastest[j] = min(fastest[j], time.Since(start))
		}
	}
	ratio, density := float64(fastest[1])/float64(fastest[0]), float64(bBytes)/float64(aBytes)
	d.ReportMetric(float64(fastest[0])/1e3, "µs-of-one")
	d.ReportMetric(float64(fastest[1])/1e3, "µs-of-other")
	d.ReportMetric(density, "density")
	d.ReportMetric(ratio, "ratio")
	d.ReportMetric(ratio/density, "ratio/density")
}
