package kerneltest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/kernels"
)

// types are what weights and caches may hold.
var types = []kernels.DType{kernels.F32, kernels.F16, kernels.BF16}

func testUpload(b *bench) {
	for _, t := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I32, kernels.U8} {
		for n := 1; n <= 33; n++ {
			b.reset()
			m := b.take(n, 34-n, t)
			src := make([]byte, m.Bytes())
			for i := range src {
				src[i] = byte(b.rand.Uint32())
			}
			b.Upload(m, src)
			if got := b.bytes(m); !bytes.Equal(got, src) {
				b.Fatalf("%d x %d %s come back as other bytes", n, 34-n, t)
			}
		}
	}
}

// testReset holds an arena that was reset to one made anew: it has as much room, and all of it is zero.
func testReset(b *bench) {
	all := bytes.Repeat([]byte{0xff}, int(b.mem.Bytes()))
	b.Upload(b.mem, all)
	b.sync()
	if err := b.arena.Reset(); err != nil {
		b.Fatal(err)
	}
	if used := b.arena.Used(); used != 0 {
		b.Fatalf("%d bytes are used after Reset", used)
	}
	var err error
	if b.mem, err = b.arena.Alloc(b.mem.Rows, b.mem.Cols, b.mem.Type); err != nil {
		b.Fatal(err)
	}
	b.stream.Download(all, b.mem)
	b.sync()
	if !bytes.Equal(all, make([]byte, len(all))) {
		i := slices.IndexFunc(all, func(v byte) bool { return v != 0 })
		b.Fatalf("byte %d is %#x after Reset", i, all[i])
	}
}

// shapes are rows by columns of the verbs that work on rows: small ones, and real ones unless -short.
func (b *bench) shapes() [][2]int {
	var s [][2]int
	for n := 1; n <= 33; n++ {
		s = append(s, [2]int{34 - n, n})
	}
	if !testing.Short() {
		s = append(s, [2]int{3, 576}, [2]int{5, 960}, [2]int{2, 4864}, [2]int{17, 2560})
	}
	return s
}

func testEmbed(b *bench) { lookups(b, b.Embed, types) }

func testGather(b *bench) { lookups(b, b.Gather, []kernels.DType{kernels.F32}) }

// lookups tests that rows are copied, widened without a change of value.
func lookups(b *bench, verb func(y, from, ids kernels.Mat), types []kernels.DType) {
	const most = 7
	for _, t := range types {
		for _, s := range b.shapes() {
			rows, cols := s[0], s[1]
			table := rounded(t, b.normal(most*cols))
			ids, want := make([]int32, rows), []float32(nil)
			for i := range ids {
				ids[i] = b.rand.Int32N(most)
				want = append(want, table[int(ids[i])*cols:][:cols]...)
			}
			b.each(fmt.Sprintf("%s, %d rows of %d", t, rows, cols), func(name string, f frame) {
				y := b.blank(f, rows, cols)
				verb(y.Mat, b.floats(f, most, cols, t, table).Mat, b.ints(ids).Mat)
				sameBits(b.T, name, b.read(y), want)
			})
		}
	}
}

// testScatter places columns beside others, which must stay as they are.
func testScatter(b *bench) {
	for _, s := range b.shapes() {
		rows, cols := s[0], s[1]
		for _, n := range []int{1, (cols + 1) / 2, cols} {
			at := make([]int32, n)
			for j, col := range b.rand.Perm(cols)[:n] {
				at[j] = int32(col)
			}
			x, old := b.normal(rows*n), b.normal(rows*cols)
			set, sum := slices.Clone(old), slices.Clone(old)
			for i, v := range x {
				set[i/n*cols+int(at[i%n])] = v
				sum[i/n*cols+int(at[i%n])] += v
			}
			b.each(fmt.Sprintf("%d rows, %d of %d columns", rows, n, cols), func(name string, f frame) {
				in := b.floats(f, rows, n, kernels.F32, x)
				places := b.place(packed, 1, n, kernels.I32, func(i int) uint32 { return uint32(at[i]) })
				for mode, want := range map[kernels.Mode][]float32{kernels.Set: set, kernels.Add: sum} {
					y := b.floats(f, rows, cols, kernels.F32, old)
					b.Scatter(y.Mat, in.Mat, places.Mat, mode)
					sameBits(b.T, fmt.Sprintf("%s, mode %d", name, mode), b.read(y), want)
				}
			})
		}
	}
	b.reset()
	x := b.normal(700 * 300) // in several chunks
	places := b.place(packed, 1, 300, kernels.I32, func(i int) uint32 { return uint32(299 - i) })
	y := b.blank(windowed, 700, 300)
	b.Scatter(y.Mat, b.floats(packed, 700, 300, kernels.F32, x).Mat, places.Mat, kernels.Set)
	for i, v := range b.read(y) {
		if want := x[i/300*300+299-i%300]; v != want {
			b.Fatalf("columns in reverse order: element (%d, %d) is %v, want %v", i/300, i%300, v, want)
		}
	}
}

func testBias(b *bench) {
	for _, s := range b.shapes() {
		old, bias := b.normal(s[0]*s[1]), b.normal(s[1])
		want := make([]float64, len(old))
		for i, v := range old {
			want[i] = float64(v) + float64(bias[i%s[1]])
		}
		b.each(fmt.Sprintf("%d x %d", s[0], s[1]), func(name string, f frame) {
			y := b.floats(f, s[0], s[1], kernels.F32, old)
			b.Bias(y.Mat, b.floats(f, 1, s[1], kernels.F32, bias).Mat)
			b.judge("Bias", kernels.F32, name, s[1], b.read(y), want)
		})
	}
}

func testRMSNorm(b *bench) {
	for i, s := range b.shapes() {
		rows, n := s[0], s[1]
		heads := 1
		if n <= 128 {
			heads += i % 4
		}
		x, gain := b.normal(rows*n*heads), b.normal(n)
		magnitude := float32(math.Pow(10, float64(i%5-2)))
		for j := range x {
			x[j] *= magnitude
		}
		const eps = 1e-5
		want := rmsNormReference(x, gain, eps)
		b.each(fmt.Sprintf("%d rows of %d times %d", rows, heads, n), func(name string, f frame) {
			y := b.blank(f, rows, n*heads)
			in, g := b.floats(f, rows, n*heads, kernels.F32, x), b.floats(f, 1, n, kernels.F32, gain)
			b.RMSNorm(y.Mat, in.Mat, g.Mat, eps)
			got := b.read(y)
			b.judge("RMSNorm", kernels.F32, name, n*heads, got, want)
			b.RMSNorm(in.Mat, in.Mat, g.Mat, eps)
			sameBits(b.T, name+", in place", b.read(in), got)
		})
	}
	// A row of zeros is saved by eps alone.
	b.reset()
	y := b.blank(packed, 2, 40)
	b.RMSNorm(y.Mat, b.floats(packed, 2, 40, kernels.F32, make([]float32, 80)).Mat, b.floats(packed, 1, 40, kernels.F32, b.normal(40)).Mat, 1e-6)
	b.judge("RMSNorm", kernels.F32, "zeros", 40, b.read(y), make([]float64, 80))
}

func testAngles(b *bench) {
	for half := 1; half <= 65; half++ {
		freqs := make([]float32, half)
		for i := range freqs {
			freqs[i] = float32(math.Pow(10000, -float64(i)/float64(half)))
		}
		pos := []int32{0, 1, 2, 77, 4095, int32(half), 131071, 1 << 20}[:1+half%8]
		for _, scale := range []float32{1, 1.2079} {
			want := anglesReference(pos, freqs, scale)
			b.each(fmt.Sprintf("%d frequencies, scale %v", half, scale), func(name string, f frame) {
				y := b.blank(f, len(pos), 2*half)
				b.Angles(y.Mat, b.ints(pos).Mat, b.floats(f, 1, half, kernels.F32, freqs).Mat, scale)
				b.judge("Angles", kernels.F32, name, 2*half, b.read(y), want)
			})
		}
	}
}

func testRotate(b *bench) {
	for half := 1; half <= 64; half++ {
		if half > 33 && half != 48 && half != 64 {
			continue
		}
		rows, heads := 1+half%3, 1+half%5
		for _, still := range []int{0, 1, 16} { // features of a head that do not turn
			width := 2*half + still
			x, angles := b.normal(rows*heads*width), b.normal(rows*2*half)
			want := rotateReference(x, angles, rows, heads)
			b.each(fmt.Sprintf("%d rows of %d heads, %d of %d features", rows, heads, 2*half, width), func(name string, f frame) {
				o := b.floats(f, rows, heads*width, kernels.F32, x)
				b.Rotate(o.Mat, b.floats(f, rows, 2*half, kernels.F32, angles).Mat, heads)
				b.judge("Rotate", kernels.F32, name, heads*width, b.read(o), want)
			})
		}
	}
}

func testSwiGLU(b *bench) {
	for _, s := range b.shapes() {
		gate, up := b.normal(s[0]*s[1]), b.normal(s[0]*s[1])
		for i := range gate {
			gate[i] *= 4
		}
		want := swiGLUReference(gate, up)
		b.each(fmt.Sprintf("%d x %d", s[0], s[1]), func(name string, f frame) {
			y := b.blank(f, s[0], s[1])
			g, u := b.floats(f, s[0], s[1], kernels.F32, gate), b.floats(f, s[0], s[1], kernels.F32, up)
			b.SwiGLU(y.Mat, g.Mat, u.Mat)
			got := b.read(y)
			b.judge("SwiGLU", kernels.F32, name, s[1], got, want)
			again := b.floats(f, s[0], s[1], kernels.F32, up)
			b.SwiGLU(again.Mat, g.Mat, again.Mat)
			sameBits(b.T, name+", y is up", b.read(again), got)
			b.SwiGLU(g.Mat, g.Mat, u.Mat)
			sameBits(b.T, name+", y is gate", b.read(g), got)
		})
	}
}

// testSwiGLUExtremes judges elements one by one: far from zero silu is 0 or its argument, and nothing between is lost
// in the sum of errors.
func testSwiGLUExtremes(b *bench) {
	var gate, up []float32
	for v := float32(-120); v <= 120; v += 0.37 {
		gate, up = append(gate, v), append(up, 1)
	}
	for _, v := range []float32{0, 1e-30, -1e-30, 1e-6, -1e-6, 3e38, -3e38, -87.3, -88, -88.8, -104} {
		gate, up = append(gate, v), append(up, 1)
	}
	y := b.blank(packed, 1, len(gate))
	b.SwiGLU(y.Mat, b.floats(packed, 1, len(gate), kernels.F32, gate).Mat, b.floats(packed, 1, len(gate), kernels.F32, up).Mat)
	want := swiGLUReference(gate, up)
	for i, got := range b.read(y) {
		// 1e-35: where the result nears the smallest normal number a device may flush it.
		if diff := math.Abs(float64(got) - want[i]); !(diff <= 1e-6*math.Abs(want[i])+1e-35) {
			b.Fatalf("silu(%v): got %v, want %v", gate[i], got, want[i])
		}
	}
}
